"""Runs as the rows of a table: seeds averaged, nothing mixed that differs in anything but the seed."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from cliptune.data.metrics import harmonic_mean
from cliptune.runs import read_config, read_result
from cliptune.runs.file_names import CONFIG_FILE, RESULT
from cliptune.runs.manifest import MARK, check_whole
from cliptune.runs.spec import BUDGET, PART, TUNING, RunSpec

AVERAGE = "average"
METRICS = ("accuracy", "macro_f1", "mean_per_class", "ece")
"""What an evaluation measures, in %."""
# What every data set has of its own, so that an average over several may mix it.
_OF_THE_DATA = ("template", "split", "descriptions", "target split", "target template", "target descriptions")
_OPTIONS_OF_THE_DATA = ("names",)
# A teacher's fingerprint, which follows the seed where each student has the teacher of its own seed.
_FINGERPRINT = re.compile(r" \([0-9a-f]{12}\)")
_COUNT = re.compile(r"(?<=chosen on )\d+ (?=validation images)")


@dataclass(frozen=True)
class Finished:
    """A finished run, as far as it was scored on one data set.

    Args:
        folder: where it lies.
        spec: what was run.
        data: name of the data set that was scored.
        learnables: values learned.
        scores: evaluation → what is tabulated, in %.
        settings: whatever else decides the numbers, as text by name: selection, split, precision, …
        caveats: what a reader of the numbers should know: how the epoch was chosen if not the last one, images or
            models from outside.
        trained_on: data set that it was trained on; "" if it is `data` itself.
        protocol: of such a transfer: "cross" or "domains"; "" if no protocol asked for it.
        metric: one of `METRICS`.
        spent: what the training took: "steps", "images", "seconds", "memory" and "cuda memory" in bytes; empty for runs
            of versions that did not count.
    """

    folder: Path
    spec: RunSpec
    data: str
    learnables: int
    scores: Mapping[str, float]
    settings: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    trained_on: str = ""
    protocol: str = ""
    metric: str = "accuracy"
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.spec.method

    @property
    def backbone(self) -> str:
        return self.spec.backbone

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def trained(self) -> str:
        """The classes that it was trained on: "all", "base" or "new"."""
        return self.spec.data.classes

    @property
    def shots(self) -> int | None:
        return self.spec.shots

    @property
    def share(self) -> str:
        """Of the training images, where a part was chosen, as in "10% herding"."""
        asked = self.spec.asked
        return f"{100 * asked['fraction']:g}% {asked['selection']}" if "fraction" in asked else ""

    @property
    def options(self) -> Mapping[str, str]:
        """Of the method, as text by name."""
        return {name: json.dumps(value) for name, value in self.spec.options.items()}


@dataclass
class Row:
    """Runs that differ in the seed alone.

    Args:
        data: data set, or "average" over several.
        method: with what tells this row from others of the same method, as in "coop (n_ctx=16)".
        shots, learnables: as in `Finished`; None where they differ, as in averages.
        seeds: ascending; of an average those that all its data sets have, () if they have different ones.
        scores: evaluation → % for each seed, in the order of `seeds`; for an average one value: the mean over data
            sets of the means over seeds.
        host: the method without the words in brackets.
        backbone, trained, share, options, settings: as in `Finished`.
        trained_on, protocol, metric: as in `Finished`.
        folders: of the runs, in the order of `seeds`.
        spent: as in `Finished`, the mean over the runs; without what is not known of each.
        members: of an average, the data sets; parts: their rows.
        over_seeds: of an average whose data sets have the same seeds, evaluation → mean over data sets for each seed.
        member_hms: of an average, their harmonic means.
        caveats: as in `Finished`.
        source, tag: of published numbers, where they stand and whether they were "read" there or "recalled".
        printed_hm: of published numbers, the harmonic mean as printed.
    """

    data: str
    method: str
    shots: int | None
    learnables: int | None
    seeds: tuple[int, ...]
    scores: dict[str, list[float]] = field(default_factory=dict)
    host: str = ""
    backbone: str = ""
    trained: str = ""
    trained_on: str = ""
    protocol: str = ""
    metric: str = "accuracy"
    share: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    # Where runs lie and what they took says nothing of whether two tables are the same.
    folders: tuple[Path, ...] = field(default=(), compare=False)
    spent: Mapping[str, float] = field(default_factory=dict, compare=False)
    members: tuple[str, ...] = ()
    parts: tuple[Row, ...] = ()
    over_seeds: dict[str, list[float]] = field(default_factory=dict)
    member_hms: tuple[float, ...] = ()
    caveats: tuple[str, ...] = ()
    source: str = ""
    tag: str = ""
    printed_hm: float | None = None

    @property
    def place(self) -> str:
        """The data set; for a transfer, where from and where to."""
        if not self.trained_on:
            return self.data
        many = f"average of {len(self.members)} {'domains' if self.protocol == 'domains' else 'targets'}"
        return f"{self.trained_on} → {many if self.data == AVERAGE else self.data}"

    @property
    def images(self) -> str:
        """What it learned from: images per class, "all", or the part that was chosen."""
        return self.share or ("all" if self.shots is None else str(self.shots))

    def mean(self, name: str) -> float | None:
        """Mean over seeds in %; None if it was not measured for each of them."""
        values = self.scores.get(name, [])
        expected = 1 if self.data == AVERAGE else max(1, len(self.seeds))
        return statistics.fmean(values) if values and len(values) == expected else None

    def std(self, name: str) -> float | None:
        """Population standard deviation over seeds (ddof 0), as the field reports it. Of an average it is that of the
        means over data sets, one for each seed; None if its data sets do not have the same seeds, two or more.
        """
        if self.data == AVERAGE:
            return statistics.pstdev(self.over_seeds[name]) if name in self.over_seeds else None
        return None if self.mean(name) is None else statistics.pstdev(self.scores[name])

    @property
    def harmonic_mean(self) -> float | None:
        """Of the averaged base and new accuracies, as the field reports it; of calibration errors there is none."""
        if self.printed_hm is not None:
            return self.printed_hm
        base, new = self.mean("base"), self.mean("new")
        return None if base is None or new is None or self.metric == "ece" else harmonic_mean(base, new)

    @property
    def mean_of_harmonic_means(self) -> float | None:
        """Average of the harmonic means of what the row averages: seeds, or for an average data sets."""
        if self.member_hms:
            return statistics.fmean(self.member_hms)
        if self.harmonic_mean is None or not self.seeds or self.data == AVERAGE:
            return None
        return statistics.fmean(map(harmonic_mean, self.scores["base"], self.scores["new"]))


def collect(folder: str | Path, metric: str = "accuracy", skipped: list[str] | None = None) -> list[Finished]:
    """All finished runs in and below a folder, sorted by path; of a transfer the source, then each target.

    Args:
        metric: what is tabulated, one of `METRICS`.
        skipped: takes a sentence for every run whose files are damaged, which is then left out; without it, that is an
            error.
    Raises: FileNotFoundError if there is none; ValueError if a run's files are damaged, or for an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"Table: metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"Runs folder {folder}: expected a folder with runs in it, found none. Check the path.")
    runs: list[Finished] = []
    for path in sorted(folder.glob(f"**/{RESULT}")):
        try:
            runs += _finished(path.parent, metric)
        except (ValueError, FileNotFoundError) as error:
            if skipped is None:
                raise
            skipped.append(str(error))
    if not runs and skipped:
        raise ValueError(f"Runs folder {folder}: all of its finished runs are damaged. {skipped[0]}")
    if not runs:
        started = len(list(folder.glob(f"**/{CONFIG_FILE}")))
        hint = f" {started} runs in it are not finished or were never scored." if started else ""
        raise FileNotFoundError(f"Runs folder {folder}: there is no finished run with a score in it.{hint}")
    return runs


def rows(runs: Iterable[Finished]) -> list[Row]:
    """Rows by data set and method; where more than one data set is complete, their average follows. What was trained on
    another data set comes after that, with averages of its own over its targets.

    Runs of the same method that differ in options, selection, split or backbone become rows of their own, named by
    what differs, so that no row silently mixes them. Students of different teachers of one kind are seeds of one row if
    each has the teacher of its own seed.

    Raises: ValueError if two runs differ in nothing, not even the seed.
    """
    groups: dict[tuple[Any, ...], list[Finished]] = {}
    for run in runs:
        groups.setdefault((*_kin(run), *_same(_of_any_teacher(run))), []).append(run)
    whole = []
    for group in groups.values():
        if len({run.seed for run in group}) == len(group):
            whole.append([_of_any_teacher(run) for run in group])
        else:
            apart: dict[tuple[Any, ...], list[Finished]] = {}
            for run in group:
                apart.setdefault(_same(run), []).append(run)
            whole += apart.values()
    made = []
    for group in whole:
        siblings = [other[0] for other in whole if _kin(other[0]) == _kin(group[0])]
        made.append(_row(group, _label(group[0].method, group[0], siblings)))
    made.sort(key=lambda row: row.data)
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in made:
        blocks.setdefault((row.trained_on, row.protocol), []).append(row)
    return [row for _, block in sorted(blocks.items()) for row in block + averages(block)]


def _same(run: Finished | Row, average: bool = False) -> tuple[Any, ...]:
    """What the seeds of one row, or the rows of one average, have in common; the options last."""
    kept = [
        tuple(sorted((name, value) for name, value in named.items() if not average or name not in own))
        for named, own in ((run.settings, _OF_THE_DATA), (run.options, _OPTIONS_OF_THE_DATA))
    ]
    return run.shots, run.share, run.trained, run.backbone, *kept


def _of_any_teacher(run: Finished) -> Finished:
    same = {k: _FINGERPRINT.sub("", v) if isinstance(v, str) else v for k, v in run.spec.options.items()}
    return replace(
        run, spec=replace(run.spec, options=same), caveats=tuple(_FINGERPRINT.sub("", words) for words in run.caveats)
    )


def _kin(run: Finished) -> tuple[str, ...]:
    """What rows have in common that are told apart by words in brackets."""
    return run.trained_on, run.protocol, run.data, run.method


def _finished(folder: Path, metric: str) -> list[Finished]:
    """The run in a folder, as `_entries` has it. Raises: ValueError if its files are damaged."""
    try:
        return _entries(folder, metric)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / RESULT} and {CONFIG_FILE} beside it do not hold what a finished run writes there "
            f"({type(error).__name__}: {error}). Put both files back, or make the run anew in another folder."
        ) from error


def _entries(folder: Path, metric: str) -> list[Finished]:
    """The run in a folder, once for its own data and once for each transfer; empty without scores or a data set, as
    for a converted checkpoint, and for a run that options were chosen by.
    """
    check_whole(folder)
    result = read_result(folder)
    if not isinstance(result, dict) or not result.get("evaluations") or not result.get("data"):
        return []
    if result.get("purpose") == TUNING:
        return []
    evaluations, data = result["evaluations"], result["data"]
    config = read_config(folder)
    sampling = data.get("sampling") or {}
    settings = {
        "select": result["flags"]["selection"],
        "precision": config["precision"],
        "accumulate": json.dumps(config.get("accumulate", 1)),
        "views": json.dumps(config.get("views")),
        "template": data["template"],
        "split": data["split_sha256"][:8],
        "descriptions": str(data.get("descriptions_sha256", ""))[:8],
        "weights": str(config["backbone"]["origin"].get("sha256", ""))[:8],
        "repeat": json.dumps(sampling.get("repeat", False)),
        **{name: json.dumps(sampling.get(name)) for name in PART[2:]},
        **{name: json.dumps(config[name]) for name in BUDGET if name in config},
    }
    run = Finished(
        folder,
        RunSpec.of(config, result),
        data["name"],
        result["learnables"],
        {name: numbers[metric] for name, numbers in evaluations.items() if "/" not in name},
        settings,
        (*caveats(result["flags"], data), *(() if MARK in result else ("made without a manifest, so unverified",))),
        metric=metric,
        spent=_spent(result.get("budget") or {}),
    )
    scores = {name: numbers[metric] for name, numbers in evaluations.items() if "/" in name}
    return [*([run] if run.scores else []), *_transfers(run, scores, result.get("targets") or {})]


def _transfers(run: Finished, scores: Mapping[str, float], notes: Mapping[str, Mapping[str, Any]]) -> list[Finished]:
    """The run on the data of its evaluations "DATA/test"; what no protocol asked for was scored by hand."""
    found: dict[tuple[str, ...], Finished] = {}
    for name, value in scores.items():
        place, _, part = name.rpartition("/")
        note = notes.get(name, {})
        settings = {
            **run.settings,
            "target split": str(note.get("split_sha256", ""))[:8],
            "target template": str(note.get("template", "")),
            "target descriptions": str(note.get("descriptions_sha256", ""))[:8],
        }
        for protocol in note.get("protocols") or [""]:
            key = (place, protocol, *settings.values())
            known = found[key].scores if key in found else {}
            found[key] = replace(
                run,
                data=place,
                trained_on=run.data,
                protocol=protocol,
                scores={**known, part: value},
                settings=settings,
            )
    return list(found.values())


def _spent(budget: Mapping[str, Any]) -> dict[str, float]:
    memory = budget.get("peak_memory_bytes") or {}
    kinds = {"memory": memory.get("resident"), "cuda memory": memory.get("cuda")}
    known = {name: budget.get(name) for name in ("steps", "images", "seconds")} | kinds
    return {name: value for name, value in known.items() if value is not None}


def _mean_spent(spent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of what is known of all."""
    return {
        name: statistics.fmean(one[name] for one in spent)
        for name in (spent[0] if spent else ())
        if all(name in one for one in spent)
    }


def caveats(flags: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a number other than plain, from the flags and the data of a run's result."""
    words = ["not the field's split"] if data.get("own_split") else []
    if flags.get("selection", "last") != "last":
        chosen = {"oracle": "test images", "val": "validation images"}.get(flags["selection"], flags["selection"])
        words.append(f"epoch chosen on {chosen}")
    if flags.get("validation_images"):
        words += _of_validation(flags["validation_images"])
    if flags.get("tuned"):
        tuned = flags["tuned"]
        seeds = ", ".join(map(str, tuned["seeds"]))
        many = "s" if len(tuned["seeds"]) > 1 else ""
        words.append(f"{' and '.join(tuned['options'])} tuned on seed{many} {seeds} ({tuned['chosen_on']})")
    if flags.get("method_chosen"):
        chosen = flags["method_chosen"]
        words.append(f"method chosen by {chosen['folds']}-fold cross-validation among {chosen['among']}")
    for narrow in flags.get("narrow") or ():
        words.append(f"{narrow['option']}={narrow['used']:g} where {narrow['works']:g} worked on narrow towers")
    if flags.get("views") is not None:
        words.append(f"{flags['views']} augmented views per image, used again")
    if flags.get("augmentation") is False:
        words.append("no augmentation")
    if flags.get("extra_images"):
        words.append("images beyond the shots")
    if flags.get("unlabelled_test_images"):
        seen = flags["unlabelled_test_images"]
        words.append("transductive" if seen is True else f"sees unlabelled test images {seen}")
    models = [str(model) for model in flags.get("external_models") or ()]
    return (*words, *(["external: " + ", ".join(models)] if models else []))


def _of_validation(flag: str | Mapping[str, Any]) -> list[str]:
    """What was chosen on validation images, and on how many; earlier versions wrote words. Values differ by seed."""
    if isinstance(flag, str):
        return [f"validation images {flag}"]
    return [f"{' and '.join(flag['chose'])} chosen on {flag['images']} validation images"] if flag["images"] else []


def _label(
    method: str,
    run: Finished | Row,
    siblings: Sequence[Finished | Row],
    but: Sequence[str] = (),
    but_options: Sequence[str] = (),
) -> str:
    """The method, and in brackets what differs among rows that have it in common, save the settings and options named.

    The classes whose texts a student keeps are told only where nothing else differs: there are many.
    """
    words = []
    if len({other.backbone for other in siblings}) > 1:
        words.append(run.backbone)
    if len({other.trained for other in siblings}) > 1:
        words.append(f"{run.trained} classes")
    last: list[str] = []
    for kind, left_out in (("options", but_options), ("settings", but)):
        of = attrgetter(kind)
        for name in dict.fromkeys(name for other in siblings for name in of(other) if name not in left_out):
            if len({of(other).get(name) for other in siblings}) > 1:
                told = f"{name}={_brief(of(run).get(name, 'none'))}"
                (last if name in _OPTIONS_OF_THE_DATA else words).append(told)
    words = words or last
    return f"{method} ({', '.join(words)})" if words else method


def _brief(value: str) -> str:
    """A value, or the beginning of a long one with a hash that tells it from others."""
    return value if len(value) <= 60 else f"{value[:20]}… {hashlib.sha256(value.encode()).hexdigest()[:6]}"


def _row(group: Sequence[Finished], label: str) -> Row:
    group = sorted(group, key=lambda run: run.seed)
    for one, other in pairwise(group):
        if one.seed == other.seed:
            raise ValueError(
                f"Table: {one.folder} and {other.folder} are the same run ({label} on {one.data}, seed {one.seed}). "
                "Remove one, or give a folder that holds only one of them."
            )
    first = group[0]
    seeds = tuple(run.seed for run in group)
    learnables = first.learnables if len({run.learnables for run in group}) == 1 else None
    row = Row(
        first.data,
        label,
        first.shots,
        learnables,
        seeds,
        host=first.method,
        backbone=first.backbone,
        trained=first.trained,
        trained_on=first.trained_on,
        protocol=first.protocol,
        metric=first.metric,
        share=first.share,
        options=first.options,
        settings=first.settings,
        folders=tuple(run.folder for run in group),
        spent=_mean_spent([run.spent for run in group]),
        caveats=tuple(dict.fromkeys(words for run in group for words in run.caveats)),
    )
    for name in dict.fromkeys(name for run in group for name in run.scores):
        row.scores[name] = [run.scores[name] for run in group if name in run.scores]
    return row


def without_count(caveat: str) -> str:
    """A caveat without the number of validation images, which differs by data set and number of shots."""
    return _COUNT.sub("", caveat)


def averages(made: Sequence[Row]) -> list[Row]:
    """The mean over data sets, for each method that has all of them; base classes and whole data sets apart. Rows that
    differ in more than their data set, as in selection, backbone or shots, are never averaged; where only a method's
    options do, as in recipes per data set, the average says so. What no protocol asked for has none.
    """
    if any(row.trained_on and not row.protocol for row in made):
        return []
    kinds = dict.fromkeys(row.trained for row in made)
    return [one for kind in kinds for one in _averages([row for row in made if row.trained == kind])]


def _averages(made: Sequence[Row]) -> list[Row]:
    """Of rows that were all trained on base classes, or all on the whole."""
    sets = list(dict.fromkeys(row.data for row in made))
    if len(sets) < 2:
        return []
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in made:
        alike.setdefault((row.host, *_same(row, average=True)), []).append(row)
    has_each_once = lambda own: sorted(row.data for row in own) == sorted(sets)
    whole = [own for own in alike.values() if has_each_once(own)]
    apart: dict[tuple[Any, ...], list[Row]] = {}
    for own in alike.values():
        if not has_each_once(own):
            apart.setdefault((own[0].host, *_same(own[0], average=True)[:-1]), []).extend(own)
    whole += [own for own in apart.values() if has_each_once(own)]
    return [_average(own, [other[0] for other in whole if other[0].host == own[0].host]) for own in whole]


def _average(own: Sequence[Row], siblings: Sequence[Row]) -> Row:
    """Over the rows of one method, one per data set; its label tells it from its siblings."""
    caveats = dict.fromkeys(without_count(words) for row in own for words in row.caveats)
    names = dict.fromkeys(name for row in own for name in row.options)
    mixed = [name for name in names if len({row.options.get(name) for row in own}) > 1]
    label = _label(own[0].host, own[0], siblings, _OF_THE_DATA, (*mixed, *_OPTIONS_OF_THE_DATA))
    options = [name for name in mixed if name not in _OPTIONS_OF_THE_DATA]
    if options:
        caveats[f"{', '.join(options)} set by data set"] = None
    seeds = own[0].seeds if len({row.seeds for row in own}) == 1 else ()
    if not seeds and any(row.seeds for row in own):
        caveats["seeds differ by data set"] = None
    average = replace(own[0], data=AVERAGE, method=label, learnables=None, seeds=seeds, scores={}, over_seeds={})
    average.spent = _mean_spent([row.spent for row in own])
    average.members, average.parts, average.folders = tuple(row.data for row in own), tuple(own), ()
    hms = [row.harmonic_mean for row in own]
    average.member_hms = tuple(hm for hm in hms if hm is not None) if None not in hms else ()
    average.caveats = tuple(caveats)
    for name in own[0].scores:
        means = [row.mean(name) for row in own]
        if all(mean is not None for mean in means):
            average.scores[name] = [statistics.fmean(mean for mean in means if mean is not None)]
            if len(seeds) > 1:
                by_seed = zip(*(row.scores[name] for row in own), strict=True)
                average.over_seeds[name] = [statistics.fmean(values) for values in by_seed]
    return average

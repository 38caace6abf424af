"""Runs as the rows of a table: seeds averaged, nothing mixed that differs in anything but the seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from cliptune.data.metrics import harmonic_mean
from cliptune.training import read_config
from cliptune.training.run_folder import CONFIG_FILE, RESULT

AVERAGE = "average"


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Args:
        folder: where it lies.
        method, data, backbone: names.
        seed: of the run.
        trained: "all", "base" or "new": the classes it was trained on.
        shots: images per class; None for all.
        learnables: values learned.
        scores: evaluation → accuracy in %.
        settings: whatever else decides the numbers, as text by name: options, selection, split, precision, …
        caveats: what a reader of the numbers should know: how the epoch was chosen if not the last one, images or
            models from outside.
    """

    folder: Path
    method: str
    data: str
    backbone: str
    seed: int
    trained: str
    shots: int | None
    learnables: int
    scores: Mapping[str, float]
    settings: Mapping[str, str]
    caveats: tuple[str, ...] = ()


@dataclass
class Row:
    """Runs that differ in the seed alone.

    Args:
        data: data set, or "average" over several.
        method: with what tells this row from others of the same method, as in "coop (n_ctx=16)".
        shots, learnables: as in `Finished`; None where they differ, as in averages.
        seeds: ascending.
        scores: evaluation → accuracy in % for each seed, in the order of `seeds`; for an average one value: the mean
            over data sets of the means over seeds.
        host: the method without the words in brackets.
        backbone, trained: as in `Finished`.
        members: of an average, the data sets.
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
    members: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    source: str = ""
    tag: str = ""
    printed_hm: float | None = None

    def mean(self, name: str) -> float | None:
        """Mean over seeds in %; None if it was not measured for each of them."""
        values = self.scores.get(name, [])
        return statistics.fmean(values) if values and len(values) == max(1, len(self.seeds)) else None

    def std(self, name: str) -> float | None:
        """Population standard deviation over seeds (ddof 0), as the field reports it; None for an average."""
        return None if self.data == AVERAGE or self.mean(name) is None else statistics.pstdev(self.scores[name])

    @property
    def harmonic_mean(self) -> float | None:
        """Of the averaged base and new accuracies, as the field reports it (not the mean of harmonic means)."""
        if self.printed_hm is not None:
            return self.printed_hm
        base, new = self.mean("base"), self.mean("new")
        return None if base is None or new is None else harmonic_mean(base, new)


def collect(folder: str | Path) -> list[Finished]:
    """All finished runs in and below a folder, sorted by path.

    Raises: FileNotFoundError if there is none; ValueError if a result is not readable.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"Runs folder {folder}: expected a folder with runs in it, found none. Check the path.")
    found = [_finished(path.parent) for path in sorted(folder.glob(f"**/{RESULT}"))]
    runs = [run for run in found if run is not None]
    if not runs:
        started = len(list(folder.glob(f"**/{CONFIG_FILE}")))
        hint = f" {started} runs in it are not finished or were never scored." if started else ""
        raise FileNotFoundError(f"Runs folder {folder}: there is no finished run with a score in it.{hint}")
    return runs


def rows(runs: Iterable[Finished]) -> list[Row]:
    """Rows by data set and method; where more than one data set is complete, their average follows.

    Runs of the same method that differ in options, selection, split or backbone become rows of their own, named by
    what differs, so that no row silently mixes them.

    Raises: ValueError if two runs differ in nothing, not even the seed.
    """
    groups: dict[tuple[Any, ...], list[Finished]] = {}
    for run in runs:
        key = (run.data, run.method, run.shots, run.trained, run.backbone, tuple(sorted(run.settings.items())))
        groups.setdefault(key, []).append(run)
    made = []
    for key, group in groups.items():
        siblings = [other[0] for other in groups.values() if (other[0].data, other[0].method) == key[:2]]
        made.append(_row(group, _label(group[0], siblings)))
    made.sort(key=lambda row: row.data)
    return made + averages(made)


def _finished(folder: Path) -> Finished | None:
    """The run in a folder, or None if it has no scores or no data set (a converted checkpoint)."""
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}. Remove the folder or train the run anew.") from error
    evaluations = result.get("evaluations") if isinstance(result, dict) else None
    data = result.get("data") if isinstance(result, dict) else None
    if not evaluations or not data:
        return None
    config = read_config(folder)
    sampling = data.get("sampling") or {}
    settings = {f"{name}": json.dumps(value) for name, value in (config.get("options") or {}).items()}
    settings |= {
        "select": result["flags"]["selection"],
        "precision": config["precision"],
        "views": json.dumps(config.get("views")),
        "template": data["template"],
        "split": data["split_sha256"][:8],
        "weights": str(config["backbone"]["origin"].get("sha256", ""))[:8],
        "repeat": json.dumps(sampling.get("repeat", False)),
        "fraction": json.dumps(sampling.get("fraction")),
        "kept by": json.dumps(sampling.get("selection")),
    }
    return Finished(
        folder,
        result["method"],
        data["name"],
        result["backbone"],
        result["seed"],
        data["classes"],
        sampling.get("shots"),
        result["learnables"],
        {name: numbers["accuracy"] for name, numbers in evaluations.items()},
        settings,
        _caveats(result["flags"]),
    )


def _caveats(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a number other than plain, from the flags of a run's result."""
    words = []
    if flags.get("selection", "last") != "last":
        chosen = {"oracle": "test images", "val": "validation images"}.get(flags["selection"], flags["selection"])
        words.append(f"epoch chosen on {chosen}")
    if flags.get("extra_images"):
        words.append("images beyond the shots")
    if flags.get("unlabelled_test_images"):
        words.append("transductive")
    models = [str(model) for model in flags.get("external_models") or ()]
    return (*words, *(["external: " + ", ".join(models)] if models else []))


def _label(run: Finished, siblings: Sequence[Finished]) -> str:
    """The method, and in brackets what differs among the rows of this method and data set."""
    words = []
    if len({other.backbone for other in siblings}) > 1:
        words.append(run.backbone)
    if len({other.trained for other in siblings}) > 1:
        words.append(f"{run.trained} classes")
    names = dict.fromkeys(name for other in siblings for name in other.settings)
    for name in names:
        if len({other.settings.get(name) for other in siblings}) > 1:
            words.append(f"{name}={run.settings.get(name, 'none')}")
    return f"{run.method} ({', '.join(words)})" if words else run.method


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
        caveats=tuple(dict.fromkeys(words for run in group for words in run.caveats)),
    )
    for name in dict.fromkeys(name for run in group for name in run.scores):
        row.scores[name] = [run.scores[name] for run in group if name in run.scores]
    return row


def averages(made: Sequence[Row]) -> list[Row]:
    """For each method and number of shots that has every data set: the mean over them."""
    sets = list(dict.fromkeys(row.data for row in made))
    if len(sets) < 2:
        return []
    averages = []
    for method, shots in dict.fromkeys((row.method, row.shots) for row in made):
        own = [row for row in made if (row.method, row.shots) == (method, shots)]
        if len(own) != len(sets):
            continue
        average = replace(own[0], data=AVERAGE, learnables=None, seeds=(), scores={}, members=tuple(sets))
        average.caveats = tuple(dict.fromkeys(words for row in own for words in row.caveats))
        for name in own[0].scores:
            means = [row.mean(name) for row in own]
            if all(mean is not None for mean in means):
                average.scores[name] = [statistics.fmean(mean for mean in means if mean is not None)]
        averages.append(average)
    return averages

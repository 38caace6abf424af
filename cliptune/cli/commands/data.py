"""`cliptune data`: what data sets there are, what is wrong with them, and how a folder would be split."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

from cliptune.cli.shared.inputs import describe_data, notes_said_once, open_data
from cliptune.cli.shared.options import Flag, ListOptions
from cliptune.cli.shared.output import count, say, show_json, table

if TYPE_CHECKING:
    from cliptune.data import Dataset
    from cliptune.data.published.check import Check
    from cliptune.doctor.findings import Diagnosis
    from cliptune.training.progress import Progress

app = App(
    name="data",
    help="What data sets there are, whether yours are complete, and splits of your own.",
    help_format="plaintext",
    sort_key=99,
)


def list_() -> None:
    """List the data sets that can be asked for by name."""
    from cliptune.data import list_data
    from cliptune.data.published.facts import groups_of_data

    table(["name", "what it is"], [[row["name"], row["summary"]] for row in list_data()], left=2)
    say("Besides names: a folder of class folders, a list, or what another tool exported; see docs/formats.md.")
    for group in groups_of_data().values():
        say(f"{group.name}: {group.summary} ({', '.join(group.members)}).")


def check(
    name: str,
    /,
    *,
    root: str | None = None,
    decode: bool = True,
    threads: int = 2,
    json: bool = False,
    lists: ListOptions = ListOptions(),
) -> None:
    """Say what of a data set is there, missing or corrupt; of a published one, also how its counts compare.

    Ends with exit code 2 if something is missing or corrupt. Nothing is written.

    Parameters
    ----------
    name
        A name of `cliptune data list`, or a group such as all11; or data of your own, as in `cliptune fit`.
    root
        The folder that holds the data sets, or that the paths of a list are relative to.
    decode
        Decode every picture once, which takes minutes for large sets; --no-decode only looks that it is there.
    threads
        Pictures decoded at a time.
    json
        Print the outcome as JSON.
    """
    from cliptune.data.catalog import data_group
    from cliptune.data.published.check import check_published

    if _is_own(name, root):
        _check_own(name, root, lists, decode=decode, threads=threads, json=json)
        return
    if root is None:
        raise ValueError(f"cliptune data check {name}: give the folder that holds the data sets, --root FOLDER.")
    checks: list[Check] = []
    for member in data_group(name):
        with _stages(shown=decode and not json) as stage:
            shown = partial(stage, f"{member}: pictures")
            checks.append(check_published(member, root, decode=decode, threads=threads, progress=shown))
        if not json:
            _show_check(checks[-1])
    if json:
        show_json([{**asdict(each), "usable": each.usable, "as_published": each.as_published} for each in checks])
    faulty = [each.name for each in checks if not each.usable]
    if faulty:
        hint = "" if len(faulty) > 1 else f" {faulty[0]}"
        raise ValueError(
            f"Not complete: {', '.join(faulty)}. `cliptune data plan{hint or ' NAME'} --root {root}` says where to get "
            "what and where it goes."
        )


def _is_own(name: str, root: str | None) -> bool:
    """Whether a path is meant, and no published data set or group of them."""
    from cliptune.data.catalog import data_group, is_named

    return data_group(name) == [name] and not is_named(name, root) and Path(name).expanduser().exists()


def _check_own(name: str, root: str | None, lists: ListOptions, *, decode: bool, threads: int, json: bool) -> None:
    """What was read of one's own data, and which of its pictures cannot be decoded."""
    from cliptune.data import DataSpec
    from cliptune.data.items import SPLITS

    dataset = open_data(DataSpec.found(name, root, **lists.given))
    with _stages(shown=decode and not json) as stage:
        faults = [
            fault
            for split in SPLITS
            for fault in (dataset[split].unreadable(threads, partial(stage, f"{split}: pictures")) if decode else [])
        ]
    if json:
        show_json(_as_plain(dataset, faults))
    else:
        describe_data(dataset)
        table(["class", *SPLITS], _counts(dataset))
        say(*(f"  corrupt: {fault}" for fault in faults))
    if faults:
        raise ValueError(f"{count(len(faults), 'picture')} of {dataset.name} cannot be read.")


def _counts(dataset: Dataset) -> list[list[str]]:
    from cliptune.data.items import SPLITS

    counts = {split: dataset[split].count() for split in SPLITS}
    return [
        [name, *(f"{counts[split].get(label, 0):,}" for split in SPLITS)]
        for label, name in enumerate(dataset.class_names)
    ]


def _as_plain(dataset: Dataset, faults: list[str]) -> dict[str, object]:
    from cliptune.data.items import SPLITS

    return {
        "name": dataset.name,
        "classes": list(dataset.class_names),
        "images": {split: len(dataset[split]) for split in SPLITS},
        "notes": list(dataset.notes),
        "corrupt": faults,
        "usable": not faults,
    }


def _show_check(check: Check) -> None:
    say(check.name)
    say(*(f"  {finding.state}: {finding.text}" for finding in check.findings))
    if check.modes:
        say("  decoded: " + ", ".join(f"{n:,} {mode}" for mode, n in check.modes.items()))
    if check.counts:
        numbers = [
            [each.what, _number(each.found), _number(each.known), "" if each.agrees else "differs"]
            for each in check.counts
        ]
        table(["", "found", "known", ""], numbers)
    if check.as_published:
        say("  All that is known of the published data set agrees.")


def _number(value: int | str | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else value


def doctor(
    path: str,
    /,
    *,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    nested: Literal["leaf", "top"] | None = None,
    backbone: str = "mini",
    labels: bool = True,
    near: int | None = None,
    threads: int = 2,
    examples: int = 3,
    json: Flag = False,
    strict: Flag = False,
    lists: ListOptions = ListOptions(),
) -> int:
    """Say what is wrong with your pictures: unread, doubled, blank, oddly named or wrongly labelled ones.

    Errors stop a training or falsify its numbers, warnings cost something, hints are worth a look. Nothing is changed.

    Parameters
    ----------
    path
        As in `cliptune fit`, or the name of a data set.
    root
        Where named data lie, or the folder that the paths of a list are relative to.
    source
        Of named data, as in `cliptune train`: coop or torchvision.
    nested
        Where class folders hold folders: top, the upper ones are the classes (usual); or leaf, the lowest ones are.
    backbone
        Whose features judge the labels: mini, which is fast and weak on photographs, or as in `cliptune fit`.
    labels
        Look for pictures that probably belong to another class; --no-labels saves half the time.
    near
        Bits of 64 in which the perceptual hashes of pictures that look alike may differ (6).
    threads
        Pictures decoded at a time.
    examples
        Cases shown of each finding; --json has all.
    json
        Print everything as JSON.
    strict
        End with exit code 1 if there is an error or a warning.
    """
    from cliptune.clip.weights.load import load_clip
    from cliptune.data import DataSpec
    from cliptune.doctor.examination import examine
    from cliptune.doctor.looks import NEAR

    dataset = open_data(DataSpec.found(path, root, source, nested=nested, **lists.given))
    clip = load_clip(backbone) if labels else None
    with _stages(shown=not json) as progress:
        found = examine(dataset, clip, near=NEAR if near is None else near, threads=threads, progress=progress)
    if json:
        show_json({**found.plain(), "notes": list(dataset.notes)})
    else:
        describe_data(dataset)
        _show_diagnosis(found, max(0, examples))
    return int(strict and not found.healthy)


def _show_diagnosis(found: Diagnosis, examples: int) -> None:
    from cliptune.doctor.findings import SEVERITIES

    sizes = {name: sum(splits.values()) for name, splits in found.classes.items()}
    if sizes:
        least, most = (choice(sizes, key=lambda name: sizes[name]) for choice in (min, max))
        each = f"from {sizes[least]:,} pictures ({least!r}) to {sizes[most]:,} ({most!r})"
        say(f"Classes: {each if sizes[least] < sizes[most] else count(sizes[most], 'picture') + ' each'}.")
    for severity in SEVERITIES:
        of_it = [finding for finding in found.findings if finding.severity == severity]
        if of_it:
            say("", f"{severity.capitalize()}s:")
        for finding in of_it:
            say(f"  {finding.kind} ({finding.count:,}): {finding.text}")
            say(*(f"      {case}" for case in finding.cases[:examples]))
            if finding.count > examples:
                say(f"      and {finding.count - examples:,} more")
    if not found.findings:
        say("", "Nothing was found.")
    say("", *found.looked)


@contextmanager
def _stages(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Progress of one stage after the other: a bar on a terminal, a line now and then elsewhere."""
    from cliptune.training.progress import open_progress

    stages: dict[str, Progress] = {}
    told: dict[str, int] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            close()
            stages[stage] = open_progress(None if shown else "silent")
            stages[stage].start(total, 0)
        for _ in range(done - told.get(stage, 0)):
            stages[stage].advance(stage)
        told[stage] = done

    def close() -> None:
        for stage in stages.values():
            stage.close()

    try:
        yield advance
    finally:
        close()


def plan(name: str, /, *, root: str | None = None, json: bool = False) -> None:
    """Say where to get a published data set and what goes where. Nothing is downloaded.

    Parameters
    ----------
    name
        A name of `cliptune data list`, or a group such as all11.
    root
        The folder that holds, or will hold, the data sets: what is there already is marked.
    json
        Print the steps as JSON.
    """
    from cliptune.data.catalog import data_group
    from cliptune.data.published.plan import plan_published

    plans = {member: plan_published(member, root) for member in data_group(name)}
    if json:
        show_json({member: [asdict(step) for step in steps] for member, steps in plans.items()})
        return
    for member, steps in plans.items():
        missing = sum(step.present is False and step.optional is None for step in steps)
        state = "" if root is None else " (complete)" if not missing else f" ({count(missing, 'part')} to fetch)"
        say(f"{member}{state}")
        for i, step in enumerate(steps, start=1):
            mark = "" if step.present is None else " [there]" if step.present else " [to fetch]"
            wanted = f" ({step.optional})" if step.optional else ""
            say(f"  {i}. {step.what}{wanted}{mark}", f"     from {step.origin}", f"     to   {step.target}")
    say("The addresses are as published and are not tried from here.")
    if root is not None:
        say(f"Then: cliptune data check {shlex.quote(name)} --root {shlex.quote(root)}")


def split(
    folder: str,
    /,
    *,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    nested: Literal["leaf", "top"] | None = None,
    shots: int | None = None,
    seed: int = 1,
    split_seed: int | None = None,
    make_split: bool = False,
    out: str | None = None,
    lists: ListOptions = ListOptions(),
) -> None:
    """Write the split of your own images to a file, in the field's JSON format, to keep or to share.

    Parameters
    ----------
    folder
        As in `cliptune fit`, or the name of a published data set.
    root
        Where named data lie.
    source
        Of named data, as in `cliptune train`: coop or torchvision.
    nested
        Where class folders hold folders: top, the upper ones are the classes (usual); or leaf, the lowest ones are.
    shots
        Keep only so many training images per class, and at most 4 for validation: the field's picks for the seed.
    seed
        Of these picks.
    split_seed
        Of the split itself, where the images are not split yet (1).
    make_split
        Split a published data set whose split file is missing; numbers on it are not comparable with published ones.
    out
        The file; FOLDER/split_NAME.json if left out, for named data ./split_NAME.json.
    """
    from cliptune.data import DataSpec
    from cliptune.data import make_split as split_content
    from cliptune.files import atomic_write_text

    asked = {"split_seed": split_seed, "make_split": make_split or None, "nested": nested, **lists.given}
    dataset = open_data(DataSpec.found(folder, root, source, **asked))
    if dataset.root is None:
        raise ValueError(f"{dataset.name} has no files of pictures that a split file could list.")
    with notes_said_once():
        chosen = dataset if shots is None else dataset.few_shot(shots, seed)
    describe_data(chosen)
    content = json.dumps(split_content(chosen), ensure_ascii=False, indent=1) + "\n"
    images = dataset.root
    picked = "" if shots is None else f"_{shots}shots_seed{seed}"
    beside = images if root is None else Path()
    target = Path(out).expanduser() if out is not None else beside / f"split_{dataset.name}{picked}.json"
    if target.exists() and target.read_text(encoding="utf-8", errors="replace") != content:
        raise ValueError(f"{target} holds something else already. Give another file: --out FILE.")
    atomic_write_text(target, content)
    file = shlex.quote(str(target))
    if root is None or source != "coop":
        where = "" if target.parent.resolve() == images.resolve() else f" --root {shlex.quote(str(images))}"
        command = f"cliptune fit {file}{where} --method coop --out out/"
    else:
        command = f"cliptune train --method coop --data {folder} --root {shlex.quote(root)} --split {file}"
    say(
        f"Written to {target}; its paths are relative to {images}.",
        "Train on it:",
        f"  {command}",
    )

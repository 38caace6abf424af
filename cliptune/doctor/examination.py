"""Everything that can be wrong with a data set, looked at in turn; and the part of it that is cheap."""

from __future__ import annotations

from dataclasses import replace

from cliptune.clip.model import CLIP
from cliptune.data.images import ImageError
from cliptune.data.items import SPLITS, Dataset
from cliptune.doctor.duplicates import Place, equal_files, findings_on, places_of
from cliptune.doctor.findings import ERROR, HINT, WARNING, Diagnosis, Finding, ordered
from cliptune.doctor.labels import doubted
from cliptune.doctor.looks import INSTALL, MOST_CUT, NEAR, STRICTER, cuts_are_compared, perceptual
from cliptune.doctor.names import on_names
from cliptune.doctor.pictures import (
    Progress,
    Seen,
    broken,
    decode_all,
    findings_of,
    undecodable_here,
    unread,
)
from cliptune.features import FeatureStore
from cliptune.noted import once

UNEVEN = 10
"""Ratio of the largest to the smallest class from which the classes are called uneven."""


def examine(
    data: Dataset,
    clip: CLIP | None = None,
    *,
    near: int = NEAR,
    threads: int = 2,
    progress: Progress | None = None,
    store: FeatureStore | bool = True,
) -> Diagnosis:
    """Look for everything that is wrong with a data set, without changing anything.

    Every picture is decoded once, and with `clip` a second time; none is kept, but some 700 bytes about each.

    Args:
        data: whole, of files; of pictures in memory only labels, classes and looks are examined.
        clip: whose image features judge the labels; None leaves the labels alone.
        near: bits of 64 in which the perceptual hashes of pictures that look alike may differ, 0 … 16.
        threads: pictures decoded at a time.
        progress: called with (what is done, so many, of how many).
        store: where image features are looked up and added, as in `fit`.
    Returns: findings by severity, with all their cases.
    Raises: ValueError for `near` out of range.
    """
    if not 0 <= near <= 16:
        raise ValueError(f"doctor: near must be from 0 to 16 bits, got {near}. The default is {NEAR}.")
    places = [(split, i) for split in SPLITS for i in range(len(data[split]))]
    same = equal_files(data)
    seen = decode_all(data, places, threads=threads, progress=progress)
    found = [*_on_classes(data), *unread(data), *broken(data, seen), *findings_of(seen, data, same, near)]
    found += on_names(data.class_names, data.template)
    looked = [_on_looks(near, len(seen.places))]
    if clip is not None:
        doubts = doubted(data, _one_of_each(seen), clip, progress=progress, store=store)
        found += [] if doubts.finding is None else [doubts.finding]
        looked += doubts.looked
    counts = {split: data[split].count() for split in SPLITS}
    per_class = {_name(data, c): {s: counts[s].get(c, 0) for s in SPLITS} for c in range(len(data.class_names))}
    return Diagnosis(
        data.name,
        None if data.root is None else str(data.root),
        {split: len(data[split]) for split in SPLITS},
        per_class,
        ordered(found),
        tuple(looked),
    )


def quick(data: Dataset, *, strict: bool = False) -> Dataset:
    """The cheap part, before training: files of equal bytes, decoders that are missing, files that are not read.

    Nothing is decoded; of each file its first bytes are read, and of files of one size more.

    Args:
        data: what a run uses of a data set, sampled and cut.
        strict: refuse what is found; otherwise it is noted.
    Returns: the data set, with a sentence in its notes for each thing that was found.
    Raises: ImageError naming pictures whose decoder is missing; ValueError if `strict` and something was found.
    """
    closed = undecodable_here(data, places_of(data))
    if closed:
        raise ImageError(" ".join(finding.told(20) for finding in closed))
    found = [finding for finding in findings_on(data, equal_files(data)) if finding.severity == ERROR]
    if strict and (refused := [*found, *unread(data)]):
        said = " ".join(finding.told() for finding in refused)
        raise ValueError(f"{data.name}: {said} `cliptune data doctor` lists all; without --strict it is noted.")
    return replace(data, notes=once(data.notes, (f"{data.name}: {finding.told(2)}" for finding in found)))


def _on_classes(data: Dataset) -> list[Finding]:
    """Too few classes, classes of few pictures, classes of very different size."""
    counts = data.train.count()
    sizes = {_name(data, c): counts.get(c, 0) for c in range(len(data.class_names))}
    found = []
    if len(sizes) < 2:
        said = "There is one class alone, and nothing to tell it from. Add a class of what it is not."
        found.append(Finding("one_class", ERROR, said, tuple(sizes)))
    few = tuple(f"{name}: {n}" for name, n in sizes.items() if n < 2)
    if few:
        found.append(Finding("few_pictures", WARNING, "Classes have fewer than two pictures to train on.", few))
    most, least = max(sizes.values(), default=0), min(sizes.values(), default=0)
    if least and most >= UNEVEN * least:
        ends = sorted(sizes, key=lambda name: sizes[name])
        cases = tuple(f"{name}: {sizes[name]}" for name in (ends[-1], ends[0]))
        said = f"The largest class has {most / least:.0f} times the pictures of the smallest. --shots evens them out."
        found.append(Finding("uneven", HINT, said, cases))
    return found


def _on_looks(near: int, pictures: int) -> str:
    if perceptual() is None:
        return f"Pictures that look alike were not looked for, which needs imagehash: {INSTALL}."
    cut = "So are pictures cut by up to an eighth at one side, two opposite ones or all"
    if not cuts_are_compared(near, pictures):
        cut = (
            f"Pictures that were cut are not looked for with less than {STRICTER} bits, or among more than {MOST_CUT:,}"
        )
    return (
        f"Pictures that look alike: perceptual hashes that differ in at most {near} of 64 bits. {cut}. Pictures that "
        "were mirrored or turned are not found."
    )


def _one_of_each(seen: Seen) -> list[Place]:
    """One of the pictures of equal pixels, so that none is judged by its copy."""
    return list(dict(zip(reversed(seen.pixels), reversed(seen.places), strict=True)).values())[::-1]


def _name(data: Dataset, label: int) -> str:
    """A class's name, with its label where another has the same."""
    name = data.class_names[label]
    return f"{name} ({label})" if data.class_names.count(name) > 1 else name

"""What of a published data set is there, what is missing or broken, and how its counts compare with the known ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cliptune.data.images import ImageError, decoded, to_rgb
from cliptune.data.items import SPLITS, Dataset
from cliptune.data.own.naming import class_name
from cliptune.data.published.facts import Facts, facts
from cliptune.data.published.places import locate
from cliptune.data.published.reading import checksum_note, read_published, split_path
from cliptune.data.threads import mapped

FOUND, MISSING, CORRUPT, DIFFERS, NOTE = "found", "missing", "corrupt", "differs", "note"


@dataclass(frozen=True)
class Finding:
    """A sentence on one thing; state is "found", "missing", "corrupt", "differs" or "note"."""

    state: str
    text: str


@dataclass(frozen=True)
class Count:
    """A number that was found beside the known one; None where it is not known."""

    what: str
    found: int | str
    known: int | str | None

    @property
    def agrees(self) -> bool:
        return self.known is None or self.found == self.known


@dataclass
class Check:
    """Outcome of `check_published`.

    Args:
        name: of the data set.
        findings: in the order in which they were made.
        counts: empty where the labels could not be read.
        modes: Pillow's mode → number of pictures ("RGB", "L", "CMYK" …); empty where nothing was decoded.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Nothing is missing or corrupt; counts may still differ."""
        return not any(finding.state in (MISSING, CORRUPT) for finding in self.findings)

    @property
    def as_published(self) -> bool:
        """Usable, and everything that is known agrees."""
        return self.usable and all(count.agrees for count in self.counts)

    def add(self, state: str, text: str) -> None:
        self.findings.append(Finding(state, text))


def check_published(
    name: str,
    root: str | Path,
    *,
    split: str | Path | None = None,
    decode: bool = True,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Look at every part of a data set without stopping at the first fault.

    Args:
        name, root, split: as in `read_published`.
        decode: decode every listed picture once; otherwise only look that it is there.
        threads: pictures decoded at a time.
        progress: called with (pictures done, of how many).
    Raises: ValueError for an unknown name; what is wrong with the data is in the result.
    """
    known = facts(name)
    check = Check(known.name)
    try:
        folder, place = locate(known, root)
    except FileNotFoundError as error:
        check.add(MISSING, str(error))
        return check
    images = folder / place.images
    check.add(FOUND, f"pictures in {images}")
    file = split_path(known, folder, split)
    if known.split_file is not None and file.is_file():
        check.add(FOUND, f"split file {file}")
    try:
        dataset = read_published(known.name, root, split=split, check_files=False)
    except FileNotFoundError as error:
        check.add(MISSING, str(error))
        return check
    except ValueError as error:
        check.add(CORRUPT, str(error))
        return check
    check.counts = _counts(known, dataset)
    differs = checksum_note(known, file) if known.split_file is not None and split is None else None
    for note in dataset.notes:
        check.add(DIFFERS if note == differs else NOTE, note)
    _look_at_pictures(check, dataset, images, decode, threads, progress)
    sidecars = [name for _, _, names in os.walk(images, followlinks=True) for name in names if name.startswith("._")]
    if sidecars:
        check.add(NOTE, f"{len(sidecars)} side-car files ({sidecars[0]} …) are passed over; they may be deleted.")
    return check


def _look_at_pictures(
    check: Check,
    dataset: Dataset,
    images: Path,
    decode: bool,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    listed = list(dict.fromkeys(item.path for split in SPLITS for item in dataset[split].items))
    missing = [path for path in listed if not (images / path).is_file()]
    there = sorted(set(listed) - set(missing)) if missing else listed
    check.add(FOUND, f"{len(there):,} of {len(listed):,} listed pictures")
    if missing:
        check.add(MISSING, f"{len(missing):,} listed pictures: {_first(missing)}")
    if not decode:
        return
    modes: Counter[str] = Counter()
    looked_at = mapped(_looked_at, (images / path for path in there), threads)
    for done, (mode, complaint) in enumerate(looked_at, start=1):
        if complaint:
            check.add(CORRUPT, complaint)
        else:
            modes[mode] += 1
        if progress is not None:
            progress(done, len(there))
    check.modes = dict(modes.most_common())


def _looked_at(path: Path) -> tuple[str, str | None]:
    """Mode of a picture as it is in the file, and a complaint if it cannot be decoded."""
    try:
        return decoded(path, lambda image: (image.mode, to_rgb(image)))[0], None
    except (ImageError, OSError) as error:
        return "", str(error)


def _counts(known: Facts, dataset: Dataset) -> list[Count]:
    counts = [Count("classes", len(dataset.class_names), known.classes)]
    counts += [Count(f"{split} images", len(dataset[split]), known.counts.get(split)) for split in SPLITS]
    per_class = dataset.train.count()
    if per_class:
        counts.append(Count("smallest training class", min(per_class.values()), known.smallest_train_class))
    base, new = (dataset.subset(half) for half in ("base", "new")) if len(dataset.class_names) > 1 else (None, None)
    if base is not None and new is not None and known.base_new_test:
        for half, expected in zip((base, new), known.base_new_test, strict=True):
            counts.append(Count(f"{half.classes} test images", len(half.test), expected))
        first = None if known.first_new_class is None else class_name(known.first_new_class)
        counts.append(Count("first new class", new.class_names[0], first))
    return counts


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3:,} more" if len(paths) > 3 else "")

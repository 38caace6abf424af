"""Every picture decoded once: what cannot be, what is blank or tiny, and what tells it from the others."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cliptune.data.formats import BY_KIND, PICTURES, decodable, how_to_read, kind_of, undecodable
from cliptune.data.images import ImageError
from cliptune.data.items import Dataset
from cliptune.data.threads import mapped
from cliptune.doctor.duplicates import Place, alike, findings_on, grouped, path_of
from cliptune.doctor.findings import ERROR, HINT, WARNING, Finding
from cliptune.doctor.looks import NEAR, STRICTER, Hash, cuts_are_compared, cuts_of, perceptual

TINY = 32
"""Shorter side in pixels below which a picture says little to a tower that looks at 224."""
LONG = 8
"""Ratio of the sides from which the centre that CLIP sees is a small part of a picture."""
FLAT = 1.0
"""Standard deviation of the grey values, of 255, below which nothing is to be seen."""

Progress = Callable[[str, int, int], None]
"""Called with (what is done, so many done, of how many)."""


@dataclass
class Seen:
    """What one pass over N pictures tells, some 700 bytes of each.

    Args:
        places: of the pictures that were decoded.
        pixels: (N,) 16 bytes each, a hash of size and RGB values.
        looks: (N,) uint64, perceptual hashes; empty without `imagehash`.
        cuts: (N, cuts) uint64, those of the pictures without their borders.
        broken, blank, tiny, long: cases, a line each.
    """

    places: list[Place] = field(default_factory=list)
    pixels: list[bytes] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    cuts: list[np.ndarray] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    tiny: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Look:
    """Of one picture: its size, a hash of its pixels, the spread of its grey values, how it looks, or a complaint."""

    size: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    spread: float = 0.0
    looks: int = 0
    cuts: np.ndarray | None = None
    complaint: str = ""


def decode_all(data: Dataset, places: Sequence[Place], *, threads: int = 2, progress: Progress | None = None) -> Seen:
    """Decode pictures one after the other, none of which is kept."""
    seen, hashed = Seen(), perceptual()
    looks = mapped(lambda place: _look(data, place, hashed), places, threads)
    for done, (place, look) in enumerate(zip(places, looks, strict=True), start=1):
        _enter(seen, data, place, look)
        if progress is not None:
            progress("pictures", done, len(places))
    return seen


def _look(data: Dataset, place: Place, hashed: Hash | None) -> _Look:
    split, i = place
    try:
        image = data[split].image(i)
    except (ImageError, OSError) as error:
        return _Look(complaint=str(error))
    content = hashlib.blake2b(f"{image.width}x{image.height}:".encode(), digest_size=16)
    content.update(image.tobytes())
    spread = float(np.asarray(image.convert("L"), dtype=np.float32).std())
    if hashed is None or spread < FLAT:
        return _Look(image.size, content.digest(), spread)
    return _Look(image.size, content.digest(), spread, hashed(image), cuts_of(image, hashed))


def _enter(seen: Seen, data: Dataset, place: Place, look: _Look) -> None:
    path = data[place[0]][place[1]].path
    if look.complaint:
        seen.broken.append(look.complaint)
        return
    width, height = look.size
    if min(look.size) < TINY:
        seen.tiny.append(f"{path} ({width} × {height})")
    if max(look.size) >= LONG * min(look.size):
        seen.long.append(f"{path} ({width} × {height})")
    if look.spread < FLAT:
        seen.blank.append(path)
        return  # a blank picture looks like every other
    seen.places.append(place)
    seen.pixels.append(look.pixels)
    if look.cuts is not None:
        seen.looks.append(look.looks)
        seen.cuts.append(look.cuts)


def findings_of(seen: Seen, data: Dataset, same_files: Sequence[Sequence[Place]], most: int = NEAR) -> list[Finding]:
    """What a pass over all pictures found.

    Args:
        same_files: groups of equal files, which are not told a second time as look-alikes.
        most: bits in which look-alikes may differ; from another one's cuts, `STRICTER` less.
    """
    found = [
        _of("blank", WARNING, "Pictures of one colour teach nothing. Take them out.", seen.blank),
        _of("tiny", HINT, f"Pictures with a side of less than {TINY} pixels show little.", seen.tiny),
        _of(
            "long", HINT, f"Of pictures {LONG} times as long as wide, CLIP sees the middle alone. Cut them.", seen.long
        ),
    ]
    same = _merged([*same_files, *grouped(seen.places, seen.pixels)])
    found += findings_on(data, same)
    if seen.looks:
        known = {place for group in same for place in group[1:]}  # one of each stands for all
        rest = [k for k, place in enumerate(seen.places) if place not in known]
        looks = np.array([seen.looks[k] for k in rest], dtype=np.uint64)
        cuts = np.stack([seen.cuts[k] for k in rest]) if cuts_are_compared(most, len(rest)) else None
        groups = alike([seen.places[k] for k in rest], looks, most, cuts, most - STRICTER)
        found += findings_on(data, groups, near=True)
    return [finding for finding in found if finding is not None]


def _of(kind: str, severity: str, text: str, cases: Sequence[str]) -> Any:
    return Finding(kind, severity, text, tuple(cases)) if cases else None


def _merged(groups: Sequence[Sequence[Place]]) -> list[list[Place]]:
    """Groups that share a picture as one."""
    home: dict[Place, list[Place]] = {}
    for group in groups:
        joined = list(dict.fromkeys(place for member in group for place in [*home.get(member, ()), member]))
        for place in joined:
            home[place] = joined
    return list({id(group): group for group in home.values()}.values())


def broken(data: Dataset, seen: Seen) -> list[Finding]:
    """The sentences of what cannot be decoded, by what the files hold."""
    said = "Pictures that cannot be read stop the training. Mend them, or take them out."
    return [Finding("unreadable", ERROR, said, tuple(seen.broken))] if seen.broken else []


def undecodable_here(data: Dataset, places: Sequence[Place]) -> list[Finding]:
    """Pictures whose decoder is not installed, by kind, told by their first bytes whatever they are called."""
    found: dict[str, list[str]] = defaultdict(list)
    for split, i in places:
        path = path_of(data, (split, i))
        kind = undecodable(path)
        if kind is not None:
            found[kind].append(data[split][i].path)
    return [
        Finding(
            "undecodable", ERROR, f"Pictures of the kind {kind} cannot be decoded here. {how_to_read(kind)}", tuple(p)
        )
        for kind, p in sorted(found.items())
    ]


def unread(data: Dataset) -> list[Finding]:
    """Files in class folders that are in no split, by what they hold."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in data.unread:
        found[_kind(Path(data.root or ".") / path)].append(path)
    return [Finding("unread", WARNING, _unread(kind), tuple(paths)) for kind, paths in sorted(found.items())]


def _unread(kind: str) -> str:
    said = f"Files of the kind {kind} in class folders are not read."
    if kind in BY_KIND and not decodable(BY_KIND[kind]):
        return f"{said} {how_to_read(kind)}"
    if kind in BY_KIND or kind in PICTURES:
        return f"{said} They are pictures whose names end otherwise, or begin with a dot: rename them."
    return said


def _kind(path: Path) -> str:
    kind = kind_of(path)
    return (path.suffix.lower() or "no suffix") if kind == "unknown" else kind

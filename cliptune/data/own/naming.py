"""Class names, templates and listed paths of users' own data: what is accepted, what is refused and with
which sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from cliptune.reading import listed, shown

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What folders and columns call a split → our name of it."""


def class_name(raw: str) -> str:
    """A class name as it is read out to CLIP: underscores and runs of blanks become one space."""
    return " ".join(raw.replace("_", " ").split())


def class_labels(raw_names: Iterable[str], who: str) -> dict[str, int]:
    """Raw name → label, labels in sorted order of the raw names (code points, so capitals come first).

    Raises: ValueError if a name is blank, or two raw names would be read alike (`Red_fox`, `red fox`): CLIP's
        text is lower-case, so both would get the same classifier.
    """
    labels = {raw: label for label, raw in enumerate(sorted(set(raw_names)))}
    read_as: dict[str, str] = {}
    for raw in labels:
        spoken = class_name(raw).casefold()
        if not spoken:
            raise ValueError(f"{who}: a class name is blank ({shown(raw)!r}). Give every class a name in words.")
        if spoken in read_as:
            raise ValueError(
                f"{who}: the classes {shown(read_as[spoken])!r} and {shown(raw)!r} are both read as {shown(spoken)!r} "
                "(underscores are spaces, capitals do not count). Merge them or rename one."
            )
        read_as[spoken] = raw
    return labels


def relative_path(raw: str, who: str) -> str:
    """A listed path as POSIX path below the root.

    Raises: ValueError if it is absolute or climbs out with "..". Symbolic links below the root are followed.
    """
    path = PurePosixPath(raw.replace("\\", "/"))
    if not raw.strip() or path == PurePosixPath("."):
        raise ValueError(f"{who}: the path is empty. Name a picture relative to the root.")
    if path.is_absolute() or PureWindowsPath(raw).drive or ".." in path.parts:
        raise ValueError(
            f"{who}: the path {shown(raw)!r} leaves the root. Listed paths must be relative and stay below it, "
            "without '..'."
        )
    return str(path)


def require_files(root: Path, paths: Iterable[str], who: str) -> None:
    """Raises FileNotFoundError that lists what is not there below `root`."""
    missing = [path for path in dict.fromkeys(paths) if not is_file(root / path)]
    if missing:
        raise FileNotFoundError(
            f"{who}: {len(missing)} listed pictures are not below {root}: {listed(missing)}. "
            "Put them there, correct the root, or take them out of the list."
        )


def is_file(path: Path) -> bool:
    """Whether there is a file of this name, of whatever characters and length."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False

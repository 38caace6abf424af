"""Finding listed pictures: paths, bare names, ids without suffix, absolute paths and addresses of annotation tools."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

from cliptune.data.images import is_image_name
from cliptune.data.own.naming import is_file, relative_path
from cliptune.data.own.rows import Row
from cliptune.reading import listed, shown

MOST_FILES = 2_000_000
"""Pictures below a root that names are looked up among."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_OF_A_SERVER = ("/data/upload/", "/data/local-files/")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")


class Finder:
    """Where listed pictures lie below a root.

    A reference is, in this order: a path relative to the root; the end of a path below it, with or without its suffix,
    if exactly one picture's path ends so; for absolute paths and addresses, what is left of them once the folders of
    another machine are taken off.

    Args:
        root: folder that everything must lie below.
        who: begins the errors.
        uploads: names may begin with eight hexadecimal digits that an annotation tool put before them.
    """

    def __init__(self, root: Path, who: str, *, uploads: bool = False) -> None:
        self.root = root
        self.who = who
        self.uploads = uploads

    def rows(self, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
        """The rows with paths relative to the root, and a sentence if these are not the paths as listed.

        Raises: FileNotFoundError that lists what is not there; ValueError for a path that leaves the root, or that
            more than one picture fits.
        """
        missing: list[str] = []
        found: list[Row] = []
        elsewhere: list[tuple[str, str]] = []
        for row in rows:
            path = self.find(row.path, row.where)
            if path is None:
                missing.append(row.path)
            else:
                found.append(row._replace(path=path))
                if path != str(PurePosixPath(row.path.replace("\\", "/"))):
                    elsewhere.append((row.path, path))
        if missing:
            missing = list(dict.fromkeys(missing))
            raise FileNotFoundError(
                f"{self.who}: {len(missing)} listed pictures are not below {self.root}: {listed(missing)}. "
                "Put them there, correct the root (--root), or take them out of the list."
            )
        if not elsewhere:
            return found, []
        raw, path = elsewhere[0]
        return found, [
            f"{self.who}: {len(elsewhere)} of {len(found)} pictures were found by their names below {self.root} "
            f"({shown(raw)} as {shown(path)})."
        ]

    def find(self, reference: str, where: str) -> str | None:
        """The path relative to the root, POSIX; None if nothing fits.

        Raises: as `rows`, for one.
        """
        if (local := local_part(reference)) is not None:
            return self._without_leading_folders(local, reference, where)
        path = relative_path(reference, where)
        if is_file(self.root / path):
            return path
        return self._by_end(path, reference, where)

    def has(self, reference: str) -> bool:
        """Whether a picture fits, or several do."""
        local = local_part(reference)
        path = PurePosixPath((reference if local is None else local).replace("\\", "/"))
        if not path.name or ".." in path.parts:
            return False
        if local is None and is_file(self.root / path):
            return True
        return any(self._ends(end) for end in ([str(path)] if local is None else _ends_of(local)))

    def _without_leading_folders(self, local: str, reference: str, where: str) -> str | None:
        inside = _below(local, self.root)
        if inside is not None and is_file(self.root / inside):
            return inside
        for end in _ends_of(local):
            if is_file(self.root / end):
                return end
        for end in _ends_of(local):
            if (path := self._by_end(end, reference, where)) is not None:
                return path
        return None

    def _by_end(self, end: str, reference: str, where: str) -> str | None:
        fitting = self._ends(end)
        if len(fitting) > 1:
            raise ValueError(
                f"{where}: {shown(reference)} fits {len(fitting)} pictures below {self.root}: {listed(fitting, 3)}. "
                "List it with its folder, or give their folder with --root."
            )
        return fitting[0] if fitting else None

    def _ends(self, end: str) -> list[str]:
        """Pictures below the root whose path, with or without its suffix, ends with these parts."""
        parts = PurePosixPath(end).parts
        names = [parts[-1]]
        if self.uploads and (bare := _UPLOAD.sub("", parts[-1], count=1)) != parts[-1]:
            names.append(bare)
        for name in names:
            for index in (self._by_name, self._by_stem):
                fitting = [path for path in index.get(name, ()) if path.parts[-len(parts) : -1] == parts[:-1]]
                if fitting:
                    return [str(path) for path in fitting]
        return []

    @cached_property
    def _pictures(self) -> list[PurePosixPath]:
        return [PurePosixPath(path) for path in pictures_below(self.root, self.who)]

    @cached_property
    def _by_name(self) -> dict[str, list[PurePosixPath]]:
        return _indexed((path.name, path) for path in self._pictures)

    @cached_property
    def _by_stem(self) -> dict[str, list[PurePosixPath]]:
        return _indexed((path.stem, path) for path in self._pictures)


def common_root(rows: Sequence[Row], home: Path) -> Path | None:
    """The folder that holds all pictures, where every row names one by an absolute path of this machine and some lie
    outside of `home`; None otherwise.
    """
    paths = [row.path for row in rows]
    if not paths or not all(os.path.isabs(path) and ".." not in Path(path).parts for path in paths):
        return None
    if all(_below(path, home) is not None for path in paths) or not all(is_file(Path(path)) for path in paths):
        return None
    return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))


def pictures_below(root: Path, who: str) -> list[str]:
    """POSIX paths of all pictures below a folder, relative to it and sorted; links are followed, hidden folders not.

    Raises: ValueError if there are more than `MOST_FILES`.
    """
    found: list[str] = []
    entered: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in entered else [folder for folder in folders if not folder.startswith(".")]
        if real not in entered:
            inside = Path(here).relative_to(root)
            found += [(inside / file).as_posix() for file in files if is_image_name(file)]
        entered.add(real)
        if len(found) > MOST_FILES:
            raise ValueError(
                f"{who}: there are more than {MOST_FILES:,} pictures below {root}, among which the listed names would "
                "be looked up. Give the folder of the pictures with --root."
            )
    return sorted(found)


def local_part(reference: str) -> str | None:
    """The path within an absolute path or an address, with slashes; None for a relative path.

    An annotation tool's `/data/local-files/?d=photos/a.png` is photos/a.png; of `s3://bucket/a.png` the path is left.
    """
    text = reference.strip()
    if text.startswith(_OF_A_SERVER) or _ADDRESS.match(text):
        try:
            parts = urlsplit(text)
        except ValueError:  # brackets that are no address of a machine: a name like any other
            return None
        asked = parse_qs(parts.query).get("d")
        return unquote(asked[0] if asked else parts.path) or None
    if PureWindowsPath(text).drive or text.startswith(("/", "\\")):
        return text.replace("\\", "/")
    return None


def _ends_of(local: str) -> list[str]:
    """Ends of a path, the longest first."""
    parts = [part for part in PurePosixPath(local).parts if part not in ("/", "..", ".") and ":" not in part]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _below(path: str, root: Path) -> str | None:
    """An absolute path relative to `root`, POSIX; None if it lies elsewhere."""
    inside = os.path.relpath(os.path.normpath(path), os.path.abspath(root)) if os.path.isabs(path) else ".."
    return None if inside.split(os.sep)[0] == ".." else Path(inside).as_posix()


def _indexed(pairs: Iterable[tuple[str, PurePosixPath]]) -> dict[str, list[PurePosixPath]]:
    index: dict[str, list[PurePosixPath]] = defaultdict(list)
    for name, path in pairs:
        index[name].append(path)
    return dict(index)

"""MedMNIST's `.npz`: arrays train_images, train_labels and so on for val and test. Nothing is unpickled.

Source: medmnist 3.0 (arXiv:2110.14795); `pathmnist.npz`, and `pathmnist_64.npz` and so on in larger sizes.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from cliptune.data.items import SPLITS
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Row
from cliptune.data.own.stored import Pixels, StoredPicture
from cliptune.reading import shown

LARGEST_ARRAYS = 16 << 30
"""Bytes of all arrays together; the largest of the published files have less."""
_MOST_HEADER = 10_000


def _recognises(file: Opened) -> bool:
    names = _members(file.path) if file.head[:2] == b"PK" else []
    return {"train_images.npy", "train_labels.npy"} <= set(names)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    known = _class_names().get(re.sub(r"_\d+$", "", file.path.stem.lower()))
    rows: list[Row] = []
    pictures: list[StoredPicture] = []
    for split, (images, labels) in _arrays(file.path, who).items():
        wrong = None if known is None else next((int(v) for v in labels if not 0 <= v < len(known)), None)
        if wrong is not None:
            raise ValueError(
                f"{who}: {split}_labels holds {wrong}, and {file.path.stem} has the classes 0 to "
                f"{len(known or ()) - 1}. Fetch it again, or call a file of your own otherwise."
            )
        for i, label in enumerate(labels):
            path = f"{split}/{i:06d}"
            rows.append(Row(f"{who}, {path}", path, str(int(label)) if known is None else known[int(label)], split))
            pictures.append(Pixels(images, i))
    notes = [] if known is None else [f"{who}: classes are called as MedMNIST calls those of {file.path.stem}."]
    return Content(rows, notes, pictures, says_splits={"train", "test"} <= {row.split for row in rows})


def _arrays(path: Path, who: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split → 8-bit pictures (N, h, w) or (N, h, w, 3), and labels (N,)."""
    _check_sizes(path, who)
    try:
        with np.load(path, allow_pickle=False, max_header_size=_MOST_HEADER) as archive:
            there = [s for s in SPLITS if f"{s}_images" in archive and f"{s}_labels" in archive]
            arrays = {split: (archive[f"{split}_images"], archive[f"{split}_labels"]) for split in there}
    except MemoryError as error:
        raise ValueError(f"{who}: its arrays do not fit into memory. Take a file of smaller pictures.") from error
    except Exception as error:  # broken archives and headers are met with many kinds of exception
        reason = str(error) or type(error).__name__
        raise ValueError(f"{who}: its arrays cannot be read ({shown(reason)}). Fetch the file again.") from error
    return {
        split: (_pictures(images, split, who), _labels(images, labels, split, who))
        for split, (images, labels) in arrays.items()
    }


def _check_sizes(path: Path, who: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except Exception as error:
        raise ValueError(f"{who}: the archive cannot be read ({shown(str(error))}). Fetch the file again.") from error
    if size > LARGEST_ARRAYS:
        raise ValueError(f"{who}: its arrays have {size:,} bytes, and at most {LARGEST_ARRAYS:,} are read.")


def _pictures(images: np.ndarray, split: str, who: str) -> np.ndarray:
    flat = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3))
    if not flat or 0 in images.shape[1:]:
        raise ValueError(
            f"{who}: expected {split}_images of 8 bits and shape (N, h, w) or (N, h, w, 3), got {images.dtype} of "
            f"shape {images.shape}. Volumes (3D) are no pictures."
        )
    return images


def _labels(images: np.ndarray, labels: np.ndarray, split: str, who: str) -> np.ndarray:
    """(N,) from (N,) or (N, 1) whole numbers."""
    single = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind not in "iu" or not single or len(labels) != len(images):
        raise ValueError(
            f"{who}: expected {split}_labels of whole numbers, one for each of {len(images)} pictures, got "
            f"{labels.dtype} of shape {labels.shape}. Pictures of several classes each (ChestMNIST) are not told apart."
        )
    return labels.reshape(-1)


@lru_cache(maxsize=1)
def _class_names() -> dict[str, list[str]]:
    """Data set → names of its classes in the order of its labels; its files hold numbers alone."""
    content = json.loads(Path(__file__).with_name("medmnist.json").read_text(encoding="utf-8"))
    return {name: [str(c) for c in classes] for name, classes in content.items()}


FORMAT = Format("MedMNIST's arrays", ("*mnist*.npz",), _recognises, _read)

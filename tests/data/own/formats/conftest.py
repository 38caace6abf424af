"""Pictures in class folders, in one flat folder, and what was read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cliptune.data import Dataset, load_data
from cliptune.data.items import SPLITS
from tests.data.pictures import noise

CLASSES = ("lynx", "puma", "red_fox")
PICTURES = {f"{name}{i}.png": name for name in CLASSES for i in range(4)}
"""File name → class."""


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """All pictures in one folder."""
    return write_flat(tmp_path / "pics")


def write_flat(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(PICTURES):
        noise(i).save(folder / name)
    return folder


Read = Callable[..., dict[str, str]]


@pytest.fixture
def read() -> Read:
    """Open a path, check that its first picture decodes, and give path → class name of all its pictures."""

    def opened(path: Path, *arguments: object, **options: object) -> dict[str, str]:
        return labelled(load_data(path, *arguments, **options))

    return opened


def labelled(data: Dataset) -> dict[str, str]:
    assert data.train.image(0).size == (23, 17)
    return {item.path: item.class_name for split in SPLITS for item in data[split].items}


def spoken(prefix: str = "") -> dict[str, str]:
    """What is to be read: path → class in words."""
    return {prefix + path: name.replace("_", " ") for path, name in PICTURES.items()}

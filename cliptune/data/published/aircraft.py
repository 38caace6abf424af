"""FGVC-Aircraft: text files of its archive instead of a split file."""

from __future__ import annotations

from pathlib import Path

from cliptune.data.items import SPLITS, Item
from cliptune.data.own.naming import relative_path
from cliptune.data.published.annotations import text_lines
from cliptune.reading import shown

Found = tuple[tuple[str, ...], dict[str, list[Item]], tuple[str, ...]]


def aircraft_items(folder: Path, who: str) -> Found:
    """Class names in the order of `variants.txt`, and the pictures of `images_variant_{train,val,test}.txt`.

    A line there is an id and a variant ("0056978 707-320"); names may hold blanks and slashes.

    Raises: FileNotFoundError for a missing file; ValueError for a line of another form or an unknown variant.
    """
    names = tuple(text_lines(folder / "variants.txt", who))
    label = {name: i for i, name in enumerate(names)}
    items: dict[str, list[Item]] = {}
    for split in SPLITS:
        path = folder / f"images_variant_{split}.txt"
        items[split] = []
        for line in text_lines(path, who):
            number, _, variant = line.partition(" ")
            if variant not in label:
                raise ValueError(
                    f"{who}: {path.name} has the line {shown(line)!r}; expected an id and a variant of variants.txt. "
                    "Fetch the archive again."
                )
            items[split].append(Item(relative_path(f"{number}.jpg", f"{who}, {path.name}"), label[variant], variant))
    return names, items, ()

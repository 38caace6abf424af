"""Published data sets in miniature, written as torchvision's classes lay them out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.data.published import miniatures
from tests.data.published.miniatures import picture


def lines(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def pictures(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        picture(folder / name, i)


def caltech101(root: Path) -> None:
    for folder in ("BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "accordion", "airplanes"):
        pictures(root / "caltech101/101_ObjectCategories" / folder, [f"image_{i:04d}.jpg" for i in range(1, 11)])


def oxford_pets(root: Path) -> None:
    top = root / "oxford-iiit-pet"
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    # Files are listed in sorted order here, labels count in the order of lower-case names.
    for label, breed in ((1, "Abyssinian"), (3, "Bengal"), (2, "american_bulldog")):
        rows["trainval"] += [f"{breed}_{i} {label} 1 1" for i in range(1, 11)]
        rows["test"] += [f"{breed}_{i} {label} 1 1" for i in (11, 12)]
    for split, listed in rows.items():
        lines(top / f"annotations/{split}.txt", listed)
        pictures(top / "images", [f"{row.split()[0]}.jpg" for row in listed])


def oxford_flowers(root: Path) -> None:
    top = root / "flowers-102"
    labels = [52, 60, 1] * 6
    pictures(top / "jpg", [f"image_{i:05d}.jpg" for i in range(1, 19)])
    savemat(top / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    ids = {"trnid": range(9, 0, -1), "valid": range(10, 13), "tstid": range(13, 19)}
    savemat(top / "setid.mat", {key: np.array([list(found)], dtype=np.uint16) for key, found in ids.items()})


def food101(root: Path) -> None:
    top = root / "food-101"
    for split, n in (("train", 5), ("test", 2)):
        listed = {name: [f"{name}/{split}{i}" for i in range(n)] for name in ("waffles", "apple_pie", "hot_dog")}
        (top / "meta").mkdir(parents=True, exist_ok=True)
        (top / f"meta/{split}.json").write_text(json.dumps(listed))
        pictures(top / "images", [f"{path}.jpg" for paths in listed.values() for path in paths])


def fgvc_aircraft(root: Path) -> None:
    miniatures.fgvc_aircraft(root)
    (root / "fgvc-aircraft-2013b").mkdir()
    (root / "fgvc_aircraft").rename(root / "fgvc-aircraft-2013b/data")


def sun397(root: Path) -> None:
    scenes = ["/a/abbey", "/a/apse/indoor", "/i/ice_skating_rink/outdoor"]
    lines(root / "SUN397/ClassName.txt", scenes)
    for scene in scenes:
        pictures(root / "SUN397" / scene[1:], [f"sun_{i:03d}.jpg" for i in range(10)])


def dtd(root: Path) -> None:
    top = root / "dtd/dtd"
    for split, n in (("train", 3), ("val", 2), ("test", 2)):
        listed = [f"{name}/{name}_{split}{i}.jpg" for name in ("braided", "banded", "polka-dotted") for i in range(n)]
        lines(top / f"labels/{split}1.txt", listed)
        lines(top / f"labels/{split}2.txt", listed[:1])  # another partition
        pictures(top / "images", listed)


def eurosat(root: Path) -> None:
    for folder in ("AnnualCrop", "Forest", "SeaLake"):
        pictures(root / "eurosat/2750" / folder, [f"{folder}_{i}.jpg" for i in range(1, 11)])


TORCHVISION_MINIATURES: dict[str, Callable[[Path], None]] = {
    "caltech101": caltech101,
    "oxford_pets": oxford_pets,
    "stanford_cars": miniatures.stanford_cars,  # the field's folders are torchvision's
    "oxford_flowers": oxford_flowers,
    "food101": food101,
    "fgvc_aircraft": fgvc_aircraft,
    "sun397": sun397,
    "dtd": dtd,
    "eurosat": eurosat,
}

"""Published data sets in miniature, written exactly in their layout: a few noise pictures for a few classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.data.pictures import noise

WNIDS = ("n01440764", "n01443537", "n03773504", "n04008634")
NAMES = ("tench", "goldfish", "missile", "missile")


def picture(path: Path, seed: int = 0, mode: str = "RGB", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, 12, 9).convert(mode).save(path, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else None, **options)


def turned() -> Image.Exif:
    """An EXIF block that asks viewers to turn the picture by 90°."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def split_file(path: Path, images: Path, rows: dict[str, list[tuple[str, int, str]]], write: bool = True) -> None:
    """A `split_zhou_*.json`, and the pictures it lists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({split: [list(row) for row in rows[split]] for split in ("train", "val", "test")}))
    for i, (name, _, _) in enumerate(row for split in rows.values() for row in split):
        if write:
            picture(images / name, i)


def in_class_folders(classes: list[tuple[str, str]], train: int = 4, val: int = 1, test: int = 2) -> dict:
    """Rows of a split file for (folder, class name) pairs."""
    rows: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}
    for label, (folder, name) in enumerate(classes):
        for split, n in (("train", train), ("val", val), ("test", test)):
            rows[split] += [(f"{folder}/{split}_{i:03d}.jpg", label, name) for i in range(n)]
    return rows


def caltech101(root: Path) -> None:
    top = root / "caltech-101"
    classes = [("Faces", "face"), ("Leopards", "leopard"), ("Motorbikes", "motorbike"), ("accordion", "accordion")]
    classes.append(("airplanes", "airplane"))
    split_file(top / "split_zhou_Caltech101.json", top / "101_ObjectCategories", in_class_folders(classes))
    picture(top / "101_ObjectCategories/BACKGROUND_Google/image_0001.jpg")
    picture(top / "101_ObjectCategories/Faces_easy/image_0001.jpg")
    picture(top / "101_ObjectCategories/accordion/train_000.jpg", mode="L")  # grey, as many there are


def oxford_pets(root: Path) -> None:
    top = root / "oxford_pets"
    breeds = ["Abyssinian", "american_bulldog", "Bengal"]
    rows: dict = {"train": [], "val": [], "test": []}
    trainval, test = [], ["#Image CLASS-ID SPECIES BREED ID"]
    for label, breed in enumerate(breeds):
        spoken = breed.lower()
        rows["train"] += [(f"{breed}_{i}.jpg", label, spoken) for i in range(1, 5)]
        rows["val"] += [(f"{breed}_5.jpg", label, spoken)]
        rows["test"] += [(f"{breed}_{i}.jpg", label, spoken) for i in (6, 7)]
        trainval += [f"{breed}_{i} {label + 1} 1 1" for i in range(1, 6)]
        test += [f"{breed}_{i} {label + 1} 1 1" for i in (6, 7)]
    split_file(top / "split_zhou_OxfordPets.json", top / "images", rows)
    picture(top / "images/Bengal_1.jpg", exif=turned())
    (top / "images/Abyssinian_5.mat").write_bytes(b"left over in the archive")
    notes = top / "annotations"
    for folder in ("xmls", "trimaps"):
        (notes / folder).mkdir(parents=True)
    (notes / "xmls/Bengal_1.xml").write_text("<annotation><filename>Bengal_1.jpg</filename></annotation>")
    (notes / "trainval.txt").write_text("\n".join(trainval) + "\n")
    (notes / "test.txt").write_text("\n".join(test) + "\n")


def stanford_cars(root: Path) -> None:
    top = root / "stanford_cars"
    names = ["Acura RL Sedan 2012", "AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
    spoken = ["2012 Acura RL Sedan", "2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan"]
    order = [2, 0, 1, 0, 2, 1, 1, 0, 2, 2, 0, 1, 2, 0, 1]  # labels do not first appear in label order
    train = [(f"{i + 1:05d}.jpg", label) for i, label in enumerate(order)]
    test = [(f"{i + 1:05d}.jpg", i % 3) for i in range(6)]
    rows = {
        "train": [(f"cars_train/{file}", label, spoken[label]) for file, label in train[:12]],
        "val": [(f"cars_train/{file}", label, spoken[label]) for file, label in train[12:]],
        "test": [(f"cars_test/{file}", label, spoken[label]) for file, label in test],
    }
    split_file(top / "split_zhou_StanfordCars.json", top, rows)
    (top / "devkit").mkdir()
    boxes = [(field, "u1") for field in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")]

    def annotations(pairs: list[tuple[str, int]]) -> dict[str, np.ndarray]:
        table = np.zeros((1, len(pairs)), dtype=[*boxes, ("class", "O"), ("fname", "O")])
        for i, (file, label) in enumerate(pairs):
            table[0, i] = (1, 2, 9, 8, label + 1, file)
        return {"annotations": table}

    savemat(top / "devkit/cars_train_annos.mat", annotations(train))
    savemat(top / "cars_test_annos_withlabels.mat", annotations(test))
    savemat(top / "devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object).reshape(1, -1)})


def oxford_flowers(root: Path) -> None:
    top = root / "oxford_flowers"
    names = {"1": "pink primrose", "2": "wild pansy", "3": "cape flower"}
    labels = [3, 1, 2, 3, 3, 1, 1, 2, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]
    rows: dict = {"train": [], "val": [], "test": []}
    for i, label in enumerate(labels, start=1):
        split = "train" if i <= 9 else "val" if i <= 12 else "test"
        rows[split].append((f"image_{i:05d}.jpg", label - 1, names[str(label)]))
    split_file(top / "split_zhou_OxfordFlowers.json", top / "jpg", rows)
    (top / "cat_to_name.json").write_text(json.dumps(names))
    savemat(top / "imagelabels.mat", {"labels": np.array(labels, dtype=np.uint8).reshape(1, -1)})


def food101(root: Path) -> None:
    top = root / "food-101"
    classes = [(name, name) for name in ("apple_pie", "guacamole", "waffles")]
    split_file(top / "split_zhou_Food101.json", top / "images", in_class_folders(classes))
    (top / "meta").mkdir()
    (top / "meta/classes.txt").write_text("apple_pie\nguacamole\nwaffles\n")
    (top / "README.txt").write_text("unused")


def fgvc_aircraft(root: Path) -> None:
    top = root / "fgvc_aircraft"
    names = ["707-320", "F/A-18", "Cessna 560"]
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    number = 34309
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        for name in reversed(names):
            for _ in range(n):
                number += 7
                lists[split].append(f"{number:07d} {name}")
                picture(top / f"images/{number:07d}.jpg", number)
    (top / "variants.txt").write_text("\n".join(names) + "\n")
    for split, lines in lists.items():
        (top / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    (top / "families.txt").write_text("unused\n")


def sun397(root: Path) -> None:
    top = root / "sun397"
    scenes = ["/a/abbey", "/a/apse/indoor", "/i/ice_skating_rink/outdoor"]
    spoken = ["abbey", "indoor apse", "outdoor ice_skating_rink"]
    pairs = [(scene.lstrip("/"), name) for scene, name in zip(scenes, spoken, strict=True)]
    rows = in_class_folders(pairs)
    split_file(top / "split_zhou_SUN397.json", top / "SUN397", rows)
    (top / "ClassName.txt").write_text("\n".join(scenes) + "\n")
    official = {"Training_01.txt": rows["train"] + rows["val"], "Testing_01.txt": rows["test"]}
    for file, listed in official.items():
        (top / file).write_text("".join(f"/{path}\n" for path, _, _ in sorted(listed, key=lambda row: row[1])))


def dtd(root: Path) -> None:
    top = root / "dtd"
    classes = [(name, name) for name in ("banded", "blotchy", "braided")]
    split_file(top / "split_zhou_DescribableTextures.json", top / "images", in_class_folders(classes))
    picture(top / "images/banded/train_000.jpg", mode="CMYK")
    for folder in ("imdb", "labels"):
        (top / folder).mkdir()


def eurosat(root: Path, old_names: bool = False) -> None:
    top = root / "eurosat"
    folders = [("AnnualCrop", "Annual Crop Land"), ("Forest", "Forest"), ("SeaLake", "Sea or Lake")]
    classes = [(raw, raw if old_names else name) for raw, name in folders]
    split_file(top / "split_zhou_EuroSAT.json", top / "2750", in_class_folders(classes))


UCF = {"BlowDryHair": 1, "BlowingCandles": 2, "Hammering": 3, "HammerThrow": 4, "YoYo": 5}


def ucf101(root: Path) -> None:
    top = root / "ucf101"
    folders = ["Blow_Dry_Hair", "Blowing_Candles", "Hammering", "Hammer_Throw", "Yo_Yo"]
    lines: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    rows: dict = {"train": [], "val": [], "test": []}
    for (action, number), folder in zip(UCF.items(), folders, strict=True):
        for i in range(1, 8):
            video = f"v_{action}_g{i:02d}_c01"
            split = "train" if i < 5 else "val" if i == 5 else "test"
            rows[split].append((f"{folder}/{video}.jpg", number - 1, folder))
            if i < 6:
                lines["trainlist01.txt"].append(f"{action}/{video}.avi {number}")
            else:
                lines["testlist01.txt"].append(f"{action}/{video}.avi")
    split_file(top / "split_zhou_UCF101.json", top / "UCF-101-midframes", rows)
    (top / "UCF-101-midframes/Yo_Yo/._v_YoYo_g01_c01.jpg").write_bytes(b"side-car")
    (top / "ucfTrainTestlist").mkdir()
    (top / "ucfTrainTestlist/classInd.txt").write_text("".join(f"{n} {action}\r\n" for action, n in UCF.items()))
    for file, listed in lines.items():
        (top / "ucfTrainTestlist" / file).write_text("\n".join(listed) + "\n")


def resisc45(root: Path) -> None:
    top = root / "resisc45"
    classes = [(name, name) for name in ("airplane", "basketball_court", "wetland")]
    split_file(top / "split_mlai_Resisc45.json", top / "NWPU-RESISC45", in_class_folders(classes))


def class_names(folder: Path, n: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{wnid} {name}" for wnid, name in zip(WNIDS[:n], NAMES[:n], strict=True)]
    (folder / "classnames.txt").write_text("\n".join(lines) + "\n")


def imagenet(root: Path, folder: str = "imagenet", images: str = "images") -> None:
    top = root / folder
    class_names(top)
    for k, wnid in enumerate(WNIDS):
        for i in range(3):
            picture(top / images / f"train/{wnid}/{wnid}_{10 - i}.JPEG", 10 * k + i)
        picture(top / images / f"val/{wnid}/ILSVRC2012_val_{k:08d}.JPEG", 90 + k)


def imagenetv2(root: Path) -> None:
    top = root / "imagenetv2"
    top.mkdir(parents=True)
    ids = [f"n{i:08d}" for i in range(12)]
    (top / "classnames.txt").write_text("".join(f"{wnid} class {i}\n" for i, wnid in enumerate(ids)))
    for i in range(12):
        picture(top / f"imagenetv2-matched-frequency-format-val/{i}/picture{i}.jpeg", i)


def imagenet_sketch(root: Path) -> None:
    class_names(root / "imagenet-sketch")
    for k, wnid in enumerate(WNIDS):
        picture(root / f"imagenet-sketch/images/{wnid}/sketch_{k}.JPEG", k)


def two_hundred(folder: str, images: str) -> Callable[[Path], None]:
    """ImageNet-A or -R: a few of the classes, without a classnames.txt of its own."""

    def write(root: Path) -> None:
        class_names(root / "imagenet")
        for k, wnid in enumerate(WNIDS[1:3]):
            picture(root / folder / images / wnid / f"art_{k}.jpg", k)
        (root / folder / images / "README.txt").write_text("about")

    return write


MINIATURES: dict[str, Callable[[Path], None]] = {
    "imagenet": imagenet,
    "caltech101": caltech101,
    "oxford_pets": oxford_pets,
    "stanford_cars": stanford_cars,
    "oxford_flowers": oxford_flowers,
    "food101": food101,
    "fgvc_aircraft": fgvc_aircraft,
    "sun397": sun397,
    "dtd": dtd,
    "eurosat": eurosat,
    "ucf101": ucf101,
    "imagenetv2": imagenetv2,
    "imagenet_sketch": imagenet_sketch,
    "imagenet_a": two_hundred("imagenet-adversarial", "imagenet-a"),
    "imagenet_r": two_hundred("imagenet-rendition", "imagenet-r"),
    "resisc45": resisc45,
}

"""COCO's JSON: images, annotations, categories; each picture as a whole of the one category that it shows.

Source: the data format of the COCO API; files of Roboflow, CVAT, FiftyOne and Label Studio look the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format, Predicted
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.noted import few
from cliptune.reading import shown

_PARTS = ("images", "annotations", "categories")


def _recognises(file: Opened) -> bool:
    content = file.json
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in _PARTS)


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    names = _by_id(file.json["categories"], "name", f"{who}, categories")
    images = _by_id(file.json["images"], "file_name", f"{who}, images")
    shows: dict[Any, set[str]] = {image: set() for image in images}
    boxes = False
    for i, annotation in enumerate(file.json["annotations"]):
        where = f"{who}, annotations[{i}]"
        known = isinstance(annotation, dict) and all(
            isinstance(annotation.get(key), (int, str)) for key in ("image_id", "category_id")
        )
        if not known or annotation["image_id"] not in shows or annotation["category_id"] not in names:
            raise ValueError(
                f"{where}: expected the ids of an image and of a category that are listed. Export it again."
            )
        shows[annotation["image_id"]].add(names[annotation["category_id"]])
        boxes |= bool(annotation.get("bbox"))
    _check_one_each(shows, images, who)
    rows = [Row(f"{who}, image {image}", images[image], next(iter(c)), None) for image, c in shows.items() if c]
    notes = passed_over(who, [images[i] for i, c in shows.items() if not c], "since it has no annotation")
    if boxes:
        notes.append(f"{who}: boxes are not looked at; every picture is taken as a whole for its one category.")
    return Content(rows, notes)


def _check_one_each(shows: Mapping[Any, set[str]], images: Mapping[Any, str], who: str) -> None:
    several = [image for image, categories in shows.items() if len(categories) > 1]
    if several:
        first = several[0]
        raise ValueError(
            f"{who}: {len(several)} of {len(shows)} pictures show more than one category ({shown(images[first])}: "
            f"{few(map(shown, sorted(shows[first])))}), and whole pictures are told apart by one each. "
            "Cut the boxes out into pictures of their own, or take these pictures out."
        )


def _by_id(entries: Sequence[Any], key: str, where: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for i, entry in enumerate(entries):
        fits = isinstance(entry, dict) and isinstance(entry.get("id"), (int, str)) and isinstance(entry.get(key), str)
        if not fits or entry["id"] in found or not entry[key].strip():
            raise ValueError(f"{where}[{i}]: expected an id that is not there yet, and {key}. Export it again.")
        found[entry["id"]] = entry[key]
    return found


def _write(predictions: Sequence[Predicted], classes: Sequence[str]) -> str:
    """A picture's class is an annotation over all of it, with its probability as score."""
    ids = {name: i for i, name in enumerate(classes, 1)}
    images, annotations = [], []
    for i, predicted in enumerate(predictions, 1):
        width, height = predicted.size
        name, probability = predicted.classes[0]
        images.append({"id": i, "file_name": predicted.path, "width": width, "height": height})
        annotations.append(
            {
                **{"id": i, "image_id": i, "category_id": ids[name], "score": round(probability, 6)},
                **{"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0},
            }
        )
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


FORMAT = Format(
    "COCO's annotations",
    ("_annotations.coco.json", "labels.json", "result.json", "annotations.json", "coco.json", "instances_*.json"),
    _recognises,
    _read,
    write=_write,
    key="coco",
)

"""FiftyOne: `labels.json` of a FiftyOneImageClassificationDataset, and `samples.json` of a FiftyOneDataset.

Source: the exporters of fiftyone 1.x.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cliptune.data.own.naming import SPLIT_NAMES
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format, Predicted
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.reading import listed, shown

_USUAL_FIELD = "ground_truth"


def _recognises(file: Opened) -> bool:
    return _are_labels(file.json) or _are_samples(file.json)


def _are_labels(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("labels"), dict) and "classes" in content


def _are_samples(content: Any) -> bool:
    samples = content.get("samples") if isinstance(content, dict) else None
    return isinstance(samples, list) and bool(samples) and isinstance(samples[0], dict) and "filepath" in samples[0]


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    return _of_labels(file.json, who) if _are_labels(file.json) else _of_samples(file.json["samples"], columns, who)


def _of_labels(content: Mapping[str, Any], who: str) -> Content:
    classes = content["classes"]
    if not (classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))):
        raise ValueError(f"{who}: expected classes to be a list of names or null. Export it again.")
    rows: list[Row] = []
    without: list[str] = []
    for picture, label in content["labels"].items():
        where = f"{who}, {shown(picture)}"
        name = _name(label["label"] if isinstance(label, dict) and "label" in label else label, classes, where)
        if name is None:
            without.append(picture)
        else:
            rows.append(Row(where, picture, name, None))
    return Content(rows, passed_over(who, without, "since it has no label"))


def _name(label: Any, classes: Sequence[str] | None, where: str) -> str | None:
    """A class is named, or counted among the classes."""
    if label is None:
        return None
    if isinstance(label, str) and label.strip():
        return label
    if type(label) is int and classes is not None and 0 <= label < len(classes) and classes[label].strip():
        return classes[label]
    raise ValueError(
        f"{where}: expected the name of a class or its place among {len(classes or ())} classes, got "
        f"{shown(json.dumps(label))!r}. Export it again."
    )


def _of_samples(samples: Sequence[Any], columns: Mapping[str, str], who: str) -> Content:
    for i, sample in enumerate(samples):
        if not isinstance(sample, dict) or not isinstance(sample.get("filepath"), str):
            raise ValueError(f"{who}, samples[{i}]: expected an object with filepath. Export it again.")
    field = _field(samples, columns, who)
    labelled = [(sample, _label_of(sample.get(field))) for sample in samples]
    splits = [_split(sample) for sample, label in labelled if label is not None]
    told = all(splits)
    rows = [
        Row(f"{who}, {shown(sample['filepath'])}", sample["filepath"], label, _split(sample) if told else None)
        for sample, label in labelled
        if label is not None
    ]
    notes = passed_over(who, [s["filepath"] for s, label in labelled if label is None], "since it has no label")
    return Content(rows, notes)


def _field(samples: Sequence[Mapping[str, Any]], columns: Mapping[str, str], who: str) -> str:
    fields = sorted({key for sample in samples for key, value in sample.items() if _label_of(value) is not None})
    asked = columns.get("label", _USUAL_FIELD if _USUAL_FIELD in fields else None)
    if asked in fields:
        return str(asked)
    if asked is not None or len(fields) != 1:
        raise ValueError(
            f"{who}: expected one field with a Classification, got {len(fields)} ({listed(fields) or 'none'}). "
            "Say which: --columns label=FIELD."
        )
    return fields[0]


def _label_of(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("_cls") != "Classification":
        return None
    label = value.get("label")
    return label if isinstance(label, str) and label.strip() else None


def _split(sample: Mapping[str, Any]) -> str | None:
    """The one split that the tags name."""
    tags = sample.get("tags")
    named = {SPLIT_NAMES[t.lower()] for t in (tags if isinstance(tags, list) else []) if _is_split(t)}
    return named.pop() if len(named) == 1 else None


def _is_split(tag: Any) -> bool:
    return isinstance(tag, str) and tag.lower() in SPLIT_NAMES


def _write(predictions: Sequence[Predicted], classes: Sequence[str]) -> str:
    """A FiftyOneImageClassificationDataset's `labels.json` with confidences; pictures are called without suffix."""
    place = {name: i for i, name in enumerate(classes)}
    labels = {
        str(PurePosixPath(predicted.path).with_suffix("")): {
            "label": place[predicted.classes[0][0]],
            "confidence": round(predicted.classes[0][1], 6),
        }
        for predicted in predictions
    }
    if len(labels) < len(predictions):
        raise ValueError(
            "FiftyOne calls pictures by their names without suffix, and two here differ in it alone. Use --format "
            "coco, or rename one."
        )
    return json.dumps({"classes": list(classes), "labels": labels}, indent=1, ensure_ascii=False) + "\n"


FORMAT = Format(
    "FiftyOne's export",
    ("labels.json", "samples.json"),
    _recognises,
    _read,
    columns=True,
    write=_write,
    key="fiftyone",
)

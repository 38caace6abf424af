"""Label Studio: exports as JSON, JSON-MIN and CSV, and predictions that it shows to annotators.

Source: the export formats of Label Studio 1.x, as label-studio-sdk's converter writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cliptune.data.images import SUFFIXES
from cliptune.data.own.columns import IMAGES, plain
from cliptune.data.own.finder import local_part
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format, Predicted
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.noted import few
from cliptune.reading import json_value, listed, shown

_KEPT = {"annotator", "annotation_id", "created_at", "updated_at", "lead_time", "id", "agreement", "comment"}
"""What the tool itself keeps beside the data and the answers."""
_SIGNS = {"annotator", "annotation_id", "lead_time"}
"""Those by which a table or a list of objects is known as an export."""


def _recognises(file: Opened) -> bool:
    content = file.json
    if isinstance(content, list) and content and isinstance(content[0], dict):
        first = content[0]
        return len(_SIGNS & set(first)) >= 2 or _is_task(first)
    return file.table is not None and len(_SIGNS & set(file.table[0] if file.table else ())) >= 2


def _is_task(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("data"), dict) and any(isinstance(entry.get(k), list) for k in _ANSWERS)


_ANSWERS = ("annotations", "completions", "predictions")


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    content = file.json
    if isinstance(content, list):
        wrong = next((i for i, entry in enumerate(content) if not isinstance(entry, dict)), None)
        if wrong is not None:
            raise ValueError(f"{who}, entry {wrong + 1}: expected an object. Export the project again.")
        if _is_task(content[0]):
            return _of_tasks(content, columns, who)
        entries = [(f"{who}, entry {i}", entry) for i, entry in enumerate(content, 1)]
    else:
        header, *lines = file.table or [[]]
        entries = [(f"{who}, row {i}", dict(zip(header, line, strict=False))) for i, line in enumerate(lines, 1)]
    return _of_flat(entries, columns, who)


def _of_tasks(tasks: Sequence[Mapping[str, Any]], columns: Mapping[str, str], who: str) -> Content:
    notes = []
    answers = [_answers(task, ("annotations", "completions")) for task in tasks]
    if not any(answers):
        answers = [_answers(task, ("predictions",)) for task in tasks]
        if any(answers):
            notes.append(f"{who}: nobody has annotated; the classes are those of the predictions in it.")
    fields = sorted({field for found in answers for field, _ in found})
    field = _one_field(fields, columns, who)
    image = columns.get("image") or _image_key([task.get("data") for task in tasks], who)
    labelled = []
    for i, (task, found) in enumerate(zip(tasks, answers, strict=True), 1):
        data = task.get("data")
        reference = data.get(image) if isinstance(data, dict) else None
        choices = [choice for name, choice in found if name == field]
        labelled.append((f"{who}, task {task.get('id', i)}", reference, choices))
    return _content(labelled, notes, who)


def _answers(task: Mapping[str, Any], kinds: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """(name of the field, what was chosen) of every answer to a task that was not cancelled."""
    given = [answer for kind in kinds for answer in _listed(task.get(kind)) if isinstance(answer, dict)]
    results = [r for answer in given if not answer.get("was_cancelled") for r in _listed(answer.get("result"))]
    return [
        (str(result.get("from_name", "")), _listed(result["value"].get("choices")))
        for result in results
        if isinstance(result, dict) and result.get("type") == "choices" and isinstance(result.get("value"), dict)
    ]


def _of_flat(entries: Sequence[tuple[str, Mapping[str, Any]]], columns: Mapping[str, str], who: str) -> Content:
    """JSON-MIN and CSV: an object for each answer."""
    image = columns.get("image") or _image_key([entry for _, entry in entries], who)
    names = sorted({key for _, entry in entries for key in entry} - _KEPT - {image})
    filled = [name for name in names if any(entry.get(name) not in (None, "", []) for _, entry in entries)]
    field = _one_field(filled, columns, who)
    by_picture: dict[Any, tuple[str, Any, list[list[Any]]]] = {}
    for where, entry in entries:
        reference = entry.get(image)
        _, _, choices = by_picture.setdefault(str(reference), (where, reference, []))
        choices += [] if entry.get(field) in (None, "", []) else [_chosen(entry[field])]
    return _content(list(by_picture.values()), [], who)


def _chosen(value: Any) -> list[Any]:
    """One choice is a text; several are a list or {"choices": [...]}, in tables as JSON."""
    if isinstance(value, str) and value[:1] in "{[" and value[-1:] in "}]":
        try:
            value = json_value(value)
        except ValueError:  # a class whose name is written in brackets
            return [value]
    if isinstance(value, dict):
        value = value.get("choices")
    return value if isinstance(value, list) else [value]


def _content(labelled: Sequence[tuple[str, Any, list[list[Any]]]], notes: list[str], who: str) -> Content:
    rows: list[Row] = []
    without: list[str] = []
    torn: list[str] = []
    for where, reference, choices in labelled:
        several = next((c for c in choices if len(c) != 1 or not isinstance(c[0], str) or not c[0].strip()), None)
        if several is not None:
            raise ValueError(
                f"{where}: expected one choice for each picture, got {len(several)} ({listed(several)}). Pictures of "
                'several classes cannot be told apart by one name: use choice="single", or take them out.'
            )
        if choices and not (isinstance(reference, str) and reference.strip()):
            raise ValueError(f"{where}: expected the address of a picture, got {shown(str(reference))!r}.")
        named = {c[0].strip() for c in choices}
        if len(named) == 1:
            rows.append(Row(where, reference, named.pop(), None))
        else:
            (torn if named else without).append(str(reference))
    notes += passed_over(who, without, "since nobody chose a class")
    notes += passed_over(who, torn, "since annotators chose different classes")
    return Content(rows, notes, uploads=True)


def _one_field(fields: Sequence[str], columns: Mapping[str, str], who: str) -> str:
    asked = columns.get("label")
    if asked is not None and asked in fields:
        return asked
    if asked is not None or len(fields) != 1:
        raise ValueError(
            f"{who}: expected one field of choices, got {len(fields)} ({listed(fields) or 'none'}). "
            "Say which: --columns label=FIELD; boxes and other marks are no classes of pictures."
        )
    return fields[0]


def _image_key(entries: Sequence[Any], who: str) -> str:
    """The key under which entries have a picture: by its name, or since its values look like pictures."""
    objects = [entry for entry in entries if isinstance(entry, dict)]
    keys = list(dict.fromkeys(key for entry in objects for key in entry))
    for fits in (lambda key: plain(key) in IMAGES[0], lambda key: all(map(_is_picture, _values(objects, key)))):
        fitting = [key for key in keys if fits(key) and key not in _KEPT]
        if len(fitting) == 1:
            return fitting[0]
    raise ValueError(
        f"{who}: it cannot be told which of {few(map(shown, keys), 8) or 'no keys'} holds the pictures. Say it: "
        "--columns image=KEY."
    )


def _values(entries: Sequence[Mapping[str, Any]], key: str) -> Iterator[Any]:
    return (entry[key] for entry in entries if key in entry)


def _is_picture(value: Any) -> bool:
    local = (local_part(value) or value) if isinstance(value, str) else ""
    return PurePosixPath(local).suffix.lower() in SUFFIXES


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _write(predictions: Sequence[Predicted], classes: Sequence[str]) -> str:
    """Tasks with a prediction each, to import into a project whose configuration has
    `<Image name="image" value="$image"/>` and `<Choices name="choice" toName="image">`.
    """
    return json.dumps([_task(predicted) for predicted in predictions], indent=1, ensure_ascii=False) + "\n"


def _task(predicted: Predicted) -> dict[str, Any]:
    name, probability = predicted.classes[0]
    result = {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [name]}}
    prediction = {"model_version": "cliptune", "score": round(probability, 6), "result": [result]}
    return {"data": {"image": f"/data/local-files/?d={predicted.path}"}, "predictions": [prediction]}


FORMAT = Format(
    "Label Studio's export",
    ("result.json", "result.csv", "project-*-at-*.json", "project-*-at-*.csv"),
    _recognises,
    _read,
    columns=True,
    write=_write,
    key="labelstudio",
)

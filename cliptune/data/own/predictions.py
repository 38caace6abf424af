"""Predictions as files: lists of our own, and what annotation tools take."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cliptune.data.own.port import Predicted
from cliptune.data.own.readers import known_formats
from cliptune.files import atomic_write_text


def prediction_formats() -> dict[str, Callable[[Sequence[Predicted], Sequence[str]], str]]:
    """Name → writer of (predictions, names of all classes) of every format that holds predictions."""
    writers = {known.key: known.write for known in known_formats() if known.write is not None}
    return {"csv": _csv, "jsonl": _json_lines, **writers}


def write_predictions(
    path: str | Path,
    kind: str,
    predictions: Sequence[Predicted],
    classes: Sequence[str],
    *,
    overwrite: bool = False,
) -> None:
    """Write predictions to a file, which every reader here reads again as the classes of the pictures.

    Args:
        path: the file.
        kind: csv, jsonl, labelstudio, coco or fiftyone.
        predictions: one per picture; pictures below the file's folder are named relative to it.
        classes: names of all classes, in the order of the labels.
        overwrite: replace the file.
    Raises: ValueError for another kind, no predictions, or a file that is there already.
    """
    writers = prediction_formats()
    if kind not in writers:
        raise ValueError(f"Predictions are written as {', '.join(writers)}, not as {kind!r}.")
    if not predictions:
        raise ValueError(f"There are no predictions to write to {path}.")
    check_free(path, overwrite=overwrite)
    named = [replace(predicted, path=_written_path(predicted.path, path)) for predicted in predictions]
    atomic_write_text(path, writers[kind](named, classes))


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Raises: ValueError if there is such a file, and it is not to be replaced."""
    if Path(path).exists() and not overwrite:
        raise ValueError(f"{path} is there already. Give another file, --out FILE, or --overwrite to replace it.")


def _written_path(picture: str | Path, file: str | Path) -> str:
    """A picture's path for a file of predictions: relative to the file's folder if it lies below it, else absolute."""
    absolute, folder = os.path.abspath(picture), os.path.abspath(Path(file).parent)
    inside = os.path.relpath(absolute, folder)
    return Path(absolute if inside.split(os.sep)[0] == ".." else inside).as_posix()


def _csv(predictions: Sequence[Predicted], classes: Sequence[str]) -> str:
    """image, label and probability of the most probable class."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "label", "probability"])
    for predicted in predictions:
        name, probability = predicted.classes[0]
        rows.writerow([predicted.path, name, f"{probability:.6f}"])
    return text.getvalue()


def _json_lines(predictions: Sequence[Predicted], classes: Sequence[str]) -> str:
    """image, label, probability, all that was asked for under predictions, and the set under set if there are sets."""
    lines = []
    for predicted in predictions:
        ranked = [{"class": name, "probability": round(value, 6)} for name, value in predicted.classes]
        first = {"image": predicted.path, "label": ranked[0]["class"], "probability": ranked[0]["probability"]}
        sets = {} if predicted.among is None else {"set": list(predicted.among)}
        lines.append(json.dumps({**first, "predictions": ranked, **sets}, ensure_ascii=False) + "\n")
    return "".join(lines)

"""Few-shot picks as files: our JSON, and the field's pickles read without executing them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliptune.data.fewshot import MAX_VAL_SHOTS, few_shot_indices
from cliptune.data.items import Dataset, Split
from cliptune.noted import warn
from cliptune.reading import check_pickle, content_of, json_value, listed, shown

FORMAT = "fewshot/1"

PICKED = ("train", "val")

DRAWN = "cpython-random"
IMPORTED = "imported"

PICKLE_CLASSES = frozenset({("dassl.data.datasets.base_dataset", "Datum"), ("datasets.utils", "Datum")})
"""Module and name of the one class that the field's pickles hold."""

PICKLE_LIMIT = 2**28


def few_shot_record(dataset: Dataset, shots: int, seed: int, *, repeat: bool = False) -> dict[str, Any]:
    """The picks of (dataset, shots, seed) as JSON content; the same arguments always give the same record."""
    train, val = few_shot_indices(
        dataset.train.labels.tolist(), dataset.val.labels.tolist(), shots, seed, repeat=repeat
    )
    return _record(dataset, train, val, shots=shots, seed=seed, repeat=repeat, rng=DRAWN)


def read_few_shot(path: str | Path, dataset: Dataset) -> Dataset:
    """The whole data set reduced to the picks of a record.

    Drawn picks are drawn again and compared; if the record belongs to another version of the split it is
    stale, and the picks of this version are used, with a warning and a note. Imported picks are taken as they stand and
    must exist in the split.

    Raises: FileNotFoundError; ValueError for another format, or picks that contradict the split or the rule.
    """
    path = Path(path)
    who = f"Few-shot file {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a JSON file, found nothing. Check the path.")
    try:
        record = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{who}: expected JSON, but {error}. Delete it; it can be made again.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        came = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ValueError(
            f"{who}: expected format {FORMAT!r}, got {shown(str(came))!r}. Delete it; it can be made again."
        )
    sampling, train, val = _parts(record, who)
    rng, sha256 = record.get("rng"), record.get("split_sha256")
    stale = sha256 != dataset.split_sha256
    if rng == DRAWN:
        again = few_shot_record(dataset, **sampling)
        notes = dataset.notes
        if stale:
            notes += (
                f"{who} was made for another version of {dataset.name}'s split; the picks were drawn again "
                f"with {sampling['shots']} shots and seed {sampling['seed']}.",
            )
            warn(notes[-1])
        elif again != record:
            raise ValueError(
                f"{who}: its picks are not those of its seed, so it was edited. Delete it and sample again."
            )
        picked = dataset.with_picks(again["train"]["indices"], again["val"]["indices"], {**sampling, "rng": DRAWN})
        return replace(picked, notes=notes)
    if stale:
        raise ValueError(f"{who}: its picks were imported for another version of {dataset.name}'s split. Import again.")
    if _record(dataset, *_in_range(train, val, dataset, who), **sampling, rng=rng) != record:
        raise ValueError(f"{who}: its items contradict its indices, so it was edited. Import the picks again.")
    picked = dataset.with_picks(train, val, {**sampling, "rng": rng})
    if val or not len(dataset.val):
        return picked
    return replace(picked, notes=(*dataset.notes, f"{who} picks no validation images, so none are left."))


def _parts(record: Mapping[str, Any], who: str) -> tuple[dict[str, Any], Any, Any]:
    """How a record was sampled, and its picks, which are not looked at yet. Raises: ValueError."""
    sampling = {name: record.get(name) for name in ("shots", "seed", "repeat")}
    train, val = (record[split].get("indices") if isinstance(record.get(split), dict) else None for split in PICKED)
    kinds = [type(value) for value in sampling.values()]
    if kinds != [int, int, bool] or not isinstance(train, list) or not isinstance(val, list):
        raise ValueError(
            f"{who}: the record is incomplete: expected shots and seed as whole numbers, repeat as true or false, and "
            "the indices of train and val as lists. Delete it; it can be made again."
        )
    if record["repeat"] and record["shots"] > len(train):  # drawing that many could take forever
        raise ValueError(
            f"{who}: it lists {len(train)} training images and says that every class has {record['shots']}, so it was "
            "edited. Delete it; it can be made again."
        )
    return sampling, train, val


def import_few_shot_pickle(
    path: str | Path, dataset: Dataset, *, shots: int, seed: int, image_folder: str | None = None
) -> dict[str, Any]:
    """The record of somebody's `split_fewshot/shot_<k>-seed_<s>.pkl`, by a reader that builds nothing but
    plain values.

    Args:
        path: pickle of `{"train": [Datum …], "val": [Datum …]}`; val may be missing.
        dataset: the whole data set that the picks are looked up in.
        shots, seed: what the file's name says; noted in the record, not checked (ImageNet's picks depend on
            the machine).
        image_folder: name of the folder that the dataset's paths are relative to; by default that of
            `dataset.root`. The absolute paths in the file are cut after it.
    Raises: FileNotFoundError; ValueError if the file holds anything else, or an image that the split does not
        have.
    """
    path = Path(path)
    who = f"Few-shot pickle {path}"
    if image_folder is None:
        if dataset.root is None:
            raise ValueError(f"{who}: {dataset.name} has no root, so give image_folder, the folder before its paths.")
        image_folder = dataset.root.resolve().name
    content = _unpickled(path, who)
    if set(content) - {"train", "val"} or "train" not in content:
        names = listed(name if isinstance(name, str) else f"a {type(name).__name__}" for name in content)
        raise ValueError(
            f"{who}: expected the lists train and val, got {names}. Use few-shot sampling by seed instead."
        )
    train, val = (
        _positions(content.get(split, []), dataset[split], image_folder, f"{who}, {split}")
        for split in ("train", "val")
    )
    return _record(dataset, train, val, shots=shots, seed=seed, repeat=False, rng=IMPORTED)


def _record(dataset: Dataset, train: list[int], val: list[int], **sampling: Any) -> dict[str, Any]:
    def listed(split: Split, indices: list[int]) -> dict[str, Any]:
        items = [split.items[i] for i in indices]
        return {
            "indices": list(indices),
            "items": [[item.path, item.label, item.class_name] for item in items],
        }

    shots = sampling["shots"]
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "split_sha256": dataset.split_sha256,
        "shots": shots,
        "val_shots": min(shots, MAX_VAL_SHOTS),
        "seed": sampling["seed"],
        "repeat": sampling["repeat"],
        "rng": sampling["rng"],
        "train": listed(dataset.train, train),
        "val": listed(dataset.val, val),
    }


def _in_range(train: Any, val: Any, dataset: Dataset, who: str) -> tuple[list[int], list[int]]:
    for split, indices in (("train", train), ("val", val)):
        n = len(dataset[split])
        if not isinstance(indices, list) or any(type(i) is not int or not 0 <= i < n for i in indices):
            raise ValueError(f"{who}: {split} indices must be integers from 0 to {n - 1}. Import the picks again.")
    return train, val


class _PlainUnpickler(pickle.Unpickler):
    """Builds dicts, lists, strings, numbers, and for `Datum` an inert holder of attributes; refuses every
    other class.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.datum = type("Datum", (), {})  # a fresh class each time, so that no file can change another's

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PICKLE_CLASSES:
            return self.datum
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickled(path: Path, who: str) -> Mapping[Any, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a file, found nothing. Check the path.")
    if path.stat().st_size > PICKLE_LIMIT:
        raise ValueError(
            f"{who}: {path.stat().st_size:,} bytes are too many for few-shot picks (at most {PICKLE_LIMIT:,})."
        )
    try:
        raw = path.read_bytes()
        check_pickle(raw)
        content = _PlainUnpickler(io.BytesIO(raw)).load()
    except Exception as error:  # a malformed pickle fails in many ways, none of which has built anything
        reason = shown(str(error) or type(error).__name__, 200)
        raise ValueError(
            f"{who}: expected lists of Datum and nothing else, but {reason}. It was not executed; "
            "use few-shot sampling by seed instead."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{who}: expected a dictionary of lists, got {type(content).__name__}.")
    return content


def _number(label: int) -> str:
    return f"{label}" if abs(label) < 10**9 else "far too large"


def _positions(data: Any, split: Split, image_folder: str, who: str) -> list[int]:
    if not isinstance(data, list):
        raise ValueError(f"{who}: expected a list of Datum, got {type(data).__name__}.")
    position = {(item.path, item.label): i for i, item in enumerate(split.items)}
    found = []
    for datum in data:
        attributes = getattr(datum, "__dict__", {})
        path, label = attributes.get("_impath"), attributes.get("_label")
        if not isinstance(path, str) or type(label) is not int:
            raise ValueError(f"{who}: expected Datum with a path and a label, got {type(datum).__name__}.")
        parts = path.replace("\\", "/").split("/")
        tails = ("/".join(parts[i + 1 :]) for i, part in enumerate(parts) if part == image_folder)
        here = next((position[tail, label] for tail in tails if (tail, label) in position), None)
        if here is None:
            raise ValueError(
                f"{who}: the split has no image {shown(path, 200)!r} with label {_number(label)} after the folder "
                f"{image_folder!r}. Give the right data set, or the right image_folder."
            )
        found.append(here)
    return found

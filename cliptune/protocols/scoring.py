"""Scoring a finished run: its own images, other classes, another data set; entered into its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.calibration import Calibration
from cliptune.data.items import Dataset, Split
from cliptune.data.metrics import expected_calibration_error, harmonic_mean
from cliptune.data.spec import DataSpec
from cliptune.noted import once
from cliptune.protocols.training import class_set
from cliptune.protocols.transfer import note_target
from cliptune.runs.folder import held, read_config, read_images, read_result
from cliptune.runs.loading import choose_weight
from cliptune.runs.manifest import check_whole, write_result
from cliptune.runs.predictions import write_predictions
from cliptune.training import Evaluation, evaluate
from cliptune.training.fit import add_notes
from cliptune.training.precision import chosen


@dataclass(frozen=True)
class Scored:
    """What was measured.

    Args:
        name: under which the result has it, such as "test", "new" or "tinyworld/garden/test".
        evaluation: the numbers.
        data: that was scored, cut to `classes`.
        classes: "all", "base" or "new".
        weight: ω that mixed the two prompts; None for an adapter of one.
        own_images: false if these are no longer the images, or the split, that the run was made with.
        notes: what was replaced, left out or decided for this evaluation, a sentence each; the last one says so where
            the images are not the run's own.
        calibrated: "temperature", and "ece" in % with it; under "sets", if a coverage was asked for, "asked", "held",
            how many of the "n" images have their class in their set, and "mean_size" in classes. None for an adapter
            that is not calibrated for these classes.
    """

    name: str
    evaluation: Evaluation
    data: Dataset
    classes: str
    weight: float | None
    own_images: bool
    notes: tuple[str, ...] = ()
    calibrated: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class OwnImages:
    """Images of a run's own data.

    Args:
        dataset: cut to the classes that were asked for.
        images: of the split that was asked for.
        same: false if data or split are no longer those that the run was made with.
    """

    dataset: Dataset
    images: Split
    same: bool


def own_images(
    folder: str | Path, split: str = "test", *, classes: str | None = None, root: str | None = None
) -> OwnImages:
    """Open images of a run's own data.

    Args:
        folder: of the finished run.
        split: "train" means the images that it was trained on.
        classes: "all", "base" or "new"; None for those it was trained on.
        root: where the data lie now, if they were moved.
    Raises: ValueError or FileNotFoundError if the data cannot be opened again or have no such images.
    """
    result = read_result(folder) or {}
    trained = result.get("data") or {}
    wanted = classes or trained.get("classes", "all")
    picked = (trained.get("sampling") or {}) if split == "train" else {}
    dataset = _as_trained(_own_data(folder, result, root), picked, wanted).open()
    images = _own_split(folder, trained, picked, dataset, split, wanted)
    return OwnImages(dataset, _some(images, dataset, split), dataset.split_sha256 == trained.get("split_sha256"))


def score_run(
    folder: str | Path,
    adapter: Adapter,
    *,
    data: DataSpec | None = None,
    root: str | None = None,
    classes: str | None = None,
    split: str = "test",
    precision: str | None = None,
    weight: float | None = None,
    workers: int = 0,
    truncate: bool = False,
    elsewhere: bool = False,
    coverage: float | None = None,
) -> Scored:
    """Score a run's adapter. What is measured on test images is entered into its `result.json`: in another precision or
    weight than the run's own under a name that says so, such as "test (bf16)".

    Args:
        folder: of the finished run.
        adapter: of it; it speaks of the scored classes afterwards.
        data: another data set; None for the run's own.
        root: where the run's own data lies now, if it was moved.
        classes: to tell apart; None for those it was trained on, or all of another data set.
        split: "train" means the images that it was trained on.
        precision: of the frozen towers; None for the run's.
        weight: ω in [0, 1], see `choose_weight`.
        workers: processes that read images.
        truncate: cut class names that are too long for the text tower, see `Adapter.set_classes`.
        elsewhere: the adapter stands on another backbone than the run's, which the name then says.
        coverage: of sets of classes, in (0, 1), for a calibrated run.
    Raises: ValueError if the run is damaged, or sets are asked for that the calibration does not hold for, or the
        data cannot be opened again or has no such images.
    """
    check_whole(folder)
    result = read_result(folder) or {}
    own_precision = read_config(folder).get("precision", "fp32")  # a converted checkpoint has none
    trained = result.get("data") or {}
    wanted = classes or ("all" if data is not None else trained.get("classes", "all"))
    opened = _own_data(folder, result, root) if data is None else data
    picked = (trained.get("sampling") or {}) if data is None and split == "train" else {}
    dataset = _as_trained(opened, picked, wanted).open()
    same = dataset.split_sha256 == trained.get("split_sha256")
    if data is not None and same and _names_the_same(opened, result):
        data = None
    known = adapter.trained_classes
    if data is None:
        adapter.set_classes(class_set(dataset, known).with_template(known.template), truncate=truncate)
    else:
        adapter.set_classes(class_set(dataset), truncate=truncate)
    images = dataset[split] if data is not None else _own_split(folder, trained, picked, dataset, split, wanted)
    _some(images, dataset, split)
    mixed = choose_weight(adapter, weight)
    precision = chosen(precision or own_precision, adapter.clip).precision
    if coverage is not None and adapter.uncalibrated:
        raise ValueError(f"eval: {adapter.uncalibrated}")
    calibration = None if adapter.uncalibrated else adapter.calibration
    evaluation = evaluate(adapter, images, precision=precision, workers=workers, keep_logits=calibration is not None)
    calibrated = None if calibration is None else _calibrated(calibration, evaluation, images.labels, coverage)
    name = _name(None if data is None else dataset.name, wanted, split)
    # Never in the place of the number that the run itself measured, or will.
    if data is None and not same:
        name = f"{name} (split {dataset.split_sha256[:8]})"
    if weight is not None:
        name = f"{name} (ω={weight:g})"
    if elsewhere:
        name = f"{name} (on {adapter.clip.name})"
    if precision != own_precision:
        name = f"{name} ({precision})"
    notes = once(dataset.notes, adapter.clip.notes, adapter.texts.notes)
    if data is None and not same:
        notes += (
            f"The images of {dataset.name} or their split are not those of the run any more: some of these {split} "
            "images may have been trained on.",
        )
    if elsewhere:
        notes += (f"What was learned on {result.get('backbone')} is scored on {adapter.clip.name}.",)
    if split == "test":
        with held(folder):
            result = read_result(folder) or {}  # another process may have entered something meanwhile
            if data is not None:
                note_target(result, name, None, dataset, adapter)
            add_notes(result, *notes)
            enter(folder, result, name, evaluation)
    return Scored(name, evaluation, dataset, wanted, mixed, data is not None or same, notes, calibrated)


def enter(folder: str | Path, result: dict[str, Any], name: str, evaluation: Evaluation) -> None:
    """Into the result of a finished run, and from there into its file; the answers into a file of their own before."""
    evaluations = result.setdefault("evaluations", {})
    entered = evaluation.summary()
    if evaluation.predictions is not None:
        entered["predictions"] = write_predictions(folder, name, evaluation.predictions)
    evaluations[name] = entered
    if result.get("protocol") == "base2new" and {"base", "new"} <= set(evaluations):
        base, new = (evaluations[half]["accuracy"] for half in ("base", "new"))
        result |= {"base": base, "new": new, "harmonic_mean": harmonic_mean(base, new)}
    write_result(Path(folder).expanduser(), result)


def _calibrated(
    calibration: Calibration, evaluation: Evaluation, labels: Tensor, coverage: float | None
) -> dict[str, Any]:
    logits = evaluation.logits
    assert logits is not None
    relative = logits.double() / calibration.temperature
    found = {"temperature": calibration.temperature, "ece": expected_calibration_error(relative, labels)}
    if coverage is None:
        return found
    inside = calibration.sets(relative.softmax(dim=-1), coverage)
    held = int(inside.gather(-1, labels[:, None]).sum())
    sizes = inside.sum(dim=-1).double()
    return {**found, "sets": {"asked": coverage, "held": held, "n": len(labels), "mean_size": float(sizes.mean())}}


def _own_data(folder: str | Path, result: Mapping[str, Any], root: str | None) -> DataSpec:
    source = result.get("source")
    if source is None:
        raise ValueError(
            f"Run folder {folder} does not say where its data lies. Name a data set or folder: --data NAME."
        )
    return DataSpec.of({**source, **({"root": root} if root is not None else {})})


def _as_trained(data: DataSpec, picked: Mapping[str, Any], classes: str) -> DataSpec:
    """With the few shots that a run picked."""
    part = {key: picked[key] for key in ("shots", "seed") if key in picked}
    again = {"repeat": True} if picked.get("repeat") else {}
    return replace(data, **part, classes=classes, options={**data.options, **again})


def _names_the_same(data: DataSpec, result: Mapping[str, Any]) -> bool:
    own = result.get("source")
    if own is None:
        return False
    there = DataSpec.of(own)
    return (data.name, data.root, data.source) == (there.name, there.root, there.source)


def _own_split(
    folder: str | Path,
    trained: Mapping[str, Any],
    picked: Mapping[str, Any],
    dataset: Dataset,
    split: str,
    classes: str,
) -> Split:
    """Images of the run's own data; where what was `picked` does not give those it learned from, its list does."""
    chosen_otherwise = "shots" not in picked and trained.get("sampling")
    if split == "train" and classes == trained.get("classes", "all") and chosen_otherwise:
        return _learned_from(folder, dataset[split])
    return dataset[split]


def _some(images: Split, dataset: Dataset, split: str) -> Split:
    """The images. Raises: ValueError if there is none."""
    if not len(images):
        raise ValueError(f"{dataset.name} has no {split} images to score. Choose another --split.")
    return images


def _learned_from(folder: str | Path, train: Split) -> Split:
    """The training images that the run's `split.json` lists."""
    names = {name for name, _, _ in (read_images(folder) or {"train": []})["train"]}
    return train.subset([i for i, name in enumerate(train.ids) if name in names])


def _name(other: str | None, classes: str, split: str) -> str:
    """Called "test" for all classes of the run's own data, else the half; another data set's name goes before it."""
    own = classes if classes != "all" else split
    return own if other is None else f"{other}/{own}"

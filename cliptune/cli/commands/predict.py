"""`cliptune predict`: name what is in pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cliptune.cli.shared.inputs import listed_names, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import count, percent, remark, say, show_json

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from cliptune.data.own.port import Predicted

    Ask = Callable[[list[Image.Image]], np.ndarray]
    """Pictures → probabilities (B, C)."""
    Choose = Callable[[np.ndarray], np.ndarray]
    """Probabilities (B, C) → which classes are in the set of each picture, (B, C) bool."""

_BATCH = 32


class _Answering(NamedTuple):
    """Class names, what answers, what makes sets if they are asked for, and what is open meanwhile."""

    class_names: tuple[str, ...]
    ask: Ask
    choose: Choose | None = None
    stream: AbstractContextManager[None] = nullcontext()


def predict(
    run: str,
    images: list[str],
    /,
    *,
    classes: str | None = None,
    top: int = 5,
    template: str | None = None,
    truncate: Flag = False,
    weight: float | None = None,
    backbone: str | None = None,
    device: str | None = None,
    scores: Literal["softmax", "sigmoid"] = "softmax",
    sets: float | None = None,
    json: Flag = False,
    format: Literal["csv", "jsonl", "labelstudio", "coco", "fiftyone"] | None = None,
    out: str | None = None,
    overwrite: Flag = False,
    verbose: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Name what is in pictures, with a finished run or an export of one.

    Parameters
    ----------
    run
        Folder of the run; or what `cliptune export` made of it: an ONNX file, which needs no torch, or a folder.
    images
        Picture files, or folders of them.
    classes
        Other names than those trained on: "lynx,puma", or a text file with one name in each line.
    top
        How many classes to show for each picture.
    template
        Sentence with {} for the name, for methods that use one.
    truncate
        Cut class names that have more tokens than the text tower reads, after the last word that fits, and say so.
    weight
        For runs with dpc: ω of the parallel prompt, in [0, 1]; if left out, that of trained classes where all are
        trained ones, else that of new classes.
    backbone
        Where the run's backbone is now, if it was moved.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    scores
        softmax: shared among the classes. sigmoid: of each class alone, for backbones trained so (SigLIP), where a
        picture may be of none of them.
    sets
        Of a run that `cliptune calibrate` calibrated: show the set of classes for each picture that holds the right one
        for this share of pictures, such as 0.9.
    json
        Print JSON: image, and class and probability of each prediction; with --sets also the set.
    format
        Of the file in --out: csv, jsonl; or labelstudio, coco, fiftyone, to go on with in these tools.
    out
        Write the predictions to this file, where pictures below its folder are named relative to it.
    overwrite
        Replace the file in --out.
    verbose
        Say first which backbone answers, and how its weights want pictures prepared.
    """
    from cliptune.exporting.opening import is_exported

    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}.")
    _check_target(format, out, overwrite)
    _check_sets(sets, scores, format)
    paths = pictures_in(images)
    if is_exported(run):
        fixed = {"classes": classes, "template": template, "weight": weight, "backbone": backbone, "device": device}
        fixed |= {"truncate": truncate or None, "verbose": verbose or None}
        fixed |= {"scores": None if scores == "softmax" else scores, "sets": sets}
        answering = _export(run, fixed, weights)
    else:
        answering = _adapter(run, classes, template, weight, backbone, device, weights, truncate, scores, sets, verbose)
    with answering.stream:
        found, sizes = _answered(paths, answering, top, tell=not json and out is None)
    unreadable = len(paths) - len(found)
    if json:
        show_json(found)
    if out is not None and format is not None and found:
        from cliptune.data.own.predictions import write_predictions

        write_predictions(out, format, _predicted(found, sizes), answering.class_names, overwrite=overwrite)
        remark(f"Written to {out}: {count(len(found), 'prediction')} as {format}.")
    if unreadable:
        others = "; the others were named" if unreadable < len(paths) else ""
        raise ValueError(f"{unreadable} of {len(paths)} pictures could not be read{others}.")


def _answered(
    paths: list[Path], answering: _Answering, top: int, *, tell: bool
) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """What is said of each picture that can be read, and its size."""
    from cliptune.data import ImageError, read_image
    from cliptune.timing import counted

    found: list[dict[str, Any]] = []
    sizes: list[tuple[int, int]] = []
    starts = range(0, len(paths), _BATCH)
    for start in counted(starts, len(starts), f"Naming {len(paths):,} pictures", None if tell else remark):
        opened = []
        for path in paths[start : start + _BATCH]:
            try:
                opened.append((path, read_image(path, exif=True)))
            except (ImageError, OSError) as error:
                remark(str(error))
        if not opened:
            continue
        probabilities = answering.ask([picture for _, picture in opened])
        best = (-probabilities).argsort(axis=-1, kind="stable")
        sizes += [picture.size for _, picture in opened]
        inside = None if answering.choose is None else answering.choose(probabilities)
        for row, ((path, _), values, labels) in enumerate(
            zip(opened, probabilities.tolist(), best.tolist(), strict=True)
        ):
            ranked = [{"class": answering.class_names[label], "probability": values[label]} for label in labels]
            entry: dict[str, Any] = {"image": str(path), "predictions": ranked[:top]}
            shown = entry["predictions"]
            if inside is not None:
                shown = [one for one, label in zip(ranked, labels, strict=True) if inside[row, label]]
                entry["set"] = [one["class"] for one in shown]
            found.append(entry)
            if tell:
                _tell(path, shown, alone=len(paths) == 1)
    return found, sizes


def _adapter(
    run: str,
    classes: str | None,
    template: str | None,
    weight: float | None,
    backbone: str | None,
    device: str | None,
    weights: WeightsOptions,
    truncate: bool,
    scores: Literal["softmax", "sigmoid"],
    sets: float | None,
    verbose: bool,
) -> _Answering:
    """Of a run.

    Raises: ValueError for sets of a run that is not calibrated for these classes.
    """
    import torch

    from cliptune.runs.loading import choose_weight

    adapter = open_run(run, backbone, device, weights)
    if classes is not None or template is not None:
        names = adapter.class_names if classes is None else listed_names(classes)
        adapter.set_classes(list(names), template=template, truncate=truncate)
        for note in adapter.texts.notes:
            remark(note)
    choose_weight(adapter, weight)
    if verbose:
        clip = adapter.clip
        remark(f"Backbone: {clip.name}, activation {clip.config.activation}.")
        remark(f"Pictures: {clip.preprocessing.told(adapter.resolution)}.")
    calibration, choose = adapter.calibration, None
    if sets is not None:
        if calibration is None or adapter.uncalibrated:
            raise ValueError(f"--sets: {adapter.uncalibrated}")
        calibration.threshold(sets)  # said before any picture is read
        choose = lambda values: calibration.sets(torch.from_numpy(values), sets).numpy()
    elif calibration is not None and adapter.uncalibrated and scores == "softmax":
        remark(f"Probabilities are without the temperature. {adapter.uncalibrated}")

    def ask(shown: list[Image.Image]) -> np.ndarray:
        answers: np.ndarray = adapter.probabilities(adapter.logits(shown), scores).cpu().numpy()
        return answers

    if adapter.head.order is not None:
        remark("This method answers each picture by those before it, so the order in which they are given matters.")
    return _Answering(adapter.class_names, ask, choose, adapter.head.stream())


def _export(run: str, fixed: dict[str, Any], weights: WeightsOptions) -> _Answering:
    """Of an export. Raises: ValueError if something is asked that an export has decided."""
    from cliptune.exporting.opening import open_exported

    given = [f"--{name}" for name, value in {**fixed, **weights.given}.items() if value is not None]
    if given:
        raise ValueError(
            f"predict: {run} is an export, whose classes, sentences and backbone are decided; {', '.join(given)} "
            "cannot change them. Leave it out, or export the run again."
        )
    model = open_exported(run)
    return _Answering(model.class_names, model.probabilities)


def _check_sets(sets: float | None, scores: str, format: str | None) -> None:
    """Raises: ValueError for sets of another kind of probabilities, or in a file that holds none."""
    if sets is not None and scores != "softmax":
        raise ValueError("--sets are made of probabilities that the classes share: leave out --scores sigmoid.")
    if sets is not None and format not in (None, "jsonl"):
        raise ValueError(
            f"--sets: a file of {format} holds one class for a picture and no set. Take --format jsonl, or --json."
        )


def _check_target(format: str | None, out: str | None, overwrite: bool) -> None:
    """Before anything is computed. Raises: ValueError for one of --format and --out alone, or a file that is there."""
    if (format is None) != (out is None):
        raise ValueError("--format and --out belong together, for example --format csv --out predictions.csv.")
    if out is not None:
        from cliptune.data.own.predictions import check_free

        check_free(out, overwrite=overwrite)


def _predicted(found: list[dict[str, Any]], sizes: list[tuple[int, int]]) -> list[Predicted]:
    from cliptune.data.own.port import Predicted

    return [
        Predicted(
            entry["image"], size, [(p["class"], p["probability"]) for p in entry["predictions"]], entry.get("set")
        )
        for entry, size in zip(found, sizes, strict=True)
    ]


def _tell(path: Path, predictions: list[dict[str, Any]], *, alone: bool) -> None:
    if alone:
        for entry in predictions:
            say(f"{percent(100 * entry['probability']):>6} %  {entry['class']}")
        return
    words = ", ".join(f"{entry['class']} {percent(100 * entry['probability'])} %" for entry in predictions)
    say(f"{path}: {words}")


def pictures_in(given: list[str]) -> list[Path]:
    """Files as given, folders replaced by the pictures in and below them. Raises: FileNotFoundError for what is not."""
    from cliptune.data.images import is_image_name

    paths: list[Path] = []
    for text in given:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if entry.is_file() and is_image_name(entry.name))
            if not inside:
                raise FileNotFoundError(f"The folder {path} holds no pictures (.jpg, .png, …).")
            paths += inside
        elif path.exists():
            paths.append(path)
        else:
            raise FileNotFoundError(f"There is no picture {path}. Check the path.")
    return paths

"""`cliptune predict`: name what is in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cliptune.cli.shared.inputs import listed_names, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import percent, remark, say, show_json

_BATCH = 32


def predict(
    run: str,
    images: list[str],
    /,
    *,
    classes: str | None = None,
    top: int = 5,
    template: str | None = None,
    weight: float | None = None,
    backbone: str | None = None,
    device: str | None = None,
    scores: Literal["softmax", "sigmoid"] = "softmax",
    json: Flag = False,
    verbose: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Name what is in pictures, with a finished run.

    Parameters
    ----------
    run
        Folder of the run.
    images
        Picture files, or folders of them.
    classes
        Other names than those trained on: "lynx,puma", or a text file with one name in each line.
    top
        How many classes to show for each picture.
    template
        Sentence with {} for the name, for methods that use one.
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
    json
        Print JSON: image, and class and probability of each prediction.
    verbose
        Say first which backbone answers, and how its weights want pictures prepared.
    """
    from cliptune.data import ImageError, read_image
    from cliptune.runs.loading import choose_weight

    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}.")
    paths = _pictures(images)
    adapter = open_run(run, backbone, device, weights)
    if classes is not None or template is not None:
        names = adapter.class_names if classes is None else listed_names(classes)
        adapter.set_classes(list(names), template=template)
    choose_weight(adapter, weight)
    if verbose:
        clip = adapter.clip
        remark(f"Backbone: {clip.name}, activation {clip.config.activation}.")
        remark(f"Pictures: {clip.preprocessing.told(adapter.resolution)}.")
    found: list[dict[str, Any]] = []
    unreadable = 0
    for start in range(0, len(paths), _BATCH):
        opened = []
        for path in paths[start : start + _BATCH]:
            try:
                opened.append((path, read_image(path, exif=True)))
            except (ImageError, OSError) as error:
                unreadable += 1
                remark(str(error))
        if not opened:
            continue
        logits = adapter.logits([picture for _, picture in opened])
        probabilities = adapter.probabilities(logits, scores).cpu()
        best = probabilities.topk(min(top, probabilities.shape[1]), dim=-1)
        for (path, _), values, labels in zip(opened, best.values.tolist(), best.indices.tolist(), strict=True):
            predictions = [
                {"class": adapter.class_names[label], "probability": value}
                for value, label in zip(values, labels, strict=True)
            ]
            found.append({"image": str(path), "predictions": predictions})
            if not json:
                _tell(path, predictions, alone=len(paths) == 1)
    if json:
        show_json(found)
    if unreadable:
        raise ValueError(f"{unreadable} of {len(paths)} pictures could not be read; the others were named.")


def _tell(path: Path, predictions: list[dict[str, Any]], *, alone: bool) -> None:
    if alone:
        for entry in predictions:
            say(f"{percent(100 * entry['probability']):>6} %  {entry['class']}")
        return
    words = ", ".join(f"{entry['class']} {percent(100 * entry['probability'])} %" for entry in predictions)
    say(f"{path}: {words}")


def _pictures(given: list[str]) -> list[Path]:
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

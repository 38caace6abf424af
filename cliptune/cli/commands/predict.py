"""`cliptune predict`: name what is in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cliptune.cli.shared.inputs import listed_names, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import count, percent, remark, say, show_json

if TYPE_CHECKING:
    from cliptune.data.own.port import Predicted

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
    json: Flag = False,
    format: Literal["csv", "jsonl", "labelstudio", "coco", "fiftyone"] | None = None,
    out: str | None = None,
    overwrite: Flag = False,
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
    json
        Print JSON: image, and class and probability of each prediction.
    format
        Of the file in --out: csv, jsonl; or labelstudio, coco, fiftyone, to go on with in these tools.
    out
        Write the predictions to this file, where pictures below its folder are named relative to it.
    overwrite
        Replace the file in --out.
    """
    from cliptune.data import ImageError, read_image
    from cliptune.runs.loading import choose_weight

    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}.")
    _check_target(format, out, overwrite)
    paths = _pictures(images)
    adapter = open_run(run, backbone, device, weights)
    if classes is not None or template is not None:
        names = adapter.class_names if classes is None else listed_names(classes)
        adapter.set_classes(list(names), template=template)
    choose_weight(adapter, weight)
    found: list[dict[str, Any]] = []
    sizes: list[tuple[int, int]] = []
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
        probabilities = adapter.logits([picture for _, picture in opened]).softmax(dim=-1).cpu()
        best = probabilities.topk(min(top, probabilities.shape[1]), dim=-1)
        sizes += [picture.size for _, picture in opened]
        for (path, _), values, labels in zip(opened, best.values.tolist(), best.indices.tolist(), strict=True):
            predictions = [
                {"class": adapter.class_names[label], "probability": value}
                for value, label in zip(values, labels, strict=True)
            ]
            found.append({"image": str(path), "predictions": predictions})
            if not json and out is None:
                _tell(path, predictions, alone=len(paths) == 1)
    if json:
        show_json(found)
    if out is not None and format is not None and found:
        from cliptune.data.own.predictions import write_predictions

        write_predictions(out, format, _predicted(found, sizes), adapter.class_names, overwrite=overwrite)
        remark(f"Written to {out}: {count(len(found), 'prediction')} as {format}.")
    if unreadable:
        raise ValueError(f"{unreadable} of {len(paths)} pictures could not be read; the others were named.")


def _check_target(format: str | None, out: str | None, overwrite: bool) -> None:
    """Before anything is computed. Raises: ValueError for one of --format and --out alone, or a file that is there."""
    from cliptune.data.own.predictions import check_free

    if (format is None) != (out is None):
        raise ValueError("--format and --out belong together, for example --format csv --out predictions.csv.")
    if out is not None:
        check_free(out, overwrite=overwrite)


def _predicted(found: list[dict[str, Any]], sizes: list[tuple[int, int]]) -> list[Predicted]:
    from cliptune.data.own.port import Predicted

    return [
        Predicted(entry["image"], size, [(p["class"], p["probability"]) for p in entry["predictions"]])
        for entry, size in zip(found, sizes, strict=True)
    ]


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

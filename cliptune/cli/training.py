"""What `fit` and `train` share: settings checked first, one few-shot run, its result told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.opening import check_device, describe_data, notes_said_once, open_clip
from cliptune.cli.options import WeightsOptions
from cliptune.cli.settings import Settings
from cliptune.cli.show import count, percent, say

if TYPE_CHECKING:
    from cliptune.data import Dataset

_NAMES = {
    "test": "Test accuracy",
    "val": "Accuracy on the held-out (val) images",
    "base": "Accuracy on the base classes",
    "new": "Accuracy on the new classes",
}


def run_few_shot(
    method: str,
    data: Dataset,
    settings: Settings,
    *,
    source: Mapping[str, Any],
    backbone: str | None,
    weights: WeightsOptions = WeightsOptions(),
    shots: int | None,
    seed: int,
    classes: str,
    out: Path,
    device: str | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Train, or go on, or find it finished; say which, and what came out."""
    from cliptune.protocols import few_shot
    from cliptune.training import read_result

    device = check_device(device)
    finished = not overwrite and read_result(out) is not None
    clip = open_clip(backbone, weights)
    with notes_said_once():
        describe_data((data if shots is None else data.few_shot(shots, seed)).subset(classes))
    options = ", ".join(f"{name}={value}" for name, value in settings.options.items())
    say(f"Method: {method}{f' with {options}' if options else ''}; backbone {clip.name}; seed {seed}.")
    if finished:
        say(f"This run is finished: {out} holds its result. (--overwrite starts it anew.)")
    with notes_said_once():
        result = few_shot(
            method,
            clip,
            data,
            shots=shots,
            seed=seed,
            out=out,
            classes=classes,
            options=settings.options,
            source=source,
            device=device,
            overwrite=overwrite,
            **settings.training,
        )
    _tell(result)
    return result


def _tell(result: Mapping[str, Any]) -> None:
    from cliptune.training.progress import duration

    learned, images = count(result["learnables"], "value"), count(result["train_images"], "image")
    seconds = result["seconds"]
    took = duration(seconds) if seconds >= 10 else f"{seconds:.1f} s"
    say("", f"Learned {learned} from {images} in {took}." if result["learnables"] else "This method learns nothing.")
    if not result["evaluations"]:
        say("There are no test or validation images, so nothing was scored.")
    for name, numbers in result["evaluations"].items():
        title = _NAMES.get(name, f"Accuracy on {name}")
        say(f"{title}: {percent(numbers['accuracy'])} % of {count(numbers['n'], 'image')}.")
    if result["flags"]["selection"] == "oracle":
        say("The epoch was chosen on the test images (select=oracle), which flatters this number.")

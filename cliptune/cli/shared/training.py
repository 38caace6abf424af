"""What `fit` and `train` share: settings checked first, one few-shot run, its result told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.inputs import check_device, describe_data, notes_said_once, tell_notes
from cliptune.cli.shared.output import count, percent, say

if TYPE_CHECKING:
    from cliptune.data import Dataset
    from cliptune.runs import RunSpec

_NAMES = {
    "test": "Test accuracy",
    "val": "Accuracy on the held-out (val) images",
    "base": "Accuracy on the base classes",
    "new": "Accuracy on the new classes",
}


def run_few_shot(spec: RunSpec, data: Dataset, out: Path, *, device: str | None, overwrite: bool) -> dict[str, Any]:
    """Train, or go on, or find it finished; say which, and what came out.

    Args:
        spec: a run of few-shot learning.
        data: that `spec` names, whole.
        out: the run's folder.
    """
    from cliptune.clip.weights.load import load_clip
    from cliptune.protocols import run
    from cliptune.runs import read_result

    device = check_device(device)
    finished = not overwrite and read_result(out) is not None
    clip = load_clip(spec.backbone, **spec.loading)
    with notes_said_once():
        shown = (data if spec.shots is None else data.few_shot(spec.shots, spec.seed)).subset(spec.data.classes)
    describe_data(shown)
    options = ", ".join(f"{name}={value}" for name, value in spec.options.items())
    say(f"Method: {spec.method}{f' with {options}' if options else ''}; backbone {clip.name}; seed {spec.seed}.")
    said: list[str] = []
    with notes_said_once():
        result = run(spec, out, clip=clip, dataset=data, device=device, overwrite=overwrite, log=said.append)
    if finished:
        say(f"This run was finished before: {out} holds its result. (--overwrite starts it anew.)")
    _tell(result)
    # What the run has said while it was under way, and the reader before, is not said again.
    tell_notes(result.get("notes", ()), told=(*shown.notes, *said))
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

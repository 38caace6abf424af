"""What `fit` and `train` share: settings checked first, one few-shot run, its result told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.inputs import check_device, describe_data, notes_said_once, tell_notes
from cliptune.cli.shared.output import count, percent, say
from cliptune.noted import once

if TYPE_CHECKING:
    from cliptune.clip import CLIP
    from cliptune.data import Dataset
    from cliptune.runs import RunSpec
    from cliptune.training import SharedImages

_NAMES = {
    "test": "Test accuracy",
    "val": "Accuracy on the held-out (val) images",
    "base": "Accuracy on the base classes",
    "new": "Accuracy on the new classes",
}


def run_few_shot(
    spec: RunSpec,
    data: Dataset,
    out: Path,
    *,
    device: str | None,
    overwrite: bool,
    clip: CLIP | None = None,
    shared: SharedImages | None = None,
    described: bool = False,
    strict: bool = False,
) -> dict[str, Any]:
    """Train, or go on, or find it finished; say which, and what came out.

    Args:
        spec: a run of few-shot learning.
        data: that `spec` names, whole.
        out: the run's folder.
        clip: the backbone; None opens the one that `spec` names.
        shared: images that other runs have seen, or will see.
        described: the data were looked at and told before.
        strict: refuse pictures that are doubled or not read, and classes with fewer images than asked for.
    """
    from cliptune.clip.weights.load import load_clip
    from cliptune.protocols import run
    from cliptune.runs import read_result

    device = check_device(device)
    finished = not overwrite and read_result(out) is not None
    clip = clip or load_clip(spec.backbone, **spec.loading)
    if not described:
        data = looked_at(spec, data, out, overwrite=overwrite, strict=strict)
    with notes_said_once():
        shown = (data if spec.shots is None else data.few_shot(spec.shots, spec.seed)).subset(spec.data.classes)
    if not described:
        describe_data(shown)
    options = ", ".join(f"{name}={value}" for name, value in spec.options.items())
    say(f"Method: {spec.method}{f' with {options}' if options else ''}; backbone {clip.name}; seed {spec.seed}.")
    said: list[str] = []
    with notes_said_once():
        result = run(
            spec, out, clip=clip, dataset=data, device=device, overwrite=overwrite, log=said.append, shared=shared
        )
    if finished:
        say(f"This run was finished before: {out} holds its result. (--overwrite starts it anew.)")
    _tell(result)
    # What the run has said while it was under way, and the reader before, is not said again.
    tell_notes(result.get("notes", ()), told=(*shown.notes, *said))
    return result


def looked_at(spec: RunSpec, data: Dataset, out: Path, *, overwrite: bool, strict: bool) -> Dataset:
    """The data, with what is wrong with the pictures that a run will use among its notes.

    Those of a finished run stay as they are.
    Raises: what `quick` does; ValueError if there is one class alone, or `strict` and classes have fewer images than
        asked for.
    """
    from cliptune.doctor import quick
    from cliptune.runs import read_result
    from cliptune.training.fit import check_classes

    if not overwrite and read_result(out) is not None:
        return data
    with notes_said_once():
        sampled = data if spec.shots is None else data.few_shot(spec.shots, spec.seed, strict=strict)
        used = sampled.subset(spec.data.classes)
    check_classes(used)
    found = quick(used, strict=strict).notes[len(used.notes) :]
    return replace(data, notes=once(data.notes, found))


def _tell(result: Mapping[str, Any]) -> None:
    from cliptune.timing import duration

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

"""`cliptune export`: a run as a file that other programs answer with."""

from __future__ import annotations

from typing import Literal

from cliptune.cli.commands.predict import pictures_in
from cliptune.cli.shared.inputs import listed_names, own_backbone
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import count, remark, say, show_json


def export(
    run: str,
    /,
    *,
    to: Literal["onnx", "torch-export", "folded"] = "onnx",
    out: str | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    input: Literal["uint8", "float32"] = "uint8",
    classes: str | None = None,
    template: str | None = None,
    weight: float | None = None,
    pictures: list[str] | None = None,
    backbone: str | None = None,
    overwrite: Flag = False,
    json: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Write a finished run as a classifier for other programs: pixels in, probabilities out.

    The texts are folded in, normalisation is inside, any number of pictures goes at a time. What is written is held
    against the run's adapter on real pictures first, and refused if it answers otherwise.

    Parameters
    ----------
    run
        Folder of the run.
    to
        onnx, for onnxruntime; torch-export, for torch without cliptune; folded, weights and settings for cliptune
        without the text tower.
    out
        Folder for the model and classes.json, or the model's own name (.onnx, .pt2); RUN-onnx and so on if left out.
    dtype
        Of the towers: float32 or float16.
    input
        uint8: the bytes of the prepared picture, 0 to 255; float32: the same divided by 255.
    classes
        Other names than those trained on: "lynx,puma", or a text file with one name in each line.
    template
        Sentence with {} for the name, for methods that use one.
    weight
        For runs with dpc: ω of the parallel prompt, in [0, 1], which is fixed by the export.
    pictures
        Files or folders to check with; some of the run's own if left out.
    backbone
        Where the run's backbone is now, if it was moved.
    overwrite
        Replace files of an earlier export.
    json
        Print JSON: what was written, and what it says of itself.
    """
    from cliptune.data import read_image
    from cliptune.exporting import export as write

    made = write(
        run,
        out or f"{run.rstrip('/')}-{to}",
        to=to,
        dtype=dtype,
        input=input,
        classes=None if classes is None else listed_names(classes),
        template=template,
        weight=weight,
        pictures=None if pictures is None else [read_image(path, exif=True) for path in pictures_in(pictures)],
        clip=own_backbone(run, backbone, weights),
        overwrite=overwrite,
    )
    for note in made.notes:
        remark(note)
    about = made.description
    if json:
        show_json({"path": str(made.path), "files": [str(path) for path in made.files], **about.plain})
        return
    size = sum(path.stat().st_size for path in made.files) / 2**20
    checked = about.checked
    say(
        f"{made.path}: {to}, {dtype}, {count(len(about.classes), 'class', 'classes')}, {size:.1f} MiB; "
        + ", ".join(path.name for path in made.files)
        + ".",
        f"Held against the run on {count(checked['pictures'], 'picture')} ({checked['of']}): no probability differs by "
        f"more than {checked['largest_difference']:.1g}.",
    )
    if to != "torch-export":
        say("Next:", f"  cliptune predict {made.path} IMAGE", f"  cliptune serve {made.path}")

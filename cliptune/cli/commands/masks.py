"""`cliptune masks`: write masks of the object in every picture, for `dapt_source`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal

from cliptune.cli.shared.inputs import check_device, check_weights, describe_data, open_clip, open_data, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import count, remark, say

if TYPE_CHECKING:
    from cliptune.data import Dataset
    from cliptune.masking import Maker


def masks(
    data: str,
    /,
    *,
    out: str,
    by: Literal["gradcam", "clipseg", "sam", "command"] = "gradcam",
    run: str | None = None,
    backbone: str | None = None,
    command: str | None = None,
    model: str | None = None,
    threshold: float | None = None,
    split: Literal["train", "val", "test"] = "train",
    shots: int = 0,
    seed: int = 1,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    device: str | None = None,
    overwrite: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Write a mask of the object in every picture, for training with dapt on --set dapt_source=FOLDER.

    Masks that are there already are kept, so the same command goes on where it stopped.

    Parameters
    ----------
    data
        A name of `cliptune data list`, or a path as in `cliptune fit`.
    out
        Folder of the masks: PNG files, 1 on the object and 0 elsewhere, at the relative paths of their pictures.
    by
        gradcam, where a CLIP looks for the picture's class; clipseg, a segmentation model asked for its class; sam, a
        segmentation model that cuts out what lies where gradcam's map peaks; or command, any program.
    run
        For gradcam and sam: folder of a finished run on the same classes; without one, the CLIP without training.
    backbone
        For gradcam and sam, as in `cliptune train`.
    command
        For command: the program with {image} and {mask} where the two files stand, such as 'segment {image} {mask}'.
        It reads a PNG file and writes one of the same size, whose values above half of the largest are object.
    model
        For clipseg and sam: name on the Hugging Face hub, or folder; CIDAS/clipseg-rd64-refined and
        facebook/sam-vit-base if left out.
    threshold
        For gradcam and clipseg: saliency or probability from which on a pixel is object, in (0, 1); 0.5 if left out.
    split
        Pictures to make masks of.
    shots
        Only the training pictures that `cliptune train` picks for these shots and --seed; 0 for all.
    seed
        Of that choice.
    root
        Folder that holds the data sets.
    source
        Of the data, as in `cliptune train`: coop or torchvision.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    overwrite
        Make masks anew that are there already.
    """
    from cliptune.masking import make_masks

    if (by == "command") != (command is not None):
        raise ValueError(
            "masks: --by command needs --command, the program to run."
            if command is None
            else "masks: --command is given, so --by must be command."
        )
    for option, value, makers in (
        ("--run", run, ("gradcam", "sam")),
        ("--backbone", backbone, ("gradcam", "sam")),
        ("--model", model, ("clipseg", "sam")),
        ("--threshold", threshold, ("gradcam", "clipseg")),
    ):
        if value is not None and by not in makers:
            raise ValueError(f"masks: {option} is for --by {' and '.join(makers)}; --by {by} does not look at it.")
    check_weights(backbone, weights)
    from cliptune.data import DataSpec

    dataset = open_data(DataSpec.found(data, root, source))
    if shots > 0:
        dataset = dataset.few_shot(shots, seed)
    chosen = dataset[split]
    if not len(chosen):
        raise ValueError(f"{dataset.name} has no {split} images. Choose another --split.")
    describe_data(dataset)
    maker = _maker(by, dataset, run, backbone, command, model, threshold, device, weights)
    written = failed = 0
    for made in make_masks(chosen, out, maker, overwrite=overwrite):
        written += made.written
        failed += bool(made.error)
        if made.error:
            remark(made.error)
    kept = len(chosen) - written - failed
    say(f"Wrote {count(written, 'mask')} to {out}" + (f"; {kept:,} were there already." if kept else "."))
    if failed:
        raise ValueError(f"masks: {failed:,} of {count(len(chosen), 'picture')} have no mask; see above.")
    say(f"Next: add --set {shlex.quote(f'dapt_source={out}')} to `cliptune train --method maple+dapt …`.")


def _maker(
    by: str,
    data: Dataset,
    run: str | None,
    backbone: str | None,
    command: str | None,
    model: str | None,
    threshold: float | None,
    device: str | None,
    weights: WeightsOptions,
) -> Maker:
    from cliptune.masking import CLIPSEG, SAM, ByCLIPSeg, ByCommand, ByGradCAM, BySAM
    from cliptune.protocols.training import class_set
    from cliptune.registry import build

    if command is not None:
        return ByCommand(command)
    bounds = {} if threshold is None else {"threshold": threshold}
    if by == "clipseg":
        return ByCLIPSeg(model or CLIPSEG, **bounds, device=check_device(device))
    where = check_device(device)
    if run is None:
        adapter = build("zeroshot", open_clip(backbone, weights), class_set(data)).adapter
        adapter = adapter if where is None else adapter.to(where)
    else:
        adapter = open_run(run, backbone, device, weights)
        known = adapter.trained_classes
        adapter.set_classes(class_set(data, known).with_template(known.template))
    maps = ByGradCAM(adapter, **bounds)
    return BySAM(maps, model or SAM, where) if by == "sam" else maps

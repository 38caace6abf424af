"""`cliptune train`: one run of a method on a named data set."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cliptune.cli.shared.calibrating import calibrate_and_tell
from cliptune.cli.shared.inputs import check_weights, chosen_backbone, open_data
from cliptune.cli.shared.options import Flag, ListOptions, RunOptions, WeightsOptions
from cliptune.cli.shared.output import say
from cliptune.cli.shared.settings import resolve
from cliptune.cli.shared.training import run_few_shot


def train(
    *,
    method: str,
    data: str,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    split: str | None = None,
    make_split: Flag = False,
    nested: Literal["leaf", "top"] | None = None,
    backbone: str | None = None,
    shots: int = 16,
    seed: int = 1,
    out: str | None = None,
    classes: Literal["all", "base", "new"] = "all",
    recipe: Literal["few_shot", "base2new", "cross", "data_efficient"] | None = None,
    lists: ListOptions = ListOptions(),
    weights: WeightsOptions = WeightsOptions(),
    run: RunOptions = RunOptions(),
) -> None:
    """Train a method on a data set and score it on the test images of the same classes.

    Parameters
    ----------
    method
        See `cliptune methods`; add-ons are joined by "+". The path of a .py file is a method of your own.
    data
        A name of `cliptune data list`, or a path as in `cliptune fit`.
    root
        Folder that holds the data sets.
    source
        coop, the field's folders and splits; or torchvision, a published data set as torchvision lays it out below
        --root, with its official splits, whose numbers are not comparable with published ones.
    split
        For a published data set: another split file than its own, as `cliptune data split` writes it.
    make_split
        Split a published data set whose split file is missing; numbers on it are not comparable with published ones.
    nested
        Where class folders hold folders: top, the upper ones are the classes (usual); or leaf, the lowest ones are.
    backbone
        mini, ViT-B/16 (and OpenAI's others), a path, or hf-hub:organisation/name. If left out: ViT-B/16 if it is on
        this machine, else mini, a toy.
    shots
        Training images per class, the field's picks for the seed; 0 for all.
    seed
        Of sampling, start, order and augmentation.
    out
        Folder of the run; runs/DATA-CLASSES-SHOTS-METHOD-SEED if left out. The same command goes on with an
        unfinished run.
    classes
        All, or one half of them; after base, `cliptune eval RUN --classes new` gives the other number.
    recipe
        The published options of the method for a protocol, as `cliptune recipes NAME` shows them; the defaults of
        `cliptune methods NAME` if left out.
    """
    from cliptune.data import DataSpec
    from cliptune.runs import RunSpec

    settings = resolve(
        method,
        recipe=recipe,
        shots=shots if shots > 0 else None,
        data=data,
        backbone=backbone,
        file=run.config,
        assignments=run.set or (),
        shortcuts=run.shortcuts,
    )
    listed = None if split is None else str(Path(split).expanduser().resolve())
    asked = {"split": listed, "make_split": make_split or None, "nested": nested, **lists.given}
    opened = DataSpec.found(data, root, source, **asked)
    dataset = open_data(opened)
    where = Path(out) if out is not None else _usual(dataset.name, classes, shots, method, seed)
    check_weights(backbone, weights)
    spec = RunSpec(
        method,
        replace(opened, shots=shots if shots > 0 else None, seed=seed, classes=classes),
        backbone=chosen_backbone(backbone),
        loading=weights.given,
        options=settings.options,
        training=settings.training,
    )
    run_few_shot(spec, dataset, where, device=run.device, overwrite=run.overwrite, strict=run.strict)
    if run.calibrate:
        calibrate_and_tell(where, device=run.device)
    other = {"base": "new", "new": "base"}.get(classes)
    say(
        "",
        f"The run lies in {where}.",
        "Next:",
        *([f"  cliptune eval {shlex.quote(str(where))} --classes {other}"] if other else []),
        f"  cliptune table {shlex.quote(str(where.parent))}",
    )


def _usual(data: str, classes: str, shots: int, method: str, seed: int) -> Path:
    from cliptune.registry.plugins import label

    picked = f"{shots}shots" if shots > 0 else "allshots"
    return Path("runs") / f"{data.replace('/', '-')}-{classes}-{picked}" / f"{label(method)}-seed{seed}"

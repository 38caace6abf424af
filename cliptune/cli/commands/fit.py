"""`cliptune fit`: adapt CLIP to one's own images."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cliptune.cli.shared.calibrating import calibrate_and_tell
from cliptune.cli.shared.choosing import AUTO, check_choosing, check_common, chosen, command_line, tell_beside
from cliptune.cli.shared.inputs import check_device, check_weights, chosen_backbone, open_data
from cliptune.cli.shared.options import Flag, ListOptions, RunOptions, WeightsOptions
from cliptune.cli.shared.output import remark, say
from cliptune.cli.shared.settings import Settings, resolve
from cliptune.cli.shared.training import looked_at, run_few_shot

if TYPE_CHECKING:
    from cliptune.data import Dataset, DataSpec


def fit(
    folder: str,
    /,
    *,
    method: str = "auto",
    out: str | None = None,
    root: str | None = None,
    shots: int | None = None,
    backbone: str | None = None,
    val: float | None = None,
    test: float | None = None,
    seed: int = 1,
    split_seed: int | None = None,
    nested: Literal["leaf", "top"] | None = None,
    time: str | None = None,
    classes_later: Flag = False,
    lists: ListOptions = ListOptions(),
    weights: WeightsOptions = WeightsOptions(),
    run: RunOptions = RunOptions(),
) -> None:
    """Adapt CLIP to your own images: class folders, train/val/test, a list, or what another tool exported.

    Parameters
    ----------
    folder
        Folder with one folder of images per class (alone, or below train, val, test); a list with the columns image,
        class and, if wanted, split; or a file or folder that another tool wrote. What it is, its content tells.
    method
        What is learned: see `cliptune methods`; add-ons are joined by "+". If left out (auto), several methods are
        tried on held-out training images, and the best is trained on all of them.
    out
        Folder of the run; runs/NAME-METHOD if left out. The same command goes on with an unfinished run.
    root
        Folder that the paths of a list or split file are relative to; its own folder if left out.
    shots
        Training images per class; all if left out.
    backbone
        mini, ViT-B/16 (and OpenAI's others), a path, or hf-hub:organisation/name. If left out: ViT-B/16 if it is on
        this machine, else mini, a toy.
    val
        Share of images kept for validation, where the images are not split yet (0.2; none for auto).
    test
        Share of images kept for testing, where the images are not split yet (0.3).
    seed
        Of sampling, start, order and augmentation.
    split_seed
        Of the split made here, where the images are not split yet (1).
    nested
        Where class folders hold folders: top, the upper ones are the classes (usual); or leaf, the lowest ones are.
    time
        Of auto: how long choosing and training may take, such as 90s, 5m or 1h30m (5m).
    classes_later
        Of auto: prefer methods that can be asked about other classes after training.
    """
    from cliptune.choosing import enter_choice
    from cliptune.clip.weights.load import load_clip
    from cliptune.registry.plugins import label
    from cliptune.runs import RunSpec
    from cliptune.training import SharedImages

    seconds = check_choosing(method, time, classes_later)
    settings = _settings(method, run)
    read_with = {**lists.given, "nested": nested}
    if method == AUTO and val is None and _is_whole(folder, root, read_with):
        val = 0.0  # parts of the training images choose, so none are set aside for it
    opened, data = _open(folder, root, val, test, split_seed, read_with)
    where = Path(out) if out is not None else Path("runs") / f"{data.name}-{label(method)}"
    check_weights(backbone, weights)
    spec = RunSpec(
        method,
        replace(opened, shots=shots, seed=seed),
        backbone=chosen_backbone(backbone),
        loading=weights.given,
        options=settings.options,
        training=settings.training,
    )
    clip, shared, device = load_clip(spec.backbone, **spec.loading), SharedImages(), check_device(run.device)
    choice = None
    if method == AUTO:
        data = looked_at(spec, data, where, overwrite=run.overwrite, strict=run.strict)
        spec, choice = chosen(
            spec,
            data,
            where,
            clip,
            shared,
            seconds=seconds,
            classes_later=classes_later,
            device=device,
            overwrite=run.overwrite,
        )
    result = run_few_shot(
        spec,
        data,
        where,
        device=device,
        overwrite=run.overwrite,
        clip=clip,
        shared=shared,
        described=choice is not None,
        strict=run.strict,
    )
    if choice is not None:
        enter_choice(where, choice)
    if run.calibrate:
        calibrate_and_tell(where, clip=clip, shared=shared, device=device)
    given = {"root": root, **lists.given, "shots": shots, "backbone": backbone, **weights.given, "device": run.device}
    cut = {"val": val, "test": test, "split-seed": split_seed, "seed": seed if seed != 1 else None, "nested": nested}

    def command(better: str) -> str:
        return command_line(folder, {**given, **cut}, better, where.with_name(f"{where.name}-{better}"))

    tell_beside(result, where, spec, data, clip, shared, device=device, command=command)
    split = next((s for s in (data.test, data.val, data.train) if len(s)), data.train)
    example = str(data.root / split.items[0].path) if data.root is not None else "IMAGE"
    say(
        "",
        f"The run lies in {where}: result.json, metrics.jsonl, and the adapter (adapter_model.safetensors).",
        "Next:",
        f"  cliptune predict {shlex.quote(str(where))} {shlex.quote(example)}",
        f"  cliptune eval {shlex.quote(str(where))}",
    )


def _settings(method: str, run: RunOptions) -> Settings:
    """Options of the method and of its training; where it is not chosen yet, those that all methods have."""
    if method == AUTO:
        check_common(run)
    known = "zeroshot" if method == AUTO else method
    return resolve(known, file=run.config, assignments=run.set or (), shortcuts=run.shortcuts)


def _is_whole(folder: str, root: str | None, read_with: Mapping[str, Any]) -> bool:
    """Whether the images are not split yet, so that shares of them are taken."""
    from cliptune.data import DataSpec

    halves = DataSpec.found(folder, root, fractions=[0.5, 0.0, 0.5], **read_with)
    try:
        return open_data(halves).split_sha256 != open_data(DataSpec.found(folder, root, **read_with)).split_sha256
    except ValueError:  # a list of splits takes no shares; what is wrong with other data is said where it is opened
        return False


def _open(
    folder: str,
    root: str | None,
    val: float | None,
    test: float | None,
    split_seed: int | None,
    read_with: Mapping[str, Any],
) -> tuple[DataSpec, Dataset]:
    """The data, cut as asked; where the user's own split leaves nothing to cut, that is said."""
    from cliptune.data import DataSpec

    fractions = None
    if val is not None or test is not None:
        kept = (0.2 if val is None else val, 0.3 if test is None else test)
        if min(kept) < 0 or sum(kept) >= 1:
            raise ValueError(
                f"--val and --test are shares from 0 to 1 that leave something to train on, got {kept[0]} and "
                f"{kept[1]}. For example --val 0.1 --test 0.2."
            )
        fractions = [round(1 - sum(kept), 6), *kept]
    # Folders and lists of one's own are turned as their EXIF tag says; split files are not, unless asked.
    exif = True if Path(folder).suffix.lower() == ".json" else None
    whole = DataSpec.found(folder, root, exif=exif, **read_with)
    cut = DataSpec.found(folder, root, exif=exif, **read_with, fractions=fractions, split_seed=split_seed)
    data = open_data(cut)
    if cut != whole and data.split_sha256 == open_data(whole).split_sha256:
        remark(
            "The images are split already, or the shares are the usual ones: --val, --test and --split-seed change "
            "nothing."
        )
    return cut, data

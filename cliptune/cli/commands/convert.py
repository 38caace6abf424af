"""`cliptune convert`: checkpoints of the field's released code to runs, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cliptune.cli.shared.inputs import listed_names, notes_said_once, open_clip, open_run, tell_notes
from cliptune.cli.shared.options import Assignments, Flag, WeightsOptions
from cliptune.cli.shared.output import count, say
from cliptune.cli.shared.settings import resolve

Layout = Literal["openai", "open_clip", "hugging_face", "cliptune"]
Part = Literal["base", "new", "tuned", "parallel"]


def convert(
    checkpoint: str,
    /,
    *,
    out: str,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    layout: Layout | None = None,
    classes: str | None = None,
    tuned: str | None = None,
    memory: str | None = None,
    part: Part | None = None,
    backbone: str | None = None,
    set: Assignments = None,
    overwrite: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Turn a released checkpoint into a run folder (--from), a run into such a checkpoint (--to), or weights of a CLIP
    into another library's (--layout), bit for bit.

    Parameters
    ----------
    checkpoint
        File such as model.pth.tar-5 or .safetensors with --from; run folder with --to; what --backbone takes with
        --layout.
    out
        Run folder with --from; file (.safetensors, else as of torch.save) with --to; folder with --layout.
    from_
        Method whose released code wrote the checkpoint; with add-ons, such as coop+rlp, to train on from it.
    to
        Method of the run; with add-ons, the released code of its host shall read the file.
    layout
        Whose names and configuration the weights of a CLIP get: openai, open_clip, hugging_face (transformers'
        CLIPModel) or cliptune.
    classes
        With --from: class names in label order, "a,b,c" or a text file with one in each line.
    tuned
        With --from …+dpc: checkpoint of the host, whose prompt dpc kept; the other file holds the parallel one.
    memory
        With …+textrefiner, whose release keeps its cache in a second file, Memory/model.pth.tar-…: that file, to read
        with --from and to write with --to.
    part
        With --to …+dpc: the prompt mixed for base classes (if left out) or for new ones, or tuned or parallel alone.
    backbone
        The CLIP it was trained with.
    set
        An option that the shapes do not tell, name=value; may be repeated.
    overwrite
        Replace what is in --out.
    """
    if sum(choice is not None for choice in (from_, to, layout)) != 1:
        raise ValueError(
            "convert: say one of --from METHOD (a released checkpoint becomes a run), --to METHOD (a run becomes "
            "a released checkpoint) and --layout NAME (weights of a CLIP become another library's)."
        )
    if layout is not None:
        if backbone is not None or set:
            raise ValueError("convert: --layout takes the weights alone. Leave --backbone and --set out.")
        _to_layout(checkpoint, layout, Path(out).expanduser(), weights, overwrite)
        return
    if (tuned and from_ is None) or (part and to is None):
        raise ValueError("convert: --tuned belongs to --from, and --part to --to. Leave the other out.")
    if memory is not None and "textrefiner" not in f"{from_}+{to}".split("+"):
        raise ValueError("convert: --memory belongs to textrefiner. Leave it out.")
    if from_ is not None:
        _to_run(checkpoint, from_, Path(out).expanduser(), classes, tuned, memory, backbone, weights, set, overwrite)
    elif to is not None:
        cache = None if memory is None else Path(memory).expanduser()
        _to_released(checkpoint, to, Path(out).expanduser(), cache, part, backbone, weights, overwrite)


def _to_layout(name: str, layout: str, out: Path, weights: WeightsOptions, overwrite: bool) -> None:
    from cliptune.clip.weights.layouts import stored_tensors, write_backbone
    from cliptune.clip.weights.other_towers import OTHERS

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not overwrite)):
        raise ValueError(f"convert: {out} exists already. Give another folder, or --overwrite.")
    clip = open_clip(name, weights)
    if clip.origin.get("layout") in OTHERS:
        raise ValueError(
            f"convert: the towers of {clip.name} are another library's ({clip.image.kind}), and --layout renames those "
            "of CLIP itself. Use the weights where they are: --backbone takes them as they lie."
        )
    tensors = stored_tensors(name, trust=weights.trust)
    written = write_backbone(out, tensors, clip.config, clip.preprocessing, layout)
    say(f"{out} holds {clip.name} as {layout} names it, {count(len(tensors), 'tensor')} bit for bit:")
    say(*(f"  {path.name} ({path.stat().st_size:,} bytes)" for path in written))
    tell_notes(clip.notes)


def _to_run(
    checkpoint: str,
    method: str,
    out: Path,
    classes: str | None,
    tuned: str | None,
    memory: str | None,
    backbone: str | None,
    weights: WeightsOptions,
    assignments: list[str] | None,
    overwrite: bool,
) -> None:
    from cliptune.interop import from_published, read_published
    from cliptune.registry.listing import count_learnables
    from cliptune.runs import RunFolder, save_adapter
    from cliptune.runs.checkpoints import backbone as described
    from cliptune.texts import ClassSet

    options = resolve(method, assignments=assignments or ()).options
    if classes is None:
        raise ValueError(
            "convert: a released checkpoint does not hold its class names. Give them in label order: "
            '--classes "a,b,c", or a text file with one name in each line.'
        )
    names = listed_names(classes)
    tensors, beside = read_published(checkpoint), None if tuned is None else read_published(tuned)
    if memory is not None:
        tensors |= read_published(memory)
    clip = open_clip(backbone, weights)
    classes_of = ClassSet(tuple(names)).with_template(options.pop("template", None))
    with notes_said_once():
        recipe = from_published(method, tensors, clip, classes_of, tuned=beside, **options)
    adapter = recipe.adapter
    config: dict[str, Any] = {
        "method": recipe.method,
        "options": recipe.config,
        "backbone": described(clip),
        "converted_from": Path(checkpoint).name,
        "class_names": names,
    }
    folder = RunFolder(out, config, overwrite=overwrite)
    try:
        save_adapter(
            folder.path,
            adapter,
            method=recipe.method,
            config=recipe.config,
            classes=vars(adapter.trained_classes),
        )
        folder.write_result(
            {
                "method": recipe.method,
                "protocol": "converted",
                "backbone": clip.name,
                "learnables": count_learnables(adapter),
                "converted_from": Path(checkpoint).name,
                "notes": recipe.all_notes,
                "evaluations": {},
            }
        )
    finally:
        folder.release()
    say(
        f"{out} holds the {method} checkpoint: {count(count_learnables(adapter), 'learned value')}, "
        f"{count(len(names), 'class', 'classes')}, options {recipe.config}.",
        f"  cliptune predict {out} IMAGE",
        f"  cliptune eval {out} --data NAME",
    )
    tell_notes(recipe.all_notes)


def _to_released(
    run: str,
    method: str,
    out: Path,
    memory: Path | None,
    part: Part | None,
    backbone: str | None,
    weights: WeightsOptions,
    overwrite: bool,
) -> None:
    from cliptune.interop import to_published
    from cliptune.runs import read_adapter_config

    adapter = open_run(run, backbone, "cpu", weights)
    trained = read_adapter_config(run)["method"]
    if sorted(trained.split("+")) != sorted(part.strip() for part in method.split("+")):
        raise ValueError(f"convert: the run in {run} is of method {trained!r}, so it cannot become one of {method!r}.")
    if part in ("tuned", "parallel"):
        tensors = to_published(method, adapter, part=part)
    else:
        tensors = to_published(method, adapter, seen=None if part is None else part == "base")
    cache = {name: value for name, value in tensors.items() if name.startswith(_MEMORY)}
    if cache and memory is None and out.suffix != ".safetensors":
        raise ValueError(
            "convert: the release of textrefiner keeps its cache in a second file, Memory/model.pth.tar-…. Say where "
            "it shall lie, with --memory FILE."
        )
    files = {out: tensors}
    if cache and memory is not None:
        files = {out: {name: value for name, value in tensors.items() if name not in cache}, memory: cache}
    for path in files:
        if path.is_dir() or (path.exists() and not overwrite):
            raise ValueError(f"convert: {path} exists already. Give another file, or --overwrite.")
    for path, held in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_released(path, held, method)
        say(f"{path} holds {count(len(held), 'tensor')} as the released code of {method} names them:")
        say(*(f"  {name} {tuple(value.shape)}" for name, value in held.items()))


_MEMORY = "Memory."


def _write_released(out: Path, tensors: dict[str, Any], method: str) -> None:
    import io

    import torch
    from safetensors.torch import save

    from cliptune.files import atomic_write_bytes
    from cliptune.interop.low_rank import LOW_RANK, nested

    if out.suffix == ".safetensors":
        atomic_write_bytes(out, save(tensors, metadata={"format": "pt"}))
        return
    content: dict[str, Any] = {"state_dict": tensors, "epoch": 0}
    if method in LOW_RANK:  # its release reads no state dict
        content = nested(tensors)
    elif all(name.startswith(_MEMORY) for name in tensors):
        state = {name.removeprefix(_MEMORY): value for name, value in tensors.items()}
        content = {"memory_item": state.pop("text_fine_cache"), "state_dict": state, "epoch": 0}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write_bytes(out, buffer.getvalue())

"""What commands open: a backbone, a device, data, a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.cli.shared.options import WeightsOptions
from cliptune.cli.shared.output import count, remark, say
from cliptune.noted import NotedWarning, once

if TYPE_CHECKING:
    from cliptune.adapter import Adapter
    from cliptune.clip import CLIP
    from cliptune.data import Dataset, DataSpec


def open_clip(backbone: str | None, weights: WeightsOptions = WeightsOptions()) -> CLIP:
    """The CLIP called `backbone`; without one, OpenAI's ViT-B/16 if it is on this machine, else `mini`.

    Nothing is downloaded unless `backbone` asks for it.
    """
    from cliptune.clip.weights.load import load_clip

    check_weights(backbone, weights)
    return load_clip(chosen_backbone(backbone), **weights.given)


def check_weights(backbone: str | None, weights: WeightsOptions) -> None:
    """Raises: ValueError if something is said of weights that are not named."""
    if backbone is None and weights.given:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in weights.given)
        raise ValueError(f"{flags} describes the weights that --backbone names, but there is no --backbone. Add it.")


def chosen_backbone(backbone: str | None) -> str:
    """What `load_clip` takes for `backbone`, with a remark if it was chosen here or has to be downloaded."""
    from cliptune.clip.weights.openai import archive_file, canonical_name
    from cliptune.clip.weights.usual import PREFERRED, TOY, is_fetched, usual_backbone

    if backbone is None:
        backbone = usual_backbone()
        if backbone == TOY:
            remark(
                f"Backbone: mini, because {PREFERRED} has not been downloaded to this machine. mini is a toy CLIP that "
                "has only seen drawings of 64 pixels: good for trying things out, weak on photographs. For real "
                f"work add --backbone {PREFERRED} (downloads about 335 MiB once) or give the path of weights."
            )
    canonical = canonical_name(backbone)
    if canonical is not None and not is_fetched(canonical):
        remark(f"Backbone: {canonical}; its weights ({archive_file(canonical)}) are fetched once and kept.")
    # A path is noted in the run, which may be opened from another working directory.
    path = Path(backbone.removeprefix("local-dir:")).expanduser()
    known = backbone == "mini" or canonical is not None or backbone.startswith("hf-hub:")
    return str(path.resolve()) if not known and path.exists() else backbone


def check_device(device: str | None) -> str | None:
    """The device as asked for; None stays None. Raises: ValueError if there is none of that name."""
    import torch

    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device: {device!r} cannot be used here ({str(error).splitlines()[0]}). Use cpu, cuda, cuda:1 or mps, "
            "or leave it out to take a card if there is one."
        ) from error
    return device


def open_data(data: DataSpec) -> Dataset:
    """What it names; its notes are shown from the data set."""
    with notes_said_once():
        return data.open()


@contextmanager
def notes_said_once() -> Iterator[None]:
    """Without the warnings that also stand among notes, and are shown from there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotedWarning)
        yield


def describe_data(data: Dataset) -> None:
    """Lines on what was found: classes, pictures and how they are split, and the reader's remarks."""
    shown = [f"{name!r}" for name in data.class_names[:6]]
    more = f" and {len(data.class_names) - 6} more" if len(data.class_names) > 6 else ""
    say(
        f"Data: {data.name}, {count(len(data.class_names), 'class', 'classes')} ({', '.join(shown)}{more}); "
        f"{len(data.train):,} train, {len(data.val):,} val, {len(data.test):,} test images."
    )
    say(*(f"  {note}" for note in data.notes))


def tell_notes(notes: Iterable[str], told: Iterable[str] = (), most: int | None = None) -> None:
    """The notes that were not told before, indented below a heading.

    Args:
        most: so many of them at most, and how many more there are; None for all.
    """
    new = [note for note in once(notes) if note not in set(told)]
    if new:
        say("Notes:", *(f"  {note}" for note in new[:most]))
    if most is not None and len(new) > most:
        say(f"  {len(new) - most} more stand under notes in the result.json of each run.")


def open_run(run: str, backbone: str | None, device: str | None, weights: WeightsOptions = WeightsOptions()) -> Adapter:
    """The adapter of a run folder, or of `hf-hub:organisation/name`; `backbone` where its own cannot be found again."""
    import torch

    from cliptune.clip.weights.hub import PREFIX
    from cliptune.runs import load

    where = check_device(device) or ("cuda" if torch.cuda.is_available() else "cpu")
    if run.startswith(PREFIX) and not Path(run).exists():
        from cliptune.sharing import from_pretrained

        check_weights(backbone, weights)
        clip = None if backbone is None else open_clip(backbone, weights)
        return from_pretrained(run, clip=clip, device=where)
    return load(run, clip=own_backbone(run, backbone, weights), device=where)


def own_backbone(run: str, backbone: str | None, weights: WeightsOptions) -> CLIP | None:
    """The backbone of a run that was moved; None where it is not said where it is now.

    It keeps the activation and the head widths that the run noted, unless others are given.
    """
    check_weights(backbone, weights)
    if backbone is None:
        return None
    from cliptune.clip.weights.load import load_clip
    from cliptune.runs import read_adapter_config
    from cliptune.runs.loading import noted_facts

    noted = noted_facts(read_adapter_config(run)["backbone"])
    if weights.given:
        del noted["activation"]
    return load_clip(chosen_backbone(backbone), **{**noted, **weights.given})


def open_on(run: str, on: str, device: str | None, weights: WeightsOptions = WeightsOptions()) -> Adapter:
    """What a run learned, on another backbone."""
    import torch

    from cliptune.clip.weights.load import load_clip
    from cliptune.runs.loading import load_on

    where = check_device(device) or ("cuda" if torch.cuda.is_available() else "cpu")
    check_weights(on, weights)
    return load_on(run, load_clip(chosen_backbone(on), **weights.given), device=where)


def listed_names(text: str) -> list[str]:
    """Class names from "a,b,c", or from a text file with one name in each line.

    Raises: ValueError if there is none, or one is given twice.
    """
    path = Path(text).expanduser()
    lines: Sequence[str] = text.split(",")
    if "," not in text and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"Class names in {text}: expected UTF-8 text with one name in each line.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"Class names: expected names separated by commas, got {text!r}. For example cat,dog.")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"Class names: {twice!r} is given twice. Give every class its own name.")
    return names

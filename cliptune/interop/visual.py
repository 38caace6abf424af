"""Checkpoints of the releases of VP, AR, AttrVR and DVP: whole patterns with their masks, and a dense matrix.

As released, a file holds `visual_prompt_dict`, one state dict of `program` and `mask` (3, R, R), or for DVP a list of
them; `prob` (C M, C), the reweighting matrix; for DVP-cls `cluster_into` (v, C M). Here the same tensors have flat
names: `visual_prompt_dict.program`, `visual_prompt_dict.0.program`, `prob`, `cluster_into`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import PRMHead
from cliptune.noted import few
from cliptune.prompts.pixels import PixelPattern
from cliptune.recipe import Recipe
from cliptune.registry.building import build
from cliptune.texts import ClassSet

VISUAL = ("vp", "ar", "attrvr", "dvp_cse", "dvp_cls")
_PATTERNS = "visual_prompt_dict."


def flattened(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a released file under flat names; what is no tensor or array is left out."""
    nested = content["visual_prompt_dict"]
    parts = {"": nested} if isinstance(nested, Mapping) else {f"{i}.": part for i, part in enumerate(nested)}
    flat = {f"{_PATTERNS}{start}{name}": value for start, part in parts.items() for name, value in part.items()}
    flat |= {name: torch.as_tensor(content[name]) for name in ("prob", "cluster_into") if name in content}
    return {name: value for name, value in flat.items() if isinstance(value, Tensor)}


def visual_from_published(
    method: str, tensors: Mapping[str, Tensor], clip: CLIP, class_names: Sequence[str] | ClassSet, **options: Any
) -> Recipe:
    """A recipe with the patterns, and for DVP the matrix and clusters, of a released checkpoint.

    Args:
        options: of the method; sizes are read from the masks. A release does not hold the sentences that its matrix
            weighs, nor those of AttrVR, but draws them anew: they come from `descriptions` (or the class set's) by
            `description_seed`, the release's `--seed`, with the published rule.
    Raises: ValueError naming what is missing or does not fit.
    """
    programs, masks = _patterns(method, tensors)
    side = clip.image.resolution
    if programs.shape[1:] != (3, side, side):
        raise ValueError(
            f"from_published: the patterns of this {method} checkpoint are of {tuple(programs.shape[1:])}, but this "
            f"CLIP takes images of {(3, side, side)}. Give the backbone that it was trained with."
        )
    live = masks[0, 0] > 0.5
    classes = ClassSet.of(class_names)
    implied = _sizes(method, live) | _of_texts(method, tensors, len(programs), len(classes), classes, options)
    recipe = build(method, clip, classes, **{**implied, **options})
    prompt, head = recipe.adapter.prompt, recipe.adapter.head
    assert isinstance(prompt, PixelPattern)
    if not torch.equal(live.flatten().nonzero()[:, 0].to(prompt.pixel.device), prompt.pixel):
        raise ValueError(
            f"from_published: the mask of this {method} checkpoint is not that of these options: it leaves "
            f"{int(live.sum())} pixels to learn, they leave {len(prompt.pixel)}."
        )
    learned = recipe.adapter.learnables()
    kept = programs.float().flatten(2)[:, :, prompt.pixel.cpu()].flatten(0, 1)
    learned["prompt.program.value"] = kept
    if isinstance(head, PRMHead):
        learned["head.weight"] = _blocks(tensors["prob"].float(), head.weight.shape)
        if head.groups is not None:
            learned["head.group"] = tensors["cluster_into"].argmax(dim=0)
    recipe.adapter.load_learnables(learned)
    drawn = [f"{name}={value!r}" for name, value in implied.items() if name not in options]
    recipe.notes += (f"from_published: read from the sizes, or as released: {few(drawn, 6)}.",) if drawn else ()
    return recipe


def visual_to_published(method: str, adapter: Adapter) -> dict[str, Tensor]:
    """The released tensors under flat names; DVP-cls must have seen a batch, so that its clusters are known."""
    prompt, head = adapter.prompt, adapter.head
    if not isinstance(prompt, PixelPattern):
        raise ValueError(f"to_published: this adapter has no pattern on the pixels, so it is none of {method}.")
    with torch.no_grad():
        programs, mask = (prompt.spread(v).cpu() for v in (prompt.program(), torch.ones_like(prompt.program())))
    out: dict[str, Tensor] = {}
    for i in range(len(programs)):
        start = f"{_PATTERNS}{i}." if method.startswith("dvp") else _PATTERNS
        out |= {f"{start}program": programs[i].clone(), f"{start}mask": mask[i].clone()}
    if isinstance(head, PRMHead):
        if not head.settled:
            raise ValueError("to_published: the descriptions are not clustered yet. Ask the adapter about an image.")
        out["prob"] = torch.block_diag(*(row[:, None] for row in head.weight.cpu()))
        if head.groups is not None:
            out["cluster_into"] = torch.nn.functional.one_hot(head.group.cpu(), head.groups).T.contiguous()
    return out


def _patterns(method: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Programs and masks, (V, 3, R, R) each, in order."""
    found = {}
    for part in ("program", "mask"):
        keys = [key for key in tensors if key.split(".")[-1] == part]
        keys.sort(key=lambda key: [int(word) for word in key.split(".") if word.isdigit()])
        if not keys:
            raise ValueError(
                f"from_published: {part!r} is missing, so this is not a released checkpoint of {method} "
                f"(found {', '.join(sorted(tensors)[:5]) or 'nothing'})."
            )
        found[part] = torch.stack([tensors[key] for key in keys])
    if found["program"].shape != found["mask"].shape:
        raise ValueError(
            f"from_published: every pattern needs its mask, got {len(found['program'])} programs and "
            f"{len(found['mask'])} masks, or other sizes."
        )
    if not method.startswith("dvp") and len(found["program"]) != 1:
        raise ValueError(f"from_published: {method} has one pattern, got {len(found['program'])}.")
    return found["program"], found["mask"]


def _sizes(method: str, live: Tensor) -> dict[str, int]:
    inner = len(live) - int(live[len(live) // 2].sum())
    return {"border": (len(live) - inner) // 2} if method == "vp" else {"inner": inner}


def _of_texts(
    method: str, tensors: Mapping[str, Tensor], patterns: int, classes: int, known: ClassSet, options: Mapping[str, Any]
) -> dict[str, Any]:
    if method in ("vp", "ar"):
        return {}
    if "description_seed" not in options or not (known.descriptions or "descriptions" in options):
        raise ValueError(
            f"from_published: a released checkpoint of {method} does not hold its sentences. Give the published "
            "`descriptions` (file or folder) and `description_seed`, the --seed it was trained with, to draw them anew."
        )
    implied: dict[str, Any] = {"replacement": "reference", "rng": "reference", "min_length": 20}
    if method == "attrvr":
        return {**implied, "m": 20}
    needed = ("prob", "cluster_into") if method == "dvp_cls" else ("prob",)
    for name in needed:
        if name not in tensors:
            raise ValueError(f"from_published: {name!r} is missing, so this is not a released checkpoint of {method}.")
    rows, columns = tensors["prob"].shape
    if columns != classes or rows % classes:
        raise ValueError(
            f"from_published: the matrix of this {method} checkpoint is for {columns} classes, got {classes} names."
        )
    per_class = rows // classes
    if method == "dvp_cls":
        return {**implied, "m": per_class, "clusters": patterns}
    return {**implied, "m": per_class // patterns}


def _blocks(dense: Tensor, shape: Sequence[int]) -> Tensor:
    """(C M, C) → (C, M), the blocks on its diagonal."""
    classes, per_class = shape
    if dense.shape != (classes * per_class, classes):
        raise ValueError(
            f"from_published: the matrix must be of {(classes * per_class, classes)} for {classes} classes with "
            f"{per_class} descriptions, got {tuple(dense.shape)}. Are these the descriptions it was trained with?"
        )
    own = torch.arange(classes)
    return dense.view(classes, per_class, classes)[own, :, own].contiguous()

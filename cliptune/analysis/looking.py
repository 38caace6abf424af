"""Where an adapter looks: maps over the patches of an image, by attention and by gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.attention import pieces
from cliptune.analysis.record import record
from cliptune.batch import Batch
from cliptune.clip.ports import called
from cliptune.clip.towers.image import Patched, VisionTransformer
from cliptune.clip.towers.resnet import ModifiedResNet
from cliptune.saliency import class_activation

Target = Literal["true", "predicted"]


def maps_of(adapter: Adapter) -> tuple[str, ...]:
    """Which maps there are for its image tower."""
    tower = adapter.clip.image
    if isinstance(tower, VisionTransformer):
        return ("attention", "rollout", "grad-cam")
    # Of another library's towers, those with patches; what they read out is not always a class token.
    return ("grad-cam",) if isinstance(tower, (Patched, ModifiedResNet)) else ()


def look(adapter: Adapter, batch: Batch, how: str, target: Target = "true") -> Tensor:
    """A map (B, G, G) ≥ 0 by name: "attention", "rollout" or "grad-cam". Raises: ValueError for another one."""
    if how not in maps_of(adapter):
        known = ", ".join(maps_of(adapter)) or "none"
        raise ValueError(f"look: the maps of this tower, {called(adapter.clip.image)}, are {known}, got {how!r}.")
    if how == "grad-cam":
        return class_map(adapter, batch, target)
    return torch.cat([_ATTENTION[how](adapter, part) for part in pieces(batch)])


@torch.no_grad()
def class_attention(adapter: Adapter, batch: Batch) -> Tensor:
    """What the class token attends to in the last block, mean over heads and views, (B, G, G)."""
    tower = adapter.clip.image
    assert isinstance(tower, VisionTransformer)
    with record(adapter, image=[tower.layers - 1]) as recording, adapter.evaluating():
        adapter(batch)
    weights = recording.attention["image", tower.layers - 1].query("cls").key("patch").weights
    return _square(weights.mean(dim=(1, 2, 3)))


@torch.no_grad()
def rollout(adapter: Adapter, batch: Batch) -> Tensor:
    """Attention rollout from the class token, (B, G, G): the product over blocks of ½ (A + 1), A the mean over heads.

    Prompt rows that a block replaces start anew there: what they took from the image before is lost.
    Source: arXiv:2005.00928, Sec. 3.
    """
    tower = adapter.clip.image
    assert isinstance(tower, VisionTransformer)
    with record(adapter, image=range(tower.layers)) as recording, adapter.evaluating():
        adapter(batch)
        replaced = adapter.prompt(seen=adapter.seen).image.tokens
    flow = torch.zeros(())
    real = 1 + tower.patches
    for layer in range(tower.layers):
        weights = recording.attention["image", layer].weights.mean(dim=2)  # (B, V, T, T)
        one = torch.eye(weights.shape[-1], device=weights.device)
        if layer == 0:
            flow = one.expand_as(weights)
        elif layer in replaced:
            flow = torch.cat([flow[..., :real, :], one[real:].expand(*flow.shape[:2], -1, -1)], dim=2)
        flow = (weights + one) / 2 @ flow
    return _square(flow[:, :, 0, 1:real].mean(dim=1))


_ATTENTION: dict[str, Callable[[Adapter, Batch], Tensor]] = {"attention": class_attention, "rollout": rollout}


def class_map(adapter: Adapter, batch: Batch, target: Target = "true") -> Tensor:
    """Grad-CAM for each image's class, mean over views, (B, G, G).

    Of a ViT: input of the last attention, patch rows alone, weighted by the mean of the gradient over patches. Of a
    ResNet: output of the last stage, weighted by the mean of the gradient over places.

    Args:
        target: the "true" class, or the "predicted" one.
    Source: arXiv:1610.02391, Eqs. 1 and 2; for the ViT as in DAPT (arXiv:2508.00395).
    """
    tower = adapter.clip.image
    kept: list[Tensor] = []

    def keep(rows: Tensor) -> Tensor:
        kept.append(rows.detach().requires_grad_())
        return kept[-1]

    undo: Callable[[], Any]
    if isinstance(tower, Patched):
        tower.watch = keep
        undo = lambda: setattr(tower, "watch", None)
    elif not isinstance(tower, ModifiedResNet):
        raise ValueError(f"class_map: Grad-CAM needs patches or a ResNet, and this backbone has a {called(tower)}.")
    else:
        last = getattr(tower, f"layer{tower.stages}")
        undo = last.register_forward_hook(lambda _, __, out: keep(out)).remove
    try:
        with torch.enable_grad(), adapter.evaluating():
            logits = adapter(batch).logits
    finally:
        undo()
    if len(kept) != 1:
        raise ValueError("class_map: the views of a batch must pass the tower together. Use an adapter without chunks.")
    classes = batch.labels if target == "true" else logits.argmax(dim=-1)
    score = logits.gather(1, classes[:, None]).squeeze(1)
    if isinstance(tower, ModifiedResNet):
        (gradient,) = torch.autograd.grad(score.sum(), kept[0])
        cam = torch.einsum("bchw,bc->bhw", kept[0].detach(), gradient.mean(dim=(2, 3)))
    else:
        cam = class_activation(kept[0], score, tower.patches, tower.prefix)
    return cam.detach().relu().unflatten(0, (len(batch), -1)).mean(dim=1)


def _square(patches: Tensor) -> Tensor:
    side = round(patches.shape[-1] ** 0.5)
    return patches.unflatten(-1, (side, side))

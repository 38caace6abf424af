"""Optimisers, schedule, image-side losses and checkpoints of `mini`'s pre-training."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mini_towers import ImageTower, Sizes
from mini_world import HEADS, PATCH, Pictures, targets
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
KEPT = 36  # patches of 64 that a step looks at, most of them on objects
_PATCH_HEADS = ("shape", "texture", "colour")
_HEAD_WEIGHTS = {"shape": 2.0}
MUON_LR, ADAMW_LR = 4e-3, 1e-3


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix updates are made nearly orthogonal (Jordan et al. 2024, five Newton-Schulz steps).

    Counted in pictures, shape is learned about twice as fast as with AdamW.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                # query, key and value lie in one matrix and are three
                pieces = update.chunk(3) if len(update) == 3 * update.shape[1] else (update,)
                update = torch.cat([_orthogonal(piece) for piece in pieces])
                scale = 0.2 * math.sqrt(max(pieces[0].shape))  # size of AdamW's updates
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def _orthogonal(matrix: Tensor) -> Tensor:
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (2.0315 * a @ a - 4.775 * a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class AttributeHeads(nn.Module):
    """What the image tower is asked besides the captions: every attribute from the embedding, shape, texture and
    colour from the mean of the patches, and, half way up, which pixels of each patch belong to an object."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embedding = nn.ModuleDict({name: nn.Linear(sizes.embed, count) for name, count in HEADS.items()})
        self.patches = nn.ModuleDict({name: nn.Linear(sizes.width, HEADS[name]) for name in _PATCH_HEADS})
        self.pixels = nn.Linear(sizes.width, PATCH * PATCH)

    def forward(
        self, tower: ImageTower, pictures: Pictures, keep: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Returns: embedding (n, D), loss, and per head the correct answers (n,) as 0 / 1, −1 where not asked."""
        embedding, middle, last = tower((pictures.images - MEAN) / STD, keep)
        answers, right = targets(pictures), {}
        loss = torch.zeros(())
        for name, head in self.embedding.items():
            answer = answers[name]
            asked = answer >= 0
            if not asked.any():
                continue
            logits = head(embedding)
            share = asked.float().mean().sqrt()  # rare questions count less, but not as little as they are rare
            weight = _HEAD_WEIGHTS.get(name, 0.5) * share
            loss = loss + weight * F.cross_entropy(logits, answer, ignore_index=-1)
            right[name] = torch.where(asked, (logits.argmax(1) == answer).long(), -1)
        for name, head in self.patches.items():
            loss = loss + 0.5 * F.cross_entropy(head(last.mean(1)), answers[name], ignore_index=-1)
        cells = F.unfold(pictures.coverage[:, None], PATCH, stride=PATCH).mT
        if keep is not None:
            cells = cells.gather(1, keep[:, :, None].expand(-1, -1, cells.shape[2]))
        return embedding, loss + F.binary_cross_entropy_with_logits(self.pixels(middle), cells), right


def kept_patches(coverage: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Numbers (n, count) of the patches to look at: first those on an outline, then on an object, then any."""
    mean = F.avg_pool2d(coverage[:, None], PATCH)[:, 0].flatten(1)
    outline = (mean > 0.02) & (mean < 0.98)
    score = torch.rand(mean.shape, generator=generator) + (mean > 0.02) + 0.5 * outline
    return score.topk(count, dim=1).indices


def optimisers(modules: Iterable[nn.Module]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all the rest."""
    matrices, rest = [], []
    for module in modules:
        for name, p in module.named_parameters():
            (matrices if "resblocks" in name and p.ndim == 2 else rest).append(p)
    adamw = torch.optim.AdamW(rest, lr=ADAMW_LR, weight_decay=0.01, betas=(0.9, 0.98))
    return [Muon(matrices, lr=MUON_LR), adamw]


def set_rate(opts: list[torch.optim.Optimizer], factor: float) -> None:
    for opt, lr in zip(opts, (MUON_LR, ADAMW_LR), strict=True):
        for group in opt.param_groups:
            group["lr"] = lr * factor


def save_checkpoint(path: Path, parts: dict[str, Any]) -> None:
    """Write beside, then rename: an interrupted run leaves the last whole checkpoint."""
    beside = path.with_suffix(".part")
    torch.save(parts, beside)
    os.replace(beside, path)

"""Which patches speak for a class: Grad-CAM on a ViT's last block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grad_cam(rows: Tensor, score: Tensor, patches: int, prefix: int = 1) -> Tensor:
    """Grad-CAM on the patches of a ViT's last block: relu(X · mean over patches of ∂score/∂X), (B, G, G).

    Args:
        rows: X (B, T, d), what that block attends to: CLS, patches, prompts.
        score: scalar or (B,), summed.
        patches: G². prefix: rows in front of them.
    Since CLS is read after this block, nothing before it is differentiated; the graph is kept for the loss.
    Source: DAPT (arXiv:2508.00395), DAPT-G.
    """
    return class_activation(rows, score, patches, prefix).relu()


def class_activation(rows: Tensor, score: Tensor, patches: int, prefix: int = 1) -> Tensor:
    """Grad-CAM before the ReLU, (B, G, G): negative where a patch speaks against the class; as in `grad_cam`."""
    (gradient,) = torch.autograd.grad(score.sum(), rows, retain_graph=True)
    here = slice(prefix, prefix + patches)
    weight = gradient[:, here].mean(dim=1)
    side = round(patches**0.5)
    return torch.einsum("bpd,bd->bp", rows[:, here].detach(), weight).unflatten(1, (side, side))


def saliency(cam: Tensor, resolution: int, per_batch: bool = False) -> Tensor:
    """(B, G, G) → (B, 1, R, R) in [0, 1]: bilinear with aligned corners, divided by the maximum of each image.

    Args:
        per_batch: divide by the maximum of the batch instead, as released; an image's mask then depends on the others.
    """
    large = F.interpolate(cam[:, None].float(), (resolution, resolution), mode="bilinear", align_corners=True)
    return large / ((large.amax() if per_batch else large.amax(dim=(1, 2, 3), keepdim=True)) + 1e-6)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of masks (…, h, w), true or above 0 on the object → (…), in [0, 1].

    1 where both are empty. Raises: ValueError if their sizes differ.
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"iou: expected two masks of one size, got {tuple(first.shape)} and {tuple(second.shape)}. Resize one of "
            "them with nearest interpolation."
        )
    a, b = first > 0, second > 0
    both, any_ = ((a & b).sum(dim=(-2, -1)), (a | b).sum(dim=(-2, -1)))
    return torch.where(any_ > 0, both / any_.clamp_min(1), 1.0)

"""Where the object is: foreground masks of the very views that are trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.batch import Batch
from cliptune.saliency import grad_cam, saliency

MaskSource = Callable[[Batch, Tensor, "Tensor | None"], Tensor]
"""`(batch, score of each image's own class (B,), what the last block attends to or None) → (B, 1, R, R) in {0, 1}`."""
USUAL_CELLS = 7
"""To a side of a view, for towers without patches; ViT-B/32 has as many."""


class GradCAMMasks:
    """Masks from the adapter's own gradient (DAPT-G).

    Args:
        patches: G² of the tower. resolution: R.
        threshold: β in (0, 1): saliency from which on a pixel is foreground.
        per_batch: see `saliency`.
        prefix: rows in front of the patches.
    """

    needs_rows = True

    def __init__(
        self, patches: int, resolution: int, threshold: float = 0.5, per_batch: bool = False, prefix: int = 1
    ) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"dapt: the threshold of the masks must be between 0 and 1, got {threshold}.")
        self.patches, self.resolution, self.prefix = patches, resolution, prefix
        self.threshold, self.per_batch = threshold, per_batch

    def __call__(self, batch: Batch, score: Tensor, rows: Tensor | None) -> Tensor:
        assert rows is not None
        cam = grad_cam(rows, score, self.patches, self.prefix)
        return (saliency(cam, self.resolution, self.per_batch) >= self.threshold).float()


class Erased:
    """Masks of another source that have lost a share of their object, cell by cell, but not all of it.

    Which cells, is drawn anew for every view.

    Args:
        masks: the source. cells: of a view, to a side. share: probability in [0, 1) that a cell loses its object.
    """

    def __init__(self, masks: MaskSource, cells: int, share: float) -> None:
        self.masks, self.cells, self.share = masks, cells, share
        self.needs_rows = bool(getattr(masks, "needs_rows", False))

    def __call__(self, batch: Batch, score: Tensor, rows: Tensor | None) -> Tensor:
        masks = self.masks(batch, score, rows).float()
        shown = F.adaptive_max_pool2d(masks, self.cells) > 0
        order = torch.rand(shown.shape, device=masks.device)
        last = order.masked_fill(~shown, -1).flatten(1).argmax(dim=1)
        kept = (order >= self.share).flatten(1).scatter(1, last[:, None], True).view_as(order)
        return masks * F.interpolate(kept.float(), masks.shape[-2:], mode="nearest")


def given_masks(batch: Batch, score: Tensor, rows: Tensor | None) -> Tensor:
    """The masks that the batch holds (DAPT-S). Raises: ValueError if it holds none."""
    if batch.masks is None:
        raise ValueError(
            "dapt: the batch holds no masks. Train with `fit`, which loads them from dapt_source, or give the batch "
            "masks of its views."
        )
    return batch.masks


def checked(masks: Any, batch: Batch) -> Tensor:
    """Masks as (B, 1, R, R) in {0, 1}. Raises: ValueError for another size or other values."""
    expected = (len(batch), 1, *batch.images.shape[-2:])
    if tuple(masks.shape) != expected:
        raise ValueError(
            f"dapt: masks must have the size of the views they are for, {expected}, got {tuple(masks.shape)}. "
            "Crop, flip and resize each mask together with its image."
        )
    if not ((masks == 0) | (masks == 1)).all():
        raise ValueError("dapt: masks must hold 0 (background) and 1 (foreground) only. Round them after resizing.")
    return masks.to(batch.images)

"""What heads over descriptions share: each text looks at its own view, each class at its own texts."""

from __future__ import annotations

import torch
from torch import Tensor

from cliptune.texts import TextBatch


def own_scores(similarity: Tensor, texts: TextBatch, view_of: Tensor | None = None) -> Tensor:
    """Similarities (B, V, K) → (B, C, M): every description scored by its own view, laid out by class.

    Args:
        view_of: (K,) instead of the texts' own. With one view (V = 1) all look at that one.
    Raises: ValueError if a text looks at a view that is not there.
    """
    views = similarity.shape[1]
    if views == 1:
        own = similarity[:, 0]
    else:
        view = texts.view_of if view_of is None else view_of
        if int(view.max()) >= views:
            raise ValueError(
                f"Head: the descriptions look at views 0 to {int(view.max())}, but the image has {views}. "
                "Use as many patterns as there are groups of descriptions."
            )
        own = similarity[:, view, torch.arange(similarity.shape[-1], device=view.device)]
    return own[:, texts.blocks]


def weighted_prototypes(
    weight: Tensor, text_features: Tensor, texts: TextBatch, views: int, view_of: Tensor | None = None
) -> Tensor:
    """Σ_m w[c, m] t[c, m] over the descriptions of each view: (V, C, D), not unit-norm.

    Args:
        weight: (C, M). text_features: (K, D).
    """
    parts = weight.to(text_features.dtype)[..., None] * text_features[texts.blocks]  # (C, M, D)
    if views == 1:
        return parts.sum(dim=1)[None]
    view = (texts.view_of if view_of is None else view_of)[texts.blocks]
    return torch.stack([(parts * (view == v)[..., None]).sum(dim=1) for v in range(views)])

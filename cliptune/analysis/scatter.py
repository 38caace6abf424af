"""Image features in two dimensions, with the texts of their classes among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.analysis.finding import Finding


@dataclass(frozen=True)
class Scatter(Finding):
    """t-SNE of N image features and C class texts.  (van der Maaten and Hinton 2008)

    Args:
        class_names: C.
        images: (N, 2). labels: (N,).
        texts: (C, 2); None where texts depend on the image or a class has many.
        neighbours: share of images in [0, 1] whose nearest other image feature, before t-SNE, is of the same class.
        gap: Euclidean distance between the means of image features and of texts, on the unit sphere, before they are
            centred; NaN without texts. (arXiv:2203.02053)
    """

    class_names: tuple[str, ...]
    images: Tensor
    labels: Tensor
    texts: Tensor | None
    neighbours: float
    gap: float

    def sentence(self) -> str:
        said = (
            f"Of {len(self.labels)} images {100 * self.neighbours:.0f} % have an image of their own class next to them "
            "in feature space"
        )
        if self.texts is None:
            return f"{said}; the classes have no one text each that could be shown among them."
        return f"{said}; images and texts lie {self.gap:.2f} apart on the unit sphere, a gap taken out of the picture."


def scatter(
    features: Tensor, labels: Tensor, texts: Tensor | None, class_names: Sequence[str], *, seed: int = 0
) -> Scatter:
    """Lay features out.

    Images and texts of CLIP lie in two cones apart; each are centred first, so that texts fall among their images.

    Args:
        features: (N, D) unit. labels: (N,). texts: (C, D) unit.
        seed: of t-SNE.
    Raises: ValueError for fewer than three images.
    """
    if len(features) < 3:
        raise ValueError(f"scatter: a picture of features needs at least three images, got {len(features)}.")
    from sklearn.manifold import TSNE

    similar = features @ features.T
    nearest = similar.fill_diagonal_(-2).argmax(dim=1)
    centred = [F.normalize(rows - rows.mean(dim=0), dim=-1) for rows in (features, *([] if texts is None else [texts]))]
    points = torch.cat(centred).double().numpy()
    perplexity = min(30.0, (len(points) - 1) / 3)
    placed = torch.from_numpy(TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(points))
    gap = float("nan") if texts is None else float((features.mean(dim=0) - texts.mean(dim=0)).norm())
    return Scatter(
        tuple(class_names),
        placed[: len(features)],
        labels,
        None if texts is None else placed[len(features) :],
        float((labels[nearest] == labels).double().mean()),
        gap,
    )

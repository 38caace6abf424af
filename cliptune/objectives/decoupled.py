"""The losses that align the foreground and the background of an image apart."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def pull_push(image: Tensor, foreground: Tensor, background: Tensor, margin: float = 1.5) -> Tensor:
    """Mean of max(0, ‖f − f_f‖ − ‖f − f_b‖ + margin); unit features (B, D), the last two without gradient.

    On the unit sphere distances are at most 2, so that the default margin leaves nearly every image active.
    Source: DAPT (arXiv:2508.00395), visual decoupling; margin as released.
    """
    return F.triplet_margin_loss(image, foreground.detach(), background.detach(), margin=margin)


def background_alignment(similarity: Tensor) -> Tensor:
    """CE of the background image with the background word that it is nearest to; scaled similarity (B, words)."""
    return F.cross_entropy(similarity, similarity.argmax(dim=-1))


class DecoupledLoss:
    """The host's loss and, in a first phase, `pull` · L_v; later `foreground` · L_f + `background` · L_b.

    Args:
        host: objective whose loss stays.
        pull, foreground, background: weights of the terms; a term of weight 0 is not computed.
        gate: share of the epochs that belongs to the first phase; 0.7 switches after epoch 6 of 10, as released.
        margin: of L_v.
        together: all three terms from the first epoch to the last.
    Source: DAPT (arXiv:2508.00395); weights and phases as released.
    """

    def __init__(
        self,
        host: Any,
        pull: float = 0.8,
        foreground: float = 0.1,
        background: float = 0.5,
        gate: float = 0.7,
        margin: float = 1.5,
        together: bool = False,
    ) -> None:
        self.host, self.gate, self.margin, self.together = host, gate, margin, together
        self.pull, self.foreground, self.background = pull, foreground, background
        self.needs = frozenset(host.needs) | {"decoupled"}

    def __call__(self, out: Any, batch: Any, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self.host(out, batch, progress)
        views, first = out.extras["decoupled"], progress < self.gate
        if self.pull and (first or self.together):
            features = (views.image_features("foreground"), views.image_features("background"))
            parts = {**parts, "pull_push": pull_push(out.image_features[views.own, 0], *features, self.margin)}
            loss = loss + self.pull * parts["pull_push"]
        if self.foreground and (self.together or not first):
            parts = {**parts, "foreground": F.cross_entropy(views.foreground_logits(), views.labels)}
            loss = loss + self.foreground * parts["foreground"]
        if self.background and (self.together or not first):
            parts = {**parts, "background": background_alignment(views.background_similarity())}
            loss = loss + self.background * parts["background"]
        return loss, parts

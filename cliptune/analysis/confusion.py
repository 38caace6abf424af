"""Which classes are taken for which."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cliptune.analysis.finding import Finding


@dataclass(frozen=True)
class Confusion(Finding):
    """Counts of true against predicted classes.

    Args:
        class_names: C.
        counts: (C, C) int64, row the true class, column the predicted one.
    """

    class_names: tuple[str, ...]
    counts: Tensor

    @property
    def accuracy(self) -> float:
        """In %."""
        return 100 * float(self.counts.diagonal().sum()) / max(1, int(self.counts.sum()))

    def pairs(self, n: int = 5) -> list[tuple[str, str, int, float]]:
        """The most confused pairs: (true, predicted, images, share of the true class's images in %), most first."""
        wrong = self.counts.clone()
        wrong.fill_diagonal_(0)
        values, at = wrong.flatten().topk(min(n, wrong.numel()))
        of_class = self.counts.sum(dim=1)
        found = []
        for count, place in zip(values.tolist(), at.tolist(), strict=True):
            true, predicted = divmod(place, len(wrong))
            if count:
                share = 100 * count / int(of_class[true])
                found.append((self.class_names[true], self.class_names[predicted], count, share))
        return found

    def sentence(self) -> str:
        said = f"{self.accuracy:.1f} % of {int(self.counts.sum()):,} images are named rightly"
        worst = self.pairs(1)
        if not worst:
            return f"{said}."
        true, predicted, count, share = worst[0]
        return f"{said}; most often {true!r} is taken for {predicted!r} ({count} images, {share:.0f} % of that class)."


def confusion(labels: Tensor, predicted: Tensor, class_names: tuple[str, ...]) -> Confusion:
    """Count true (N,) against predicted (N,) classes."""
    classes = len(class_names)
    counts = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    return Confusion(class_names, counts.view(classes, classes))

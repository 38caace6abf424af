"""A logistic regression on frozen image embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch

STEPS = 8


class LinearHead(Head):
    """Linear probe of CLIP (arXiv:2103.00020, Sec. 3.2): L2-regularised logistic regression by L-BFGS.

    Args:
        classes: C. width: D, size of the image embedding (not unit-norm).
        max_iter: iterations of L-BFGS.
        c: inverse regularisation strength; None to search it on the validation images: seven values 1e-6 … 1e6, then
            eight halvings of the step around the best in log space. Without validation images it is 1.

    Call order: `observe` for all training (and validation) images, then `refit`.
    """

    class_specific = True
    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, width: int, max_iter: int = 1000, c: float | None = None) -> None:
        super().__init__()
        self.max_iter, self.c = max_iter, c
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        return image_embedding.mean(dim=1) @ self.weight.T + self.bias

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        self._seen[split].append((out.image_embedding.mean(dim=1).cpu(), labels.cpu()))

    def refit(self) -> None:
        """Fit to what was observed. Raises: ValueError if no training image was, or all of one class."""
        if not self._seen["train"]:
            raise ValueError("LinearHead: nothing to fit, because no training image was observed.")
        x, y = (torch.cat(parts).numpy() for parts in zip(*self._seen["train"], strict=True))
        if len(np.unique(y)) < 2:
            raise ValueError(
                f"LinearHead: a linear probe separates at least two classes, got {len(x)} images of class {y[0]} only. "
                "Add images of another class."
            )
        fitted = self._fit(x, y, self._strength(x, y))
        present = torch.as_tensor(fitted.classes_, device=self.weight.device)
        weight, bias = fitted.coef_, fitted.intercept_
        if len(fitted.classes_) == 2:
            # For two classes scikit-learn keeps one row, the log-odds of the second class.
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        # A class without training images can never be predicted.
        self.weight.zero_()
        self.bias.fill_(-1e4)
        self.weight[present] = torch.as_tensor(weight, dtype=self.weight.dtype, device=self.weight.device)
        self.bias[present] = torch.as_tensor(bias, dtype=self.bias.dtype, device=self.bias.device)
        self._seen = {"train": [], "val": []}

    def _fit(self, x: np.ndarray, y: np.ndarray, c: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=c, max_iter=self.max_iter).fit(x, y)

    def _strength(self, x: np.ndarray, y: np.ndarray) -> float:
        if self.c is not None or not self._seen["val"]:
            return 1.0 if self.c is None else self.c
        val_x, val_y = (torch.cat(parts).numpy() for parts in zip(*self._seen["val"], strict=True))
        scores: dict[float, float] = {}

        def score(power: float) -> float:
            if power not in scores:
                scores[power] = self._fit(x, y, 10.0**power).score(val_x, val_y)
            return scores[power]

        best, step = max((-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0), key=score), 1.0
        for _ in range(STEPS):
            best = max((best, best - step, best + step), key=score)
            step /= 2
        return 10.0**best

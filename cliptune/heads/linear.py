"""A logistic regression on frozen image embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cliptune.heads.base import Head, check_finite
from cliptune.heads.logistic import Fit, LogisticRegression
from cliptune.texts import TextBatch

# Powers of ten of C that are tried first, and halvings of the step around the best of them.
POWERS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
STEPS = 8
# What the weights may be off by, relative to their norm: of each C that is searched, and of the one that is kept.
SEARCHED, KEPT = 1e-3, 1e-5
# Share by which the last Newton step of a C that is searched may have moved the weights.
SETTLED = 1e-2
# Images times classes that are scored together.
SCORED = 2**24


class LinearHead(Head):
    """Linear probe of CLIP (arXiv:2103.00020, Sec. 3.2): L2-regularised logistic regression.

    The minimum of C · Σ cross-entropy + ½ ‖W‖², the bias not penalised, up to 1e-5 ‖W‖, in the search up to 1e-3 ‖W‖
    or where a Newton step moves the weights and lowers the objective by at most 1 % (see `LogisticRegression`). With
    two classes C counts half, as in scikit-learn, which then has one row of weights.

    Args:
        classes: C. width: D, size of the image embedding (not unit-norm).
        max_iter: passes through the training images for each value of C, at most.
        c: inverse regularisation strength C > 0; None to search it on the validation images: seven values 1e-6 … 1e6,
            then eight halvings of the step around the best in log space; of equals the strongest regularisation, then
            the value in the middle, is taken. Without validation images it is 1.

    A class without training images is never predicted. On "mps", which has no float64, it is computed on the CPU.
    Call order: `observe` for all training (and validation) images, then `refit`.
    Raises: ValueError for a `c` or a `max_iter` that is not above 0.
    """

    class_specific = True
    in_embedding_space = True
    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, width: int, max_iter: int = 1000, c: float | None = None) -> None:
        super().__init__()
        if max_iter < 1:
            raise ValueError(f"LinearHead: max_iter must be at least 1 pass, got {max_iter}.")
        if c is not None and not 0 < c < torch.inf:
            raise ValueError(
                f"LinearHead: c must be above 0 and finite, got {c}. Leave it out to search it on validation images."
            )
        self.max_iter, self.c = max_iter, c
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self._forget()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        return image_embedding.mean(dim=1) @ self.weight.T + self.bias

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        self._seen[split].append((out.image_embedding.mean(dim=1).cpu(), labels.cpu()))

    def refit(self) -> None:
        """Fit to what was observed.

        Raises: ValueError if no training image was, or all of one class, or embeddings are not finite.
        """
        if not self._seen["train"]:
            raise ValueError("LinearHead: nothing to fit, because no training image was observed.")
        x, y = self._joined("train")
        present, labels = y.unique(return_inverse=True)
        if len(present) < 2:
            raise ValueError(
                f"LinearHead: a linear probe separates at least two classes, got {len(x)} images of class "
                f"{int(present[0])} only. Add images of another class."
            )
        if self.weight.device.type == "mps":
            self.say("computed on the CPU, because mps has no float64")
        missing = len(self.bias) - len(present)
        if missing:
            self.say(f"{missing} of {len(self.bias)} classes have no training images and are never predicted")
        fitted = self._fit(LogisticRegression(x, labels, len(present), self.max_iter, self.say), present)
        if fitted.error > KEPT:
            remedy = "a larger max_iter or a smaller C" if fitted.passes >= self.max_iter else "a smaller C"
            self.say(
                f"Not converged: the weights may be off by {100 * fitted.error:.2g} % after {fitted.passes} passes; "
                f"{remedy} converges"
            )
        # A class without training images can never be predicted.
        self.weight.zero_()
        self.bias.fill_(-1e4)
        self.weight[present] = fitted.weight.to(self.weight)
        self.bias[present] = fitted.bias.to(self.bias)
        self._forget()

    def _fit(self, regression: LogisticRegression, present: Tensor) -> Fit:
        if self.c is not None:
            return regression.fit(self._strength(self.c, present), KEPT)
        if self._seen["val"]:
            return self._search(regression, present)
        return regression.fit(self._strength(1.0, present), KEPT)

    def _search(self, regression: LogisticRegression, present: Tensor) -> Fit:
        """The best C in log space. Each fit starts from those of nearby values."""
        x, y = self._joined("val")
        if len(x) < len(self.bias):
            self.say(
                f"C is searched on {len(x)} validation images, fewer than the {len(self.bias)} classes: "
                "many values will do equally well, of which the strongest regularisation is taken"
            )
        scores: dict[float, int] = {}
        fits: dict[float, Fit] = {}

        def score(power: float) -> int:
            if power not in scores:
                c = self._strength(10.0**power, present)
                fits[c] = regression.fit(c, SEARCHED, fits, SETTLED)
                scores[power] = _correct(fits[c], x, y, present)
                self.say(
                    f"C = {10.0**power:.4g}, value {len(scores)} of {len(POWERS) + 2 * STEPS}: "
                    f"{100 * scores[power] / len(x):.1f} % of {len(x)} validation images right",
                    minor=True,
                    share=len(scores) / (len(POWERS) + 2 * STEPS),
                )
            return scores[power]

        best, step = max(POWERS, key=score), 1.0
        for _ in range(STEPS):
            best = max((best, best - step, best + step), key=score)
            step /= 2
        self.chosen = {"images": len(x), "chose": {"C": 10.0**best}}
        return regression.fit(self._strength(10.0**best, present), KEPT, fits)

    def _strength(self, c: float, present: Tensor) -> float:
        # Of two classes scikit-learn penalises one row, their difference: 2 ‖w‖² / 2 for rows ± w becomes ‖2 w‖² / 2.
        return c / 2 if len(present) == 2 else c

    def _joined(self, split: str) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) and labels (N,) of a split, where they are computed with."""
        device = self.weight.device if self.weight.device.type != "mps" else torch.device("cpu")
        x, y = (torch.cat(parts).to(device) for parts in zip(*self._seen[split], strict=True))
        check_finite(x, split, "LinearHead")
        return x, y

    def _forget(self) -> None:
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}


def _correct(fitted: Fit, x: Tensor, y: Tensor, present: Tensor) -> int:
    """How many images (N, D) are taken for the class they are of; class `present[i]` has row i of the weights."""
    right, rows = 0, max(1, SCORED // len(present))
    for i in range(0, len(x), rows):
        answer = (x[i : i + rows].double() @ fitted.weight.T + fitted.bias).argmax(dim=1)
        right += int((present[answer] == y[i : i + rows]).sum())
    return right

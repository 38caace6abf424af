"""Kernel ridge regression on the training images, around the zero-shot answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch

# Images per class → (β, λ), as the release carries them over from ImageNet to other data.
TRANSFERRED = {1: (3.0, 0.05), 2: (2.6, 0.05), 4: (1.5, 0.05), 8: (1.66, 0.07), 16: (1.7, 0.1)}
# Features (n, D) unit, similarities (n, C) scaled, labels (n,).
Seen = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Grid:
    """Values tried: `betas` of β from `beta_min` to `beta_max`, `ridges` of λ from `ridge_min` to `ridge_max`."""

    beta_min: float = 0.5
    beta_max: float = 3.0
    betas: int = 20
    ridge_min: float = 0.001
    ridge_max: float = 1.0
    ridges: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.beta_min <= self.beta_max and 0 < self.ridge_min <= self.ridge_max):
            raise ValueError(
                "Grid: β and λ are searched above 0 and upwards, got "
                f"β from {self.beta_min} to {self.beta_max} and λ from {self.ridge_min} to {self.ridge_max}."
            )
        if self.betas < 1 or self.ridges < 1:
            raise ValueError(f"Grid: at least one β and one λ must be tried, got {self.betas} and {self.ridges}.")


class KernelHead(Head):
    """logits = s (f̂ T̂ᵀ + k(f̂, F) A), k(x, y) = exp(−β (1 − x·y)), A = (k(F, F) / λ + I)⁻¹ (Y − F T̂ᵀ).

    F (n, D) are unit features of the training images, Y (n, C) their labels, one-hot. A is λ times the solution of
    kernel ridge regression of what zero-shot cosines leave unexplained: so small a step away from the texts is what
    the release takes.

    Args:
        classes: C. width: D.
        scale: s, a scalar.
        beta: β > 0; ridge: λ > 0; None takes those of `TRANSFERRED` for the nearest smaller number of images per class.
        grid: search both on the validation images, if there are any; None keeps those given.

    Call order: `observe` for all training (and validation) images, then `refit`. A class without training images has
    no ones in Y. How many keys there are is a matter of the data. Computed in float64.
    Source: ProKeR (arXiv:2501.11175; trainers/proker.py of its release, whose logits lack the factor s).
    """

    class_specific = True
    in_embedding_space = True
    growing = frozenset({"keys", "coefficients"})
    keys: Tensor
    coefficients: Tensor
    beta: Tensor
    ridge: Tensor
    scale: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        scale: Tensor,
        beta: float | None = None,
        ridge: float | None = None,
        grid: Grid | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("beta", beta), ("ridge", ridge)):
            if value is not None and not value > 0:
                raise ValueError(f"KernelHead: {name} must be above 0, got {value}. Leave it out for the usual one.")
            if value is not None and grid is not None:
                raise ValueError(
                    f"KernelHead: {name} is {value} and cannot be searched as well. Leave one of them out."
                )
        self.classes, self.given, self.grid = classes, (beta, ridge), grid
        self.register_buffer("keys", torch.zeros(0, width))
        self.register_buffer("coefficients", torch.zeros(0, classes))  # s A
        usual = TRANSFERRED[1]
        self.register_buffer("beta", torch.tensor(usual[0] if beta is None else float(beta)))
        self.register_buffer("ridge", torch.tensor(usual[1] if ridge is None else float(ridge)))
        self.register_buffer("scale", scale.detach().clone(), persistent=False)  # the CLIP's, and kept with it
        self._forget()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        kernel = _kernel(F.normalize(image_embedding, dim=-1), self.keys, self.beta)
        return (similarity + kernel @ self.coefficients).mean(dim=1)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """Every view (B, V) of a training image is a key of its own; of other images the views' mean is scored."""
        feature = F.normalize(out.image_embedding.double(), dim=-1).cpu()
        self._seen[split].append((feature, out.similarity.double().cpu(), labels.cpu()))

    def refit(self) -> None:
        """Solve for what was observed. Raises: ValueError if no training image was."""
        if not self._seen["train"]:
            raise ValueError("KernelHead: nothing to fit, because no training image was observed.")
        feature, similarity, labels = _joined(self._seen["train"])
        self._seen["train"] = []  # which would be held twice
        beta, ridge = self._usual(labels)
        views = feature.shape[1]
        keys = feature.flatten(0, 1)
        rest = similarity.flatten(0, 1).neg()
        del similarity, feature
        rest[torch.arange(len(rest)), labels.repeat_interleave(views)] += self.scale.double().cpu()
        searched = self.grid is not None and bool(self._seen["val"])
        if self.grid is not None and searched:
            beta, ridge = _searched(self.grid, keys, rest, _joined(self._seen["val"]), self.say)
        # In place: of 16,000 keys such a matrix takes 2 GB.
        system = (keys @ keys.T).sub_(1).mul_(beta).exp_().div_(ridge)
        system.diagonal().add_(1)
        solution = _solved(system, rest)
        # As laid out when loaded, so that a run opened again answers to the bit.
        self.keys, self.coefficients = keys.to(self.keys), solution.to(self.coefficients).contiguous()
        self.beta.fill_(beta)
        self.ridge.fill_(ridge)
        if None in self.given and not searched:
            self.say(f"β is {beta:.4g} and λ is {ridge:.4g}, the usual ones for so many images where left out")
        self._forget()

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for another number of keys. Raises: ValueError if keys and coefficients differ in it."""
        if shapes["keys"][0] != shapes["coefficients"][0]:
            raise ValueError(
                f"KernelHead: {shapes['keys'][0]} keys need as many rows of coefficients, got "
                f"{shapes['coefficients'][0]}. The checkpoint is damaged."
            )
        self.keys = self.keys.new_zeros(shapes["keys"])
        self.coefficients = self.coefficients.new_zeros(shapes["coefficients"])

    def _usual(self, labels: Tensor) -> tuple[float, float]:
        """(β, λ) as given, or of the nearest smaller number of images per class."""
        shots = len(labels) / len(labels.unique())
        usual = TRANSFERRED[max(known for known in TRANSFERRED if known <= shots)]
        beta, ridge = (own if own is not None else known for own, known in zip(self.given, usual, strict=True))
        return beta, ridge

    def _forget(self) -> None:
        self._seen: dict[str, list[Seen]] = {"train": [], "val": []}


def _joined(batches: list[Seen]) -> Seen:
    feature, similarity, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return feature, similarity, labels


def _solved(system: Tensor, wanted: Tensor) -> Tensor:
    """X (n, C) of system X = wanted, for a positive definite system (n, n), which is overwritten.

    LAPACK factors by columns: of the transpose, which is the same matrix, it needs no copy, and neither do the two
    triangular solves, where `torch.cholesky_solve` would copy the factor.
    """
    factor = torch.linalg.cholesky(system.mT, out=system.mT)
    half = torch.linalg.solve_triangular(factor, wanted, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def _kernel(x: Tensor, y: Tensor, beta: Tensor | float) -> Tensor:
    """Unit (…, n, D), (m, D) → (…, n, m)."""
    return (-beta * (1 - x @ y.T)).exp()


def _searched(
    grid: Grid, keys: Tensor, rest: Tensor, held: Seen, say: Callable[[str, bool, float], None]
) -> tuple[float, float]:
    """(β, λ) that answers best for the held images, the first of the best; β in the outer loop, as released."""
    feature, similarity, labels = held
    best, found = -1, (grid.beta_min, grid.ridge_min)
    for number, beta in enumerate(torch.linspace(grid.beta_min, grid.beta_max, grid.betas).tolist(), 1):
        # One decomposition serves every λ.
        values, vectors = torch.linalg.eigh(_kernel(keys, keys, beta))
        seen, asked = _kernel(feature, keys, beta).mean(dim=1) @ vectors, vectors.T @ rest
        for ridge in torch.linspace(grid.ridge_min, grid.ridge_max, grid.ridges).tolist():
            votes = similarity.mean(dim=1) + seen @ (asked / (values.clamp(min=0) / ridge + 1)[:, None])
            correct = int((votes.argmax(dim=-1) == labels).sum())
            if correct > best:
                best, found = correct, (beta, ridge)
        say(f"β = {beta:.4g}, value {number} of {grid.betas}", True, number / grid.betas)
    return found

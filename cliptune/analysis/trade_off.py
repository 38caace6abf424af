"""Accuracies of runs that differ in one setting, and whether base and new classes pull a prompt the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch


@dataclass(frozen=True)
class Curve(Finding):
    """Accuracy over one setting, several runs at each of its values.

    Args:
        setting: its name.
        values: V, ascending.
        scores: name of the accuracy → for each value the accuracies in % of its runs, seed by seed.
    """

    setting: str
    values: tuple[float | str, ...]
    scores: Mapping[str, tuple[tuple[float, ...], ...]]

    def mean(self, name: str) -> Tensor:
        """(V,)."""
        return torch.tensor([sum(runs) / len(runs) for runs in self.scores[name]], dtype=torch.float64)

    def sentence(self) -> str:
        said = []
        for name in self.scores:
            mean = self.mean(name)
            best = int(mean.argmax())
            said.append(
                f"{name} goes from {float(mean[0]):.1f} % to {float(mean[-1]):.1f} %, best at "
                f"{self.values[best]} ({float(mean[best]):.1f} %)"
            )
        runs = sum(len(of) for of in next(iter(self.scores.values())))
        return f"Over {self.setting} {self.values[0]} to {self.values[-1]}, {'; '.join(said)} ({runs} runs)."


def curve(setting: str, points: Iterable[tuple[float | str, Mapping[str, float]]]) -> Curve:
    """Gather runs, a value and accuracies in % by name each. Names that not all of them have are left out.

    Raises: ValueError if there are fewer than two values, or no name that all have.
    """
    found = list(points)
    values = sorted({value for value, _ in found}, key=lambda value: (isinstance(value, str), value))
    names = [name for name in (found[0][1] if found else ()) if all(name in scores for _, scores in found)]
    if len(values) < 2 or not names:
        raise ValueError(
            f"curve: a curve over {setting} needs at least two values of it with accuracies of one kind, got "
            f"{', '.join(map(str, values)) or 'none'}."
        )
    scores = {name: tuple(tuple(of[name] for at, of in found if at == value) for value in values) for name in names}
    return Curve(setting, tuple(values), scores)


def gradient(adapter: Adapter, batches: Iterable[Batch]) -> Tensor:
    """Gradient of the mean cross-entropy with respect to what learns, one long row, in evaluation mode.

    Raises: ValueError if nothing learns, or there is no image.
    """
    learning = list(adapter.trainable().values())
    if not learning:
        raise ValueError("gradient: nothing in this adapter learns by gradient.")
    sums, n = [torch.zeros_like(p) for p in learning], 0
    with adapter.evaluating():
        for batch in batches:
            loss = F.cross_entropy(adapter(batch).logits, batch.labels, reduction="sum")
            found = torch.autograd.grad(loss, learning, allow_unused=True)
            sums = [a if g is None else a + g for a, g in zip(sums, found, strict=True)]
            n += len(batch)
    if not n:
        raise ValueError("gradient: there is no image to look at. Give batches of at least one image.")
    return torch.cat([value.flatten() for value in sums]) / n


def agreement(first: Tensor, second: Tensor) -> float:
    """Cosine of two gradients; NaN if one is zero."""
    if not float(first.norm()) or not float(second.norm()):
        return float("nan")
    return float(F.cosine_similarity(first.double(), second.double(), dim=0))

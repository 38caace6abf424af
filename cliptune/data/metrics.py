"""What is measured on a split. Percentages throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def accuracy(predicted: Tensor | Sequence[int], labels: Tensor | Sequence[int]) -> float:
    """100 · correct / total over images (micro): what the prompt-tuning papers report for every data set."""
    predicted, labels = _checked(predicted, labels)
    return 100.0 * int((predicted == labels).sum()) / len(labels)


def macro_f1(predicted: Tensor | Sequence[int], labels: Tensor | Sequence[int]) -> float:
    """Unweighted mean, in %, of the F1 of each class that occurs in `labels`; other classes are left out."""
    from sklearn.metrics import f1_score  # takes seconds, and many commands measure nothing

    predicted, labels = _checked(predicted, labels)
    present = torch.unique(labels).numpy()
    return 100.0 * float(f1_score(labels.numpy(), predicted.numpy(), average="macro", labels=present, zero_division=0))


def per_class_accuracy(
    predicted: Tensor | Sequence[int], labels: Tensor | Sequence[int], n_classes: int
) -> list[float | None]:
    """Recall in % of each of the C classes; None for a class without an image in `labels`."""
    from sklearn.metrics import recall_score

    predicted, labels = _checked(predicted, labels)
    every = list(range(n_classes))
    recalls = recall_score(labels.numpy(), predicted.numpy(), average=None, labels=every, zero_division=0)
    present = set(labels.tolist())
    return [100.0 * float(recalls[label]) if label in present else None for label in every]


def mean_per_class_accuracy(predicted: Tensor | Sequence[int], labels: Tensor | Sequence[int]) -> float:
    """Mean, in %, of the recall of each class that occurs in `labels`."""
    predicted, labels = _checked(predicted, labels)
    n_classes = int(labels.max()) + 1
    present = [value for value in per_class_accuracy(predicted, labels, n_classes) if value is not None]
    return sum(present) / len(present)


def harmonic_mean(base: float, new: float) -> float:
    """2·base·new / (base + new), both in %; 0 if either is 0 (arXiv:2203.05557)."""
    if base < 0 or new < 0:
        raise ValueError(f"harmonic_mean: accuracies must not be negative, got {base} and {new}.")
    return 0.0 if base == 0 or new == 0 else 2 * base * new / (base + new)


def expected_calibration_error(logits: Tensor, labels: Tensor | Sequence[int], n_bins: int = 15) -> float:
    """How far confidence and accuracy lie apart, in % (arXiv:1706.04599, Eq. 3).

    Args:
        logits: (N, C), any floats; softmax gives the confidence.
        labels: (N,) in 0 … C−1.
        n_bins: M equally wide bins ((m−1)/M, m/M] of the confidence.
    """
    if n_bins < 1:
        raise ValueError(f"expected_calibration_error: n_bins must be at least 1, got {n_bins}.")
    confidence, predicted = logits.detach().cpu().double().softmax(-1).max(-1)
    predicted, labels = _checked(predicted, labels)
    right = (predicted == labels).double()
    bins = (confidence * n_bins).ceil().long().clamp(1, n_bins) - 1
    gap = torch.zeros(n_bins, dtype=torch.float64).index_add_(0, bins, right - confidence)  # |B_m| (acc − conf)
    return 100.0 * float(gap.abs().sum()) / len(labels)


def evaluate_logits(logits: Tensor, labels: Tensor | Sequence[int]) -> dict[str, Any]:
    """Every metric of one split: accuracy, macro_f1, mean_per_class, per_class (list), ece; all in %, and n.

    Args:
        logits: (N, C), finite.
        labels: (N,) in 0 … C−1.
    """
    logits = logits.detach().cpu().float()
    labels = torch.as_tensor(labels).cpu()
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"Metrics: expected logits (N, C) for {len(labels)} labels, got shape {tuple(logits.shape)}.")
    if not torch.isfinite(logits).all():
        raise ValueError(
            f"Metrics: {int((~torch.isfinite(logits)).any(-1).sum())} of {len(logits)} images have logits "
            "that are not finite, so no accuracy is given. The training has diverged: lower the learning "
            "rate."
        )
    if len(labels) and int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"Metrics: label {int(labels.max())} does not exist among {logits.shape[1]} classes. "
            "Score the split with its own class names."
        )
    predicted = logits.max(-1).indices
    return {
        "n": len(labels),
        "accuracy": accuracy(predicted, labels),
        "macro_f1": macro_f1(predicted, labels),
        "mean_per_class": mean_per_class_accuracy(predicted, labels),
        "per_class": per_class_accuracy(predicted, labels, logits.shape[1]),
        "ece": expected_calibration_error(logits, labels),
    }


def _checked(predicted: Tensor | Sequence[int], labels: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
    predicted, labels = torch.as_tensor(predicted).cpu(), torch.as_tensor(labels).cpu()
    if predicted.shape != labels.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            "Metrics: expected as many predictions as labels and at least one, got shapes "
            f"{tuple(predicted.shape)} and {tuple(labels.shape)}."
        )
    if int(labels.min()) < 0:
        raise ValueError("Metrics: a label is unknown (−1). Only labelled images can be scored.")
    return predicted, labels

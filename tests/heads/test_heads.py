"""Votes written out with loops, and the linear probe against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cliptune.heads import LinearHead, MeanHead
from cliptune.texts import TextBatch

B, V, K, C, D = 4, 2, 7, 3, 6


def texts(class_of: list[int]) -> TextBatch:
    k = len(class_of)
    return TextBatch(
        torch.zeros(k, 3, dtype=torch.int64), torch.zeros(k, 0, dtype=torch.int64), torch.tensor(class_of),
        torch.zeros(k, dtype=torch.int64), C,
    )  # fmt: skip


def test_mean_head_averages_views_and_texts_of_a_class():
    similarity, class_of = torch.randn(B, V, K), [2, 0, -1, 1, 0, 1, 0]
    logits = MeanHead()(similarity, texts(class_of), torch.zeros(B, V, D))
    for b in range(B):
        for c in range(C):
            votes = [similarity[b, v, k] for v in range(V) for k in range(K) if class_of[k] == c]
            torch.testing.assert_close(logits[b, c], torch.stack(votes).mean())


def test_mean_head_passes_one_text_per_class_through():
    similarity = torch.randn(B, 1, C)
    assert torch.equal(MeanHead()(similarity, texts([0, 1, 2]), torch.zeros(B, 1, D)), similarity[:, 0])
    swapped = MeanHead()(similarity, texts([1, 0, 2]), torch.zeros(B, 1, D))
    assert torch.equal(swapped[:, 0], similarity[:, 0, 1])


def observed(head: LinearHead, x: np.ndarray, y: np.ndarray, split: str = "train") -> None:
    out = SimpleNamespace(image_embedding=torch.tensor(x, dtype=torch.float32)[:, None])
    head.observe(out, torch.tensor(y), split)


def clusters(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = np.random.default_rng(0).normal(size=(classes, D))
    return (centres[y] + 0.7 * rng.normal(size=(n, D))).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_head_predicts_as_scikit_learn(classes):
    x, y = clusters(60, classes, 1)
    head = LinearHead(classes, D, c=0.5)
    observed(head, x[:30], y[:30])
    observed(head, x[30:], y[30:])
    head.refit()
    expected = LogisticRegression(C=0.5, max_iter=1000, tol=1e-8).fit(x, y)  # by default it stops early
    new, _ = clusters(20, classes, 2)
    logits = head(torch.zeros(20, 1, classes), texts([0, 1, 2]), torch.tensor(new)[:, None])
    np.testing.assert_allclose(logits.softmax(-1).numpy(), expected.predict_proba(new), atol=1e-4)


def test_linear_head_searches_its_strength_on_validation_images():
    x, y = clusters(30, 3, 1)
    val_x, val_y = clusters(60, 3, 5)
    head = LinearHead(3, D)
    observed(head, x, y)
    observed(head, val_x, val_y, "val")
    head.refit()
    logits = head(torch.zeros(60, 1, 3), texts([0, 1, 2]), torch.tensor(val_x)[:, None])
    chosen = (logits.argmax(-1).numpy() == val_y).mean()
    coarse = [LogisticRegression(C=10.0**p, max_iter=1000).fit(x, y).score(val_x, val_y) for p in range(-6, 7, 2)]
    assert chosen >= max(coarse)


def test_a_class_without_images_is_never_predicted():
    x, y = clusters(40, 2, 1)
    head = LinearHead(3, D, c=1.0)
    observed(head, x, np.where(y == 1, 2, 0))
    head.refit()
    logits = head(torch.zeros(40, 1, 3), texts([0, 1, 2]), torch.tensor(x)[:, None])
    assert set(logits.argmax(-1).tolist()) <= {0, 2}


def test_linear_head_needs_images_of_two_classes():
    head = LinearHead(3, D)
    with pytest.raises(ValueError, match="no training image"):
        head.refit()
    observed(head, np.ones((4, D), dtype=np.float32), np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="at least two classes"):
        head.refit()

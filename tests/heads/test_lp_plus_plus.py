"""LP++, against the release's values and written out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cliptune.heads import LPPlusPlusHead, explicit, lp_plus_plus
from tests.golden.reference import golden
from tests.heads.test_probe import SCALE, B, C, D, V, unit

G = torch.Generator().manual_seed(6)


def show(head: LPPlusPlusHead, embedding, labels, text, split: str = "train") -> LPPlusPlusHead:
    """Embeddings (N, V, D) in two batches, unit class texts (C, D)."""
    for part in (slice(0, 2), slice(2, None)):
        out = SimpleNamespace(image_embedding=embedding[part], text_features=text[None])
        head.observe(out, labels[part], split)
    return head


def fitted(embedding, labels, text, **options) -> LPPlusPlusHead:
    head = show(LPPlusPlusHead(len(text), text.shape[1], SCALE, **options), embedding, labels, text)
    head.refit()
    return head


def written_out(features, labels, text, epochs: int, summed: bool = True):
    """w, b and α from unit features (n, D), with autograd and loops."""
    n, classes = len(features), len(text)
    own = [[f for f, label in zip(features, labels, strict=True) if label == c] for c in range(classes)]
    w = torch.stack([sum(o) if o else torch.zeros_like(text[0]) for o in own]).requires_grad_()
    b = torch.zeros(classes).double().requires_grad_()
    near = [sum(f @ text[c] for f in o) / len(o) for c, o in enumerate(own) if o]
    alpha = (250 * sum(near) / len(near)).repeat(classes).requires_grad_()
    rate = 4 * n / torch.linalg.svdvals(features)[0] ** 2
    rate_alpha = n / (4 * max(sum((f @ t) ** 2 for f in features) for t in text))
    optimiser = torch.optim.SGD([w, b], lr=float(rate), momentum=0.9)
    total = torch.zeros(classes).double()
    for epoch in range(1, epochs + 1):
        loss = 0.0
        for f, label in zip(features, labels, strict=True):
            logits = [f @ w[c] + b[c] + alpha[c] * (f @ text[c]) for c in range(classes)]
            loss = loss - torch.stack(logits).log_softmax(0)[label] / n
        optimiser.zero_grad()
        w.grad, b.grad, pull = torch.autograd.grad(loss, [w, b, alpha])
        optimiser.step()
        total += pull
        if epoch % 10 == 0:
            alpha = (alpha - rate_alpha * (total if summed else pull)).detach().requires_grad_()
    return w.detach(), b.detach(), alpha.detach()


def compare(head: LPPlusPlusHead, expected) -> None:
    for actual, value in zip((head.weight, head.bias, head.alpha), expected, strict=True):
        torch.testing.assert_close(actual, value.float(), rtol=1e-4, atol=1e-4)


# The release's method, run once on these random unit features in float64 for 35 epochs, its bias starting at zero: six
# images of one class, one of each of two, two of each of two (the first two are equal); or one of each.
@pytest.mark.parametrize("start", ["", "one_shot/"])
def test_values_are_those_of_the_release(start):
    stored = golden("lp_plus_plus")[1]
    chosen = [0, 6, 7, 8, 10] if start else slice(None)
    head = fitted(stored["features"][chosen, None], stored["labels"][chosen], stored["texts"], epochs=35)
    compare(head, [stored[start + name] for name in ("weight", "bias", "alpha")])


@pytest.mark.parametrize("summed", [True, False])
def test_written_out_with_views_and_a_class_without_images(summed):
    text = unit(torch.randn(4, D, generator=G).double())
    embedding, labels = torch.randn(5, V, D, generator=G).double(), torch.tensor([0, 0, 0, 1, 2])
    head = fitted(embedding, labels, text, epochs=21, summed=summed)
    features = unit(embedding.flatten(0, 1))
    compare(head, written_out(features, labels.repeat_interleave(V), text, 21, summed))
    images = torch.randn(B, V, D, generator=G)
    similarity = SCALE * unit(images) @ text.float().T
    logits = head(similarity, None, images)
    for b in range(B):
        views = [head.weight @ v + head.bias + head.alpha * (text.float() @ v) for v in unit(images)[b]]
        torch.testing.assert_close(logits[b], sum(views) / V, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "labels", [torch.arange(5), torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.arange(6) // 2], ids=str
)
def test_the_gradient_that_is_written_out_ends_where_autograds_does(labels, dtype, monkeypatch):
    """One shot, few images of some classes and none of others, pairs of equal images; by blocks of four features.

    float64 for a head of float64; float32 as for a head of float32 whose training is long.
    """
    monkeypatch.setattr(explicit, "FEW", 0)
    monkeypatch.setattr(lp_plus_plus, "ROWS", 4)
    generator = torch.Generator().manual_seed(7)
    text = unit(torch.randn(5, D, generator=generator).double())
    embedding = torch.randn(len(labels), 1, D, generator=generator).double()
    if len(labels) == 6:
        embedding[1::2] = embedding[::2]
    head = show(LPPlusPlusHead(5, D, SCALE, epochs=20).to(dtype), embedding, labels, text)
    head.refit()
    apart = 1e-6 if dtype == torch.float64 else 1e-5
    for found, expected in zip(
        (head.weight, head.bias, head.alpha), written_out(unit(embedding[:, 0]), labels, text, 20), strict=True
    ):
        largest = expected.abs().max()
        torch.testing.assert_close(found.double() / largest, expected / largest, rtol=0, atol=apart)


def test_more_classes_than_features_and_equal_images_of_two_classes():
    text, embedding = unit(torch.randn(9, 3, generator=G).double()), torch.randn(9, 1, 3, generator=G).double()
    embedding[1] = embedding[0]
    head = fitted(embedding, torch.arange(9), text, epochs=12)
    compare(head, written_out(unit(embedding[:, 0]), torch.arange(9), text, 12))


def test_the_epoch_that_is_best_on_validation_images_is_kept_if_asked():
    means, text = torch.randn(C, 1, D, generator=G).double(), unit(torch.randn(C, D, generator=G).double())
    labels, truth = torch.arange(2 * C) % C, torch.arange(8 * C) % C
    embedding = means[labels] + torch.randn(2 * C, 1, D, generator=G).double()
    held = means[truth] + torch.randn(8 * C, 1, D, generator=G).double()
    right = []
    for epochs in range(1, 16):
        head = fitted(embedding, labels, text, epochs=epochs)
        logits = head((SCALE * unit(held) @ text.T).float(), None, held)
        right.append(int((logits.argmax(dim=1) == truth).sum()))
    best = max(epoch for epoch, correct in enumerate(right, 1) if correct == max(right))
    head = LPPlusPlusHead(C, D, SCALE, epochs=15, search=True)
    show(show(head, embedding, labels, text), held, truth, text, "val").refit()
    compare(head, written_out(unit(embedding[:, 0]), labels, text, best))
    assert best < 15


def test_before_it_is_fitted_the_texts_answer():
    similarity = torch.randn(B, V, C, generator=G)
    logits = LPPlusPlusHead(C, D, SCALE)(similarity, None, torch.randn(B, V, D, generator=G))
    torch.testing.assert_close(logits, similarity.mean(dim=1))


def test_texts_that_say_nothing_of_the_images_break_nothing():
    text, embedding = torch.eye(D)[:3].double(), torch.randn(3, 1, D, generator=G).double()
    embedding[..., :3] = 0
    head = fitted(embedding, torch.arange(3), text)
    assert all(value.isfinite().all() for value in head.buffers())


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(ValueError, match="no training image was observed"):
        LPPlusPlusHead(C, D, SCALE).refit()
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        LPPlusPlusHead(C, D, SCALE, epochs=0)

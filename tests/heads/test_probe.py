"""Probes from the class texts, against the release's values and written out."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from cliptune.heads import ProbeHead, explicit
from cliptune.heads.probe import TextHead
from tests.golden.reference import golden

C, D, B, V = 5, 8, 4, 2
SCALE, EPOCHS = 20.0, 40
G = torch.Generator().manual_seed(3)
FIRSTS = [0, 6, 9, 10, 12]  # the first image of each class


def show(head: TextHead, embedding: torch.Tensor, labels: torch.Tensor, text: torch.Tensor) -> TextHead:
    """Embeddings (N, V, D) in two batches, labels (N,), class texts (C, D) of any length."""
    for part in (slice(0, 2), slice(2, None)):
        head.observe(SimpleNamespace(image_embedding=embedding[part], text_features=unit(text)[None]), labels[part])
    head.settle(unit(text)[None].float(), None)
    return head


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=-1)


def probe(constrained: bool, text: torch.Tensor, **options: int) -> ProbeHead:
    head = ProbeHead(len(text), text.shape[1], SCALE, constrained, epochs=EPOCHS, **options)
    head.measure(text.norm(dim=1))
    return head


# The release's trainer, run once on these random features in float64, for 40 epochs of one batch, at s = 20: images of
# five classes, four, three, two (which are equal) and one, or one of each.
@pytest.mark.parametrize("chosen", [slice(None), FIRSTS], ids=["imbalanced", "one shot"])
@pytest.mark.parametrize("method", ["zs_probe", "clap"])
def test_prototypes_are_those_of_the_release(method, chosen):
    stored = golden("clap")[1]
    text, embedding, labels = stored["texts"], stored["features"][chosen, None], stored["labels"][chosen]
    head = show(probe(method == "clap", text), embedding, labels, text)
    head.refit()
    expected = stored[f"{method}/{'prototypes' if len(labels) > C else 'one_shot'}"]
    torch.testing.assert_close(head.prototypes(unit(text)), expected, rtol=1e-5, atol=1e-5)
    assert (expected - text).norm(dim=1).max() > 1
    if method == "clap" and len(labels) > C:
        torch.testing.assert_close(head.multiplier.double(), stored["clap/multiplier"], rtol=1e-5, atol=1e-6)
    images = torch.randn(B, V, D, generator=G)
    for image, logits in zip(images.double(), head(None, None, images), strict=True):
        cosines = [[torch.cosine_similarity(view, w, dim=0) for w in expected] for view in image]
        mean = torch.tensor(cosines).float().mean(dim=0)
        torch.testing.assert_close(logits, SCALE * mean, rtol=1e-4, atol=1e-4)


def test_multipliers_and_batches_written_out():
    """Three images in three views, in batches of two, and a class without images."""
    text = torch.randn(3, D, generator=G).double()
    embedding, labels = torch.randn(3, 3, D, generator=G).double(), torch.tensor([0, 0, 1])
    torch.manual_seed(8)
    head = show(probe(True, text, batch_size=2), embedding, labels, text)
    torch.manual_seed(8)
    order = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    head.refit()

    features, owners = unit(embedding.reshape(9, D)), [0, 0, 0, 0, 0, 0, 1, 1, 1]
    shares = [(SCALE * features[i] @ unit(text).T).softmax(0)[owners[i]] for i in range(9)]
    held = [sum(shares[:6]) / 6, sum(shares[6:]) / 3]
    held.append(sum(held) / 2)
    w, momentum = text.clone().requires_grad_(), torch.zeros_like(text)
    for epoch in range(EPOCHS):
        rows = torch.randperm(9, generator=order).tolist()[:2]  # one whole batch, as of three images
        loss = sum(-(SCALE * features[i] @ unit(w).T).log_softmax(0)[owners[i]] for i in rows) / 2
        loss = loss + sum(held[c] * ((w[c] - text[c]) ** 2).sum() for c in range(3)) / 3
        rate = 1e-5 if epoch == 0 else 0.1 * (1 + math.cos(math.pi * (epoch - 1) / EPOCHS)) / 2
        (gradient,) = torch.autograd.grad(loss, w)
        momentum = 0.9 * momentum + gradient
        w = (w - rate * momentum).detach().requires_grad_()
    torch.testing.assert_close(head.multiplier.double(), torch.stack(held), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.prototypes(unit(text)), w.detach(), rtol=1e-5, atol=1e-5)


def by_autograd(head: ProbeHead, embedding: torch.Tensor, labels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Residuals (C, D) by torch's own cross-entropy, autograd and SGD in float64, in the order that the head drew."""
    start, features = text.double(), unit(embedding.flatten(0, 1).double())
    owners = labels.repeat_interleave(embedding.shape[1])
    order = torch.Generator().manual_seed(head._seed)
    residual = torch.zeros_like(start).requires_grad_()
    optimiser = torch.optim.SGD([residual], momentum=0.9)
    for epoch in range(EPOCHS):
        rate = 1e-5 if epoch == 0 else 0.1 * (1 + math.cos(math.pi * (epoch - 1) / EPOCHS)) / 2
        optimiser.param_groups[0]["lr"] = rate
        batches = torch.randperm(len(owners), generator=order).split(head.batch_size)
        for rows in batches[: max(1, len(labels) // head.batch_size)]:
            loss = F.cross_entropy(SCALE * features[rows] @ unit(start + residual).T, owners[rows])
            if head.constrained:
                loss = loss + (head.multiplier.double() * residual.square().sum(dim=1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return residual.detach()


CASES = {
    "one shot": torch.arange(C),
    "imbalanced": torch.tensor([0] * 7 + [1] * 4 + [2, 2, 3]),  # and none of the last class
    "equal images": torch.arange(2 * C) // 2,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("constrained", [False, True])
def test_the_gradient_that_is_written_out_ends_where_autograds_does(constrained, case, dtype, monkeypatch):
    """float64 for a head of float64; float32 as for a head of float32 whose training is long."""
    monkeypatch.setattr(explicit, "FEW", 0)
    generator = torch.Generator().manual_seed(9)
    labels, text = CASES[case], 3 * torch.randn(C, D, generator=generator)
    embedding = torch.randn(len(labels), V, D, generator=generator)
    if case == "equal images":
        embedding[1::2] = embedding[::2]
    head = show(probe(constrained, text, batch_size=4).to(dtype), embedding, labels, text)
    head.refit()
    expected = by_autograd(head, embedding, labels, text)
    largest = expected.abs().max()
    assert largest > 0.3
    apart = 1e-6 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(head.residual.double() / largest, expected / largest, rtol=0, atol=apart)


@pytest.mark.parametrize("constrained", [False, True])
def test_before_it_is_fitted_the_texts_answer_and_after_it_training_images_are_known(constrained):
    text = torch.randn(C, D, generator=G)
    labels = torch.arange(2 * C) % C
    embedding = torch.randn(2 * C, 1, D, generator=G)
    head = show(probe(constrained, 3 * text), embedding, labels, text)
    zero_shot = SCALE * torch.einsum("nvd,cd->nc", unit(embedding), unit(text))
    torch.testing.assert_close(head(None, None, embedding), zero_shot, rtol=1e-4, atol=1e-4)
    head.refit()
    after = head(None, None, embedding)
    assert F.cross_entropy(after, labels) < F.cross_entropy(zero_shot, labels)


def test_more_classes_than_features_and_equal_images_of_two_classes():
    text = torch.randn(12, 3, generator=G)
    labels = torch.arange(12)
    embedding = torch.randn(12, 1, 3, generator=G)
    embedding[1] = embedding[0]  # of another class: neither can be preferred, and nothing breaks
    for constrained in (False, True):
        head = show(probe(constrained, text), embedding, labels, text)
        head.refit()
        assert head(None, None, embedding).isfinite().all()


def test_folded_it_answers_the_same():
    text, embedding = torch.randn(C, D, generator=G), torch.randn(C, V, D, generator=G)
    head = show(probe(True, text), embedding, torch.arange(C), text)
    head.refit()
    rows = head.fold(unit(text).double(), None, V).float()
    folded = SCALE * torch.einsum("bvd,vcd->bc", unit(embedding), rows)
    torch.testing.assert_close(head(None, None, embedding), folded, rtol=1e-4, atol=1e-4)
    copy.deepcopy(head)


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(ValueError, match="no training image was observed"):
        ProbeHead(C, D, SCALE, True).refit()
    with pytest.raises(ValueError, match="Show them first"):
        ProbeHead(C, D, SCALE, True)(None, None, torch.zeros(B, V, D))
    with pytest.raises(ValueError, match="lr must be above 0, got 0"):
        ProbeHead(C, D, SCALE, True, lr=0.0)
    with pytest.raises(ValueError, match="batch_size and epochs must be at least 1, got 256 and 0"):
        ProbeHead(C, D, SCALE, True, epochs=0)

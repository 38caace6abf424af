"""Caches on chosen channels: written out, against the release, and in awkward cases."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from cliptune.batch import Batch
from cliptune.heads import CategoryResidualHead, RefinedHead
from cliptune.heads.refined import Search, channel_scores, searched
from cliptune.registry import build
from cliptune.training.optim import build_optimiser, set_rate
from tests.golden.reference import golden

C, D, B, V = 3, 8, 4, 2
SCALE = torch.tensor(100.0)
G = torch.Generator().manual_seed(9)
TEXTS = F.normalize(torch.randn(C, D, generator=G), dim=-1)
CASES = {
    "plain": torch.arange(7) % C,
    "one image each": torch.arange(C),
    "one image": torch.tensor([1]),
    "a class without images": torch.tensor([0, 2, 0, 2, 2]),
}


def similarity(embedding: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return SCALE * F.normalize(embedding, dim=-1) @ texts.T


def show(head, embedding, labels, split="train", texts=TEXTS) -> None:
    head.eval()
    for part in (slice(0, 3), slice(3, None)):
        out = SimpleNamespace(
            image_embedding=embedding[part], similarity=similarity(embedding[part], texts), text_features=texts[None]
        )
        head.observe(out, labels[part], split)


def scores_written_out(texts, keys, labels, balance) -> torch.Tensor:
    """With loops over pairs of samples of different classes; every pair of classes counts alike."""
    samples = [[texts[c], *[k for k, label in zip(keys, labels.tolist(), strict=True) if label == c]] for c in range(C)]
    score = torch.zeros(D, dtype=torch.float64)
    for channel in range(D):
        similar = 0.0
        for i in range(C):
            for j in range(C):
                if i != j:
                    products = [float(x[channel]) * float(y[channel]) for x in samples[i] for y in samples[j]]
                    similar += sum(products) / len(products) / (C * (C - 1))
        values = [float(t[channel]) for t in texts]
        variance = sum((v - sum(values) / C) ** 2 for v in values) / (C - 1)
        score[channel] = -balance * similar + (1 - balance) * variance
    return score


@pytest.mark.parametrize("case", CASES)
def test_channels_are_scored_by_similarity_of_classes_and_variance_of_texts(case):
    labels = CASES[case]
    keys = F.normalize(torch.randn(len(labels), D, generator=G, dtype=torch.float64), dim=-1)
    texts = TEXTS.double()
    expected = scores_written_out(texts, keys, labels, 0.6)
    torch.testing.assert_close(channel_scores(texts, keys, labels, 0.6), expected)


def test_a_single_class_has_scores_without_pairs():
    text = TEXTS[:1].double()
    assert torch.equal(channel_scores(text, text[:0], torch.zeros(0, dtype=torch.int64), 0.6), torch.zeros(D).double())


@pytest.mark.parametrize("case", CASES)
def test_logits_are_texts_and_weighted_keys_on_the_best_channels(case):
    labels = CASES[case]
    embedding = torch.randn(len(labels), 2, D, generator=G)
    head = RefinedHead(C, D, share=0.6, balance=0.6, alpha=1.5, beta=2.0, gamma=0.4)
    show(head, embedding, labels)
    head.refit()
    keys = F.normalize(embedding.mean(dim=1).double(), dim=-1)
    channels = scores_written_out(TEXTS.double(), keys, labels, 0.6).argsort(descending=True)[:5]
    unit = lambda v: v[channels] / v[channels].norm()
    images = torch.randn(B, V, D, generator=G)
    logits = head(similarity(images, TEXTS), None, images)
    for b in range(B):
        expected = torch.zeros(V, C, dtype=torch.float64)
        for v in range(V):
            f = F.normalize(images[b, v].double(), dim=0)
            for c in range(C):
                expected[v, c] = 100 * float(f @ TEXTS[c].double())
            for key, label in zip(keys, labels.tolist(), strict=True):
                p = [math.exp(float(unit(key) @ unit(TEXTS[c].double()))) for c in range(C)]
                d = math.log2((1 + 1e-6) / (p[label] / sum(p) + 1e-6))
                expected[v, label] += 1.5 * math.exp(0.4 * d) * math.exp(-2 * (1 - float(unit(f) @ unit(key))))
        torch.testing.assert_close(logits[b], expected.mean(dim=0).float(), rtol=1e-4, atol=1e-3)


def test_two_equal_images_vote_twice():
    embedding, labels = torch.randn(4, 1, D, generator=G), torch.tensor([0, 1, 2, 0])
    embedding[3] = embedding[0]
    head = RefinedHead(C, D, share=0.5, balance=0.5, alpha=1.0, beta=50.0, gamma=0.1)
    show(head, embedding, labels)
    head.refit()
    assert torch.equal(head.keys[3], head.keys[0])
    added = head(torch.zeros(1, 1, C), None, embedding[:1])[0, 0]
    torch.testing.assert_close(added, 2 * (0.1 * head.divergence[0]).exp())


def test_without_images_the_texts_alone_vote():
    images, votes = torch.randn(B, V, D), torch.randn(B, V, C)
    heads = (RefinedHead(C, D, 0.5, 0.5, 1.0, 1.0, 0.1), CategoryResidualHead(C, D, SCALE, 0.5, 0.5, 1.0, 1.0))
    for head in heads:
        torch.testing.assert_close(head(votes, None, images), votes.mean(dim=1))


def released(head):
    _, stored = golden("ape")
    show(head, stored["keys"][:, None], stored["labels"], texts=stored["texts"])
    return stored


@pytest.mark.parametrize("search", [False, True])
def test_logits_without_training_are_the_releases(search, monkeypatch):
    """The stored values are of the release's own cal_criterion and APE (utils.py, main.py), run on 3 random features
    of each of four classes, seven of twelve channels kept, and searched on 40 random validation features in 6 × 5 × 4
    steps in place of the configured 200 × 20 × 20."""
    monkeypatch.setattr("cliptune.heads.refined.BETAS", 6)
    monkeypatch.setattr("cliptune.heads.refined.ALPHAS", 5)
    head = RefinedHead(4, 12, 7 / 12, 0.7, 2.0, 1.0, 0.1, Search(5.0, 7.0, 1.0, 4) if search else None)
    stored = released(head)
    if search:
        show(head, stored["val_features"][:, None], stored["val_labels"], "val", stored["texts"])
    head.refit()
    assert head.channels.tolist() == stored["channels"].tolist()
    images = stored["test_features"][:, None]
    logits = head(similarity(images, stored["texts"]), None, images)
    torch.testing.assert_close(logits, stored["searched_logits" if search else "logits"], rtol=1e-4, atol=1e-4)


def test_training_is_the_releases(tiny_clip):
    """The stored values are of the release's own APE_Training (utils.py) with the loss of APE_T (main.py), in float32:
    three steps of its AdamW on the same features, five channels kept."""
    stage = build("ape_t", tiny_clip, ("a", "b")).stages[1]
    head = CategoryResidualHead(4, 12, SCALE, 5 / 12, 0.2, 2.0, 1.0)
    stored = released(head)
    head.refit()
    assert head.channels.tolist() == stored["trained_channels"].tolist()
    head.train()
    optimiser = build_optimiser(stage.optimiser, dict(head.named_parameters()))
    batch = Batch.of(torch.zeros(12, 0), stored["labels"])
    answer = lambda images: head(similarity(images, stored["texts"]), None, images)
    for rate, expected in zip(stored["rates"].tolist(), stored["losses"], strict=True):
        set_rate(optimiser, rate)
        loss, _ = stage.objective(SimpleNamespace(logits=answer(stored["batch"][:, None])), batch, 0.0)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(head.residual.detach(), stored["residual"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(head.strength.detach(), stored["values"], rtol=1e-4, atol=1e-5)
    logits = answer(stored["test_features"][:, None]).detach()
    torch.testing.assert_close(logits, stored["trained_logits"], rtol=1e-3, atol=1e-3)


def test_the_first_of_the_best_is_found(monkeypatch):
    monkeypatch.setattr("cliptune.heads.refined.BETAS", 4)
    monkeypatch.setattr("cliptune.heads.refined.ALPHAS", 3)
    affinity, votes = torch.rand(30, 6, generator=G), torch.randn(30, C, generator=G)
    labels, table = torch.arange(30) % C, torch.rand(6, C, generator=G)
    said = lambda near, gamma: near @ (table * (1 + gamma))
    counts = {}
    for beta in (0.1, 0.6, 1.1, 1.6):
        for alpha in (0.1, 1.1, 2.1):
            for gamma in (0.0, 0.5):
                logits = votes + alpha * said((-beta * (1 - affinity)).exp(), gamma)
                counts[alpha, beta, gamma] = int((logits.argmax(-1) == labels).sum())
    found = searched(Search(3.1, 2.1, 1.0, 2), affinity, votes, labels, said)
    assert found == pytest.approx(max(counts, key=counts.__getitem__))
    assert len(set(counts.values())) > 1


def test_training_mode_observes_nothing_and_the_search_comes_after_it():
    head = CategoryResidualHead(C, D, SCALE, 0.5, 0.2, 2.0, 1.0, Search(3.0, 3.0))
    embedding, labels = torch.randn(9, 1, D, generator=G), torch.arange(9) % C
    head.train()
    head.observe(None, labels)
    show(head, embedding, labels)
    head.refit()
    with torch.no_grad():
        head.residual.normal_(std=0.1, generator=G)
    held = embedding + 0.5 * torch.randn(9, 1, D, generator=G)
    show(head, held, labels, "val")
    residual = head.residual.clone()
    head.refit()
    assert torch.equal(head.residual, residual)
    assert len(head.keys) == 9
    right = lambda: int((head(similarity(held, TEXTS), None, held).argmax(-1) == labels).sum())
    found = right()
    head.alpha.fill_(2.0)
    head.beta.fill_(1.0)
    assert found >= right()


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="RefinedHead: alpha and beta must be above 0, got 0"):
        RefinedHead(C, D, 0.5, 0.5, 0, 1, 0.1)
    with pytest.raises(ValueError, match=r"share must be above 0 and at most 1 \(all channels\), got 1.5"):
        CategoryResidualHead(C, D, SCALE, 1.5, 0.5, 1, 1)
    with pytest.raises(ValueError, match="balance must be between 0"):
        RefinedHead(C, D, 0.5, -0.1, 1, 1, 0.1)
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        RefinedHead(C, D, 0.5, 0.5, 1, 1, -1)
    with pytest.raises(ValueError, match="searched from 0.1 on"):
        Search(alpha_max=0.05)
    with pytest.raises(ValueError, match="gamma is searched from 0 on"):
        Search(gammas=0)
    head = RefinedHead(C, D, 0.5, 0.5, 1, 1, 0.1)
    with pytest.raises(ValueError, match="damaged"):
        head.grow({"keys": torch.Size([3, 4]), "labels": torch.Size([2]), "divergence": torch.Size([3])})
    out = SimpleNamespace(text_features=torch.zeros(2, C, D))
    with pytest.raises(ValueError, match="do not depend on the image"):
        head.eval().observe(out, torch.zeros(2))

"""The cache of training images, written out with loops."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from cliptune.heads import CacheHead
from cliptune.heads.cache import _right

C, D, M, B, V = 3, 6, 7, 4, 2
G = torch.Generator().manual_seed(4)


def shown(head: CacheHead, n: int, split: str = "train") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Show n images to a head in two batches; their embeddings, votes, labels."""
    embedding, votes = torch.randn(n, 1, D, generator=G), torch.randn(n, 1, C, generator=G)
    labels = torch.arange(n) % C
    for part in (slice(0, 3), slice(3, n)):
        out = SimpleNamespace(image_embedding=embedding[part], similarity=votes[part])
        head.observe(out, labels[part], split)
    return embedding[:, 0], votes[:, 0], labels


def filled(**options) -> tuple[CacheHead, torch.Tensor, torch.Tensor]:
    head = CacheHead(C, D, alpha=1.5, beta=2.0, **options).eval()
    embedding, _, labels = shown(head, M)
    with torch.no_grad():
        head.refit()
    return head, embedding, labels


def cache(feature: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor, beta: float) -> torch.Tensor:
    votes = torch.zeros(C)
    for key, label in zip(keys, labels.tolist(), strict=True):
        votes[label] += torch.exp(-beta * (1 - feature @ key / feature.norm() / key.norm()))
    return votes


@pytest.mark.parametrize("learn", [False, True])
def test_logits_are_text_votes_and_cache_votes(learn):
    head, embedding, labels = filled(learn=learn)
    similarity, images = torch.randn(B, V, C), torch.randn(B, V, D)
    logits = head(similarity, None, images)
    for b in range(B):
        views = [similarity[b, v] + 1.5 * cache(images[b, v], embedding, labels, 2.0) for v in range(V)]
        torch.testing.assert_close(logits[b], torch.stack(views).mean(dim=0))
    assert head.keys.requires_grad == learn
    assert len(list(head.parameters())) == learn


def test_without_images_the_texts_alone_vote():
    similarity = torch.randn(B, V, C)
    assert torch.equal(CacheHead(C, D, 1, 1)(similarity, None, torch.randn(B, V, D)), similarity.mean(dim=1))


def test_search_takes_the_first_best_pair_of_the_grid():
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=(3.0, 7.0)).eval()
    keys, _, key_labels = shown(head, M)
    embedding, votes, labels = shown(head, 20, "val")
    head.refit()
    best, chosen = -1, None
    for i in range(200):
        for j in range(20):
            beta, alpha = 0.1 + i * 6.9 / 200, 0.1 + j * 2.9 / 20
            affinity = F.normalize(embedding, dim=-1) @ F.normalize(keys, dim=-1).T
            logits = votes + alpha * (-beta * (1 - affinity)).exp() @ F.one_hot(key_labels, C).float()
            correct = int((logits.argmax(-1) == labels).sum())
            if correct > best:
                best, chosen = correct, (alpha, beta)
    assert (float(head.alpha), float(head.beta)) == pytest.approx(chosen)


def test_training_batches_leave_the_cache_alone():
    head, _, _ = filled()
    before = head.keys.clone()
    shown(head.train(), M)
    head.refit()
    assert torch.equal(head.keys, before)


def test_bad_values_get_a_sentence():
    with pytest.raises(ValueError, match="above 0, got 0 and 1"):
        CacheHead(C, D, 0, 1)
    with pytest.raises(ValueError, match="searched from 0.1 on"):
        CacheHead(C, D, 1, 1, largest=(0.05, 7))
    with pytest.raises(ValueError, match="7 keys need as many labels, got 6"):
        filled()[0].grow({"keys": torch.Size((7, D)), "labels": torch.Size((6,))})


def doubly_looped(keys: torch.Tensor, key_labels: torch.Tensor, val: tuple, largest: tuple) -> tuple[float, float]:
    """The release's search: every pair asked about all images at once, the first of the best kept."""
    embedding, votes, labels = val
    affinity = F.normalize(embedding, dim=-1) @ F.normalize(keys, dim=-1).T
    best, chosen = -1, (0.0, 0.0)
    for beta in (0.1 + i * (largest[1] - 0.1) / 200 for i in range(200)):
        cache = (-beta * (1 - affinity)).exp() @ F.one_hot(key_labels, C).float()
        for alpha in (0.1 + i * (largest[0] - 0.1) / 20 for i in range(20)):
            correct = int(((votes + alpha * cache).argmax(-1) == labels).sum())
            if correct > best:
                best, chosen = correct, (alpha, beta)
    return chosen


@pytest.mark.parametrize("largest", [(3.0, 7.0), (30.0, 20.0)])
@pytest.mark.parametrize("chunk", [15 * M, 2**24])
def test_search_in_chunks_chooses_as_the_double_loop(monkeypatch, chunk, largest):
    monkeypatch.setattr("cliptune.heads.cache.CHUNK", chunk)
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=largest).eval()
    keys, _, key_labels = shown(head, M)
    val = shown(head, 40, "val")
    head.refit()
    alpha, beta = doubly_looped(keys, key_labels, val, largest)
    assert (float(head.alpha), float(head.beta)) == pytest.approx((alpha, beta))
    assert head.chosen == {"images": 40, "chose": {"α": pytest.approx(alpha), "β": pytest.approx(beta)}}


def test_search_computes_every_affinity_once_and_holds_no_more_than_a_chunk_of_them(monkeypatch):
    monkeypatch.setattr("cliptune.heads.cache.CHUNK", 6 * M + 1)
    held, count = [], CacheHead._count
    monkeypatch.setattr(
        CacheHead, "_count", lambda self, right, *rest: (held.append(len(rest[0])), count(self, right, *rest))
    )
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=(3.0, 7.0)).eval()
    shown(head, M)
    shown(head, 20, "val")
    head.refit()
    assert held == [6, 6, 6, 2]


@pytest.mark.parametrize("piece", [2 * C, 2**17])
def test_of_equal_logits_the_first_class_is_the_answer(monkeypatch, piece):
    monkeypatch.setattr("cliptune.heads.cache.PIECE", piece)
    # Small whole numbers: most rows have several greatest classes.
    votes, cache = (torch.randint(0, 3, (60, C), generator=G).float() for _ in range(2))
    labels, alphas = torch.arange(60) % C, [0.5, 1.0, 2.0]
    expected = [int(((votes + alpha * cache).argmax(dim=-1) == labels).sum()) for alpha in alphas]
    assert any(len(row.unique()) < C for row in votes + cache)
    assert _right(votes, cache, labels, alphas).tolist() == expected


def test_exponentials_of_a_search_are_as_good_as_computed_one_by_one(monkeypatch):
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=(3.0, 7.0)).eval()
    keys, _, key_labels = shown(head, M)
    val, found = shown(head, 20, "val"), []
    monkeypatch.setattr(
        "cliptune.heads.cache._right",
        lambda votes, cache, labels, alphas: found.append(cache) or _right(votes, cache, labels, alphas),
    )
    head.refit()
    for i in (0, 1, 9, 10, 57, 199):
        expected = torch.stack([cache(x, keys, key_labels, 0.1 + i * 6.9 / 200) for x in val[0]])
        torch.testing.assert_close(found[i], expected, rtol=1e-5, atol=1e-7)


def test_search_tells_how_far_it_is_and_that_there_are_few_images():
    lines = []
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=(3.0, 7.0)).eval()
    head.listener = lambda line, minor: lines.append((line, minor))
    shown(head, M)
    head.observe(
        SimpleNamespace(image_embedding=torch.randn(2, 1, D), similarity=torch.randn(2, 1, C)),
        labels=torch.tensor([0, 1]),
        split="val",
    )
    head.refit()
    assert "on 2 validation images, fewer than the 3 classes" in lines[0][0]
    assert lines[1:] == [("tried α and β on 2 of 2 validation images", True)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_embeddings_that_are_not_finite_are_refused(split):
    head = CacheHead(C, D, alpha=1.0, beta=1.0, largest=(3.0, 7.0)).eval()
    shown(head, M)
    broken = SimpleNamespace(image_embedding=torch.full((2, 1, D), torch.nan), similarity=torch.zeros(2, 1, C))
    head.observe(broken, torch.tensor([0, 1]), split)
    with pytest.raises(ValueError, match=r"2 of \d training|2 of 2 validation"):
        head.refit()

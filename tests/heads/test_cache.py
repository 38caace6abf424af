"""The cache of training images, written out with loops."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from cliptune.heads import CacheHead

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

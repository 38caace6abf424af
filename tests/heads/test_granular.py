"""The votes of a hierarchy and of crops, against the formulas written out and scipy's clustering."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import linkage

from cliptune.heads.granular import GranularHead, agglomerated, level_sizes, sure
from cliptune.texts import TextBatch

B, C, M, D, L, E, N = 3, 5, 4, 16, 2, 2, 3
MEMBER = torch.tensor([[0, 1, 0, 2, 1], [0, 1, 0, 0, 1]])


@pytest.fixture
def texts() -> TextBatch:
    """Descriptions of the classes, one round of all classes after the other."""
    each = torch.arange(C).repeat(M)
    return TextBatch(
        torch.zeros(C * M, 7, dtype=torch.int64), torch.zeros(C * M, 0, dtype=torch.int64), each, each * 0, C
    )


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def settled(texts: TextBatch, features: torch.Tensor, **more) -> GranularHead:
    head = GranularHead(C, L, E, N, **{"nearest": 2, **more})
    head.member.copy_(MEMBER)
    head.settle(features[None], texts)
    return head


def entropy(votes: list[float]) -> tuple[list[float], float]:
    top = max(votes)
    p = [math.exp(v - top) / sum(math.exp(u - top) for u in votes) for v in votes]
    return p, -sum(q * math.log(q) for q in p if q > 0)


def written_out(similarity, image, features, texts, weight=0.7, threshold=0.5, k=2) -> list[list[float]]:
    """z of every image by the formulas of the docstring, with numbers alone."""
    answers = []
    own = [[i for i in range(C * M) if int(texts.class_of[i]) == c] for c in range(C)]
    for b in range(B):
        votes = [
            [sum(sorted((float(similarity[b, v, i]) for i in own[c]), reverse=True)[:k]) / k for c in range(C)]
            for v in range(similarity.shape[1])
        ]
        p, _ = entropy(votes[0])
        semantic = [0.0] * C
        for level in range(L):
            for c in range(C):
                members = [x for x in range(C) if MEMBER[level, x] == MEMBER[level, c]]
                text = F.normalize(sum(features[i] for x in members for i in own[x]), dim=0)
                semantic[c] += 100 * float(image[b, 1 + level] @ text) * p[c] / L
        visual = [0.0] * C
        for scale in range(E):
            crops = votes[1 + L + scale * N :][:N]
            w = [max(0.0, threshold * math.log(C) - entropy(crop)[1]) for crop in crops]
            w = [x / sum(w) for x in w] if sum(w) else [1 / N] * N
            for c in range(C):
                visual[c] += sum(x * crop[c] for x, crop in zip(w, crops, strict=True)) / E
        answers.append([(1 - weight) * visual[c] + weight * semantic[c] for c in range(C)])
    return answers


@pytest.mark.parametrize("threshold", [1e-9, 0.05, 0.5, 1.0])
def test_answers_are_the_formulas_written_out(texts, threshold):
    features, image = unit(C * M, D, seed=1), unit(B, 1 + L + E * N, D, seed=2)
    # A hundred times the cosine leaves crops that are sure and crops that are not.
    similarity = 100 * image @ features.T
    head = settled(texts, features, threshold=threshold)
    expected = torch.tensor(written_out(similarity, image, features, texts, threshold=threshold))
    torch.testing.assert_close(head(similarity, texts, image), expected, rtol=1e-4, atol=1e-4)


def test_one_view_is_looked_at_by_all_levels(texts):
    features, image = unit(C * M, D, seed=1), unit(B, 1, D, seed=2)
    head = settled(texts, features, weight=1.0)
    wide = image.expand(-1, 1 + L + E * N, -1)
    expected = head(100 * wide @ features.T, texts, wide)
    torch.testing.assert_close(head(100 * image @ features.T, texts, image), expected)


def test_without_levels_or_scales_the_other_branch_is_left(texts):
    features, image = unit(C * M, D, seed=1), unit(B, 1 + E * N, D, seed=2)
    similarity = 100 * image @ features.T
    head = GranularHead(C, 0, E, N, weight=0.25, nearest=None)
    votes = similarity[..., texts.blocks].mean(dim=-1)
    visual = sure(votes[:, 1:].view(B, E, N, C), 0.5).mean(dim=1)
    torch.testing.assert_close(head(similarity, texts, image), 0.75 * visual + 0.25 * votes[:, 0])
    assert not head.class_specific
    alone = GranularHead(C, 0, 0, N, nearest=None)
    torch.testing.assert_close(alone(similarity[:, :1], texts, image), votes[:, 0])


def test_crops_that_are_not_sure_count_alike_where_none_is(texts):
    flat = torch.tensor([[0.0, 0.1, 0.0], [0.3, 0.0, 0.1]])
    torch.testing.assert_close(sure(flat, 0.5), flat.mean(dim=0))
    certain = torch.tensor([[0.0, 0.1, 0.0], [50.0, 0.0, 0.1]])
    torch.testing.assert_close(sure(certain, 0.5), certain[1])


def test_weights_of_crops_take_no_gradient():
    votes = torch.randn(4, C, requires_grad=True)
    (gradient,) = torch.autograd.grad(sure(votes, 1.0)[0], votes)
    assert torch.equal(gradient[:, 1:], torch.zeros(4, C - 1))
    torch.testing.assert_close(gradient[:, 0].sum(), torch.tensor(1.0))


# -- the hierarchy ----------------------------------------------------------------------------------------------------


def by_scipy(prototypes: torch.Tensor, size: int) -> set[frozenset[int]]:
    """The clusters that are left of scipy's merges, in its order, when they are `size`."""
    clusters = {i: frozenset([i]) for i in range(len(prototypes))}
    merges = linkage(prototypes.double().numpy(), "centroid")
    for step, (first, second, *_) in enumerate(merges[: len(prototypes) - size]):
        clusters[len(prototypes) + step] = clusters.pop(int(first)) | clusters.pop(int(second))
    return set(clusters.values())


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_scipy(seed):
    prototypes, sizes = unit(40, 6, seed=seed), [11, 3, 1]
    found = agglomerated(prototypes, sizes)
    assert found.shape == (3, 40)
    for row, size in zip(found.tolist(), sizes, strict=True):
        assert {frozenset(i for i, s in enumerate(row) if s == one) for one in set(row)} == by_scipy(prototypes, size)
        firsts = [row.index(one) for one in range(size)]
        assert firsts == sorted(firsts)


def test_equal_prototypes_and_one_class_are_grouped():
    assert agglomerated(torch.ones(4, 3), [2])[0].unique().tolist() == [0, 1]
    assert agglomerated(torch.ones(1, 3), [1, 1]).tolist() == [[0], [0]]
    assert agglomerated(torch.ones(3, 3), []).shape == (0, 3)


def test_sizes_of_levels_fall_evenly_and_stop_at_two():
    assert level_sizes(1000, 2) == [100, 10]
    assert level_sizes(100, 1) == [10]
    assert level_sizes(5, 2) == [3, 2]
    assert level_sizes(2, 3) == [2, 2, 2]
    assert level_sizes(1, 2) == [1, 1]
    assert "2 classes are few for 2 levels of superclasses, which have 2, 2" in GranularHead(2).notes[0]
    assert not GranularHead(5).notes


def shown(head: GranularHead, features: torch.Tensor, labels: torch.Tensor) -> None:
    head.observe(SimpleNamespace(image_features=features[:, None]), labels)


def test_the_hierarchy_is_of_the_means_of_bare_images():
    features, labels = unit(20, D, seed=3), torch.arange(20) % C
    head = GranularHead(C)
    shown(head, features[:9], labels[:9])
    shown(head, features[9:], labels[9:])
    shown(head, -features[:4], torch.full((4,), -1))  # unknown labels
    head.observe(SimpleNamespace(image_features=features[:, None].expand(-1, 3, -1)), labels)  # framed
    head.observe(SimpleNamespace(image_features=features[:, None]), labels.flip(0), split="val")
    head.refit()
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(C)])
    assert torch.equal(head.member, agglomerated(means, [3, 2]))
    before = head.member.clone()
    head.refit()  # at the end of every epoch, with nothing new
    assert torch.equal(head.member, before)
    assert not head.settled


def test_a_class_without_images_stands_between_the_others():
    head, said = GranularHead(C), []
    head.listener = lambda line, minor: said.append(line)
    features = unit(4, D, seed=4)
    shown(head, features, torch.tensor([0, 1, 2, 4]))
    head.refit()
    means = torch.stack([*features[:3], features.mean(dim=0), features[3]])
    assert torch.equal(head.member, agglomerated(means, [3, 2]))
    assert "1 of 5 classes have no training images" in said[0]


def test_what_does_not_fit_is_a_sentence(texts):
    features, image = unit(C * M, D, seed=1), unit(B, 4, D, seed=2)
    with pytest.raises(ValueError, match="must have 1 or 9 views, got 4"):
        settled(texts, features)(image @ features.T, texts, image)
    with pytest.raises(ValueError, match="hierarchy is of 4 classes, but the texts are of 5"):
        GranularHead(4)(image @ features.T, texts, image)
    with pytest.raises(ValueError, match="must not depend on the image"):
        GranularHead(C).settle(features.expand(2, -1, -1), texts)

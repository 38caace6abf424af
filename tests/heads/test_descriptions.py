"""Heads over descriptions, written out with loops."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cliptune.heads import NearestHead, PRMHead, RVPHead
from cliptune.heads.prm import effective_number, likeliest_strength
from cliptune.texts import TextBatch

B, V, C, M, D = 4, 2, 3, 5, 6


def texts(class_of: list[int], view_of: list[int] | None = None, set_of: list[int] | None = None) -> TextBatch:
    k = len(class_of)
    return TextBatch(
        torch.zeros(k, 3, dtype=torch.int64),
        torch.zeros(k, 0, dtype=torch.int64),
        torch.tensor(class_of),
        torch.tensor(view_of or [0] * k),
        max(class_of) + 1,
        set_of=None if set_of is None else torch.tensor(set_of),
    )


def described(seed: int = 0) -> TextBatch:
    """Class by class five descriptions, two of set 0 at view 1, three of set 1 at view 0."""
    return texts([c for c in range(C) for _ in range(M)], [1, 1, 0, 0, 0] * C, [0, 0, 1, 1, 1] * C)


def scores(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, V, C * M, generator=torch.Generator().manual_seed(seed))


def observed(head: PRMHead, own: torch.Tensor, labels: list[int]) -> None:
    """Show scores (b, C M) seen through one view."""
    batch = texts([c for c in range(head.weight.shape[0]) for _ in range(head.weight.shape[1])])
    head.observe(SimpleNamespace(similarity=own[:, None], texts=batch), torch.tensor(labels))


@pytest.mark.parametrize("k", [1, 2, 3, None])
def test_nearest_head_averages_the_k_highest_of_each_set(k):
    similarity, weights, batch = scores(), (0.7, 0.3), described()
    logits = NearestHead(k, weights)(similarity, batch, torch.zeros(B, V, D))
    for b in range(B):
        for c in range(C):
            expected = 0.0
            for number, members in ((0, (0, 1)), (1, (2, 3, 4))):
                own = sorted((float(similarity[b, 1 - number, c * M + i]) for i in members), reverse=True)
                chosen = own[: len(own) if k is None else k]
                expected += weights[number] * sum(chosen) / len(chosen)
            assert logits[b, c].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_nearest_head_without_sets_is_maximum_or_mean():
    similarity, batch = scores()[:, :1], described()
    blocks = similarity[:, 0].view(B, C, M)
    assert torch.equal(NearestHead(1)(similarity, batch, similarity), blocks.max(dim=-1).values)
    torch.testing.assert_close(NearestHead(None)(similarity, batch, similarity), blocks.mean(dim=-1))


def test_nearest_head_gives_gradient_only_to_the_chosen():
    similarity = scores()[:, :1].requires_grad_()
    NearestHead(2)(similarity, described(), similarity).sum().backward()
    assert torch.equal((similarity.grad != 0).view(B, C, M).sum(dim=-1), torch.full((B, C), 2))


def test_prm_starts_uniform_and_counts_votes_by_hand():
    head = PRMHead(2, 3, votes=1)
    assert torch.equal(head.weight, torch.full((2, 3), 1 / 3))
    own = torch.zeros(4, 6)
    for row, (label, best) in enumerate([(0, 0), (0, 0), (0, 2), (1, 1)]):
        own[row, 3 * label + best] = 1.0
    observed(head, own, [0, 0, 0, 1])
    head.refit()
    torch.testing.assert_close(head.weight, torch.tensor([[2 / 3, 0, 1 / 3], [0, 1, 0]]))
    head.smoothing = 3.0
    observed(head, own, [0, 0, 0, 1])
    head.refit()
    torch.testing.assert_close(head.weight, torch.tensor([[3 / 6, 1 / 6, 2 / 6], [1 / 4, 2 / 4, 1 / 4]]))


def test_prm_counts_anew_each_epoch_and_keeps_a_class_that_was_not_seen():
    head = PRMHead(2, 3, votes=1)
    observed(head, torch.eye(6)[:1], [0])
    head.refit()
    observed(head, torch.eye(6)[[5]], [1])
    head.refit()
    torch.testing.assert_close(head.weight, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))


def test_prm_ignores_other_splits_and_unknown_labels():
    head = PRMHead(2, 3, votes=1)
    batch = texts([0, 0, 0, 1, 1, 1])
    out = SimpleNamespace(similarity=torch.eye(6)[:2, None], texts=batch)
    head.observe(out, torch.tensor([0, 0]), split="val")
    head.observe(out, torch.tensor([-1, -1]))
    head.refit()
    assert torch.equal(head.weight, torch.full((2, 3), 1 / 3))


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, C - 1), min_size=1, max_size=12),
    votes=st.integers(1, M),
    smoothing=st.one_of(st.floats(0, 100), st.just("auto")),
    seed=st.integers(0, 1000),
)
def test_prm_columns_sum_to_one(labels, votes, smoothing, seed):
    head = PRMHead(C, M, votes, smoothing)
    own = torch.randn(len(labels), C * M, generator=torch.Generator().manual_seed(seed))
    observed(head, own, labels)
    head.refit()
    torch.testing.assert_close(head.weight.sum(dim=-1), torch.ones(C))
    assert (head.weight >= 0).all()
    if smoothing == 0:  # the paper's estimate, with loops
        for y in set(labels):
            counts = torch.zeros(M)
            for row, label in enumerate(labels):
                if label == y:
                    counts[own[row].view(C, M)[y].argsort(descending=True)[:votes]] += 1
            torch.testing.assert_close(head.weight[y], counts / (votes * labels.count(y)))


def test_prm_scores_each_description_through_its_view():
    head, similarity, batch = PRMHead(C, M), scores(), described()
    head.weight.copy_(torch.rand(C, M))
    logits = head(similarity, batch, similarity)
    for b in range(B):
        for c in range(C):
            votes = [head.weight[c, m] * similarity[b, batch.view_of[c * M + m], c * M + m] for m in range(M)]
            torch.testing.assert_close(logits[b, c], sum(votes))


def test_equal_patterns_make_the_partition_irrelevant():
    head, similarity, batch = PRMHead(C, M), scores()[:, :1].expand(B, V, -1), described()
    other = texts(batch.class_of.tolist(), [0] * (C * M))
    torch.testing.assert_close(head(similarity, batch, similarity), head(similarity, other, similarity))


def test_smoothing_by_evidence_is_none_from_sixteen_images_on():
    head = PRMHead(1, 4, votes=1, smoothing="auto")
    observed(head, torch.eye(4)[[0] * 16], [0] * 16)
    head.refit()
    assert head.weight.tolist() == [[1, 0, 0, 0]]


def test_evidence_prefers_much_smoothing_for_even_counts_and_little_for_uneven_ones():
    even = torch.tensor([[3.0, 3, 3, 3]] * 5)
    uneven = torch.tensor([[12.0, 0, 0, 0], [0, 12.0, 0, 0], [0, 0, 0, 12.0]])
    assert likeliest_strength(even) == pytest.approx(1e4)
    assert likeliest_strength(uneven) < 2


def test_effective_number_counts_the_descriptions_in_use():
    weight = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    torch.testing.assert_close(effective_number(weight), torch.tensor([4.0, 1.0, 2.0]))


def test_rvp_head_weighs_and_exchanges():
    head, similarity, batch = RVPHead(C, M), scores(), described()
    torch.nn.init.normal_(head.within)
    torch.nn.init.normal_(head.between)
    logits = head(similarity, batch, similarity)
    weight = head.within.softmax(dim=-1)
    for b in range(B):
        f = [sum(weight[c, m] * similarity[b, batch.view_of[c * M + m], c * M + m] for m in range(M)) for c in range(C)]
        for c in range(C):
            torch.testing.assert_close(logits[b, c], f[c] + sum(f[i] * head.between[i, c] for i in range(C)))


def test_rvp_without_residual_is_a_weighted_mean_that_starts_plain():
    head, similarity = RVPHead(C, M, residual=False), scores()[:, :1]
    logits = head(similarity, described(), similarity)
    torch.testing.assert_close(logits, similarity[:, 0].view(B, C, M).mean(dim=-1))
    assert sum(p.numel() for p in head.parameters()) == C * M


@pytest.mark.parametrize("head", [NearestHead(None, (0.6, 0.4)), NearestHead(9), PRMHead(C, M), RVPHead(C, M)])
def test_folded_head_equals_the_live_one(head):
    torch.manual_seed(3)
    for value in (*head.parameters(), *(b for n, b in head.named_buffers() if n == "weight")):
        value.data.uniform_()
    batch = described()
    image, text = (torch.nn.functional.normalize(torch.randn(*s), dim=-1) for s in ((B, V, D), (C * M, D)))
    live = head(image @ text.mT, batch, image)
    folded = torch.einsum("bvd,vcd->bc", image, head.fold(text, batch, V))
    torch.testing.assert_close(folded, live, rtol=1e-5, atol=1e-6)


def test_bad_requests_are_explained():
    similarity, batch = scores(), described()
    with pytest.raises(ValueError, match="depends on the image"):
        NearestHead(2).fold(torch.zeros(C * M, D), batch, V)
    with pytest.raises(ValueError, match="k must be at least 1"):
        NearestHead(0)
    with pytest.raises(ValueError, match="3 weights for 2 sets"):
        NearestHead(1, (0.1, 0.2, 0.7))(similarity, batch, similarity)
    with pytest.raises(ValueError, match="Use fewer votes or more descriptions"):
        PRMHead(C, 2, votes=3)
    with pytest.raises(ValueError, match="smoothing must be"):
        PRMHead(C, M, smoothing=-1.0)
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        PRMHead(C + 1, M)(similarity, batch, similarity)
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        RVPHead(C, M - 1)(similarity, batch, similarity)
    with pytest.raises(ValueError, match="look at views 0 to 2, but the image has 2"):
        PRMHead(C, M)(similarity, texts(batch.class_of.tolist(), [2] * (C * M)), similarity)
    with pytest.raises(ValueError, match="same number of texts"):
        PRMHead(2, 2, 1)(torch.zeros(1, 1, 3), texts([0, 0, 1]), similarity)

from types import SimpleNamespace

import pytest
import torch

from cliptune.objectives import WeightedLoss
from cliptune.objectives.contrastive import hard_negative_contrast, symmetric_contrastive

SCORES = 5 * torch.randn(4, 4, generator=torch.Generator().manual_seed(1))


def by_hand(scores, labels, mask):
    """Plain loops over rows and columns."""
    n, total = len(labels), 0.0
    for i in range(n):
        allowed = [j for j in range(n) if j == i or not (mask and labels[j] == labels[i])]
        row = torch.stack([scores[i, j] for j in allowed]).logsumexp(0) - scores[i, i]
        column = torch.stack([scores[j, i] for j in allowed]).logsumexp(0) - scores[i, i]
        total = total + (row + column) / (2 * n)
    return total


@pytest.mark.parametrize("duplicates", ["mask", "keep"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 0, 2]])
def test_contrast_matches_the_formula(duplicates, labels):
    loss = symmetric_contrastive(SCORES, torch.tensor(labels), duplicates)
    torch.testing.assert_close(loss, by_hand(SCORES, labels, duplicates == "mask"))


def test_without_duplicates_masking_changes_nothing():
    labels = torch.arange(4)
    assert torch.equal(symmetric_contrastive(SCORES, labels, "mask"), symmetric_contrastive(SCORES, labels, "keep"))


def host(out, batch, progress):
    ce, other = out.logits.mean(), out.logits.square().mean()
    return ce + 2 * other, {"ce": ce, "other": other}


def test_host_regularisers_stay_and_its_cross_entropy_goes():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    out, batch = SimpleNamespace(logits=logits), SimpleNamespace(labels=torch.tensor([5, 0, 2, 5]))
    alone, _ = hard_negative_contrast(out, batch, 0.0)
    expected = torch.stack([torch.stack([logits[a, c] for c in (5, 0, 2, 5)]) for a in range(4)])
    torch.testing.assert_close(alone, symmetric_contrastive(expected, batch.labels))
    loss, parts = hard_negative_contrast(out, batch, 0.0, host=WeightedLoss(host))
    torch.testing.assert_close(loss, alone + 2 * logits.square().mean())
    assert set(parts) == {"other", "contrast"}


def test_a_host_without_cross_entropy_is_replaced_whole():
    out, batch = SimpleNamespace(logits=SCORES), SimpleNamespace(labels=torch.arange(4))
    loss, parts = hard_negative_contrast(
        out, batch, 0.0, host=lambda *given: (torch.tensor(7.0), {"kl": torch.ones(())})
    )
    torch.testing.assert_close(loss, symmetric_contrastive(SCORES, batch.labels))
    assert set(parts) == {"contrast"}


def test_the_control_is_cross_entropy_over_all_classes():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    out, batch = SimpleNamespace(logits=logits), SimpleNamespace(labels=torch.tensor([5, 0, 2, 5]))
    loss, parts = hard_negative_contrast(out, batch, 0.0, plain=True)
    by_hand = sum(logits[i].logsumexp(0) - logits[i, c] for i, c in enumerate((5, 0, 2, 5))) / 4
    torch.testing.assert_close(loss, by_hand)
    assert set(parts) == {"ce"}
    loss, parts = hard_negative_contrast(out, batch, 0.0, host=WeightedLoss(host), plain=True)
    torch.testing.assert_close(loss, by_hand + 2 * logits.square().mean())
    assert set(parts) == {"ce", "other"}

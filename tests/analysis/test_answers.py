"""Answers: reliability against the library's own error, classes against scikit-learn and scipy, mistakes by hand."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from sklearn.metrics import recall_score

from cliptune.analysis.answers import class_accuracies, most_certain_mistakes, reliability
from cliptune.data.metrics import expected_calibration_error


@pytest.fixture
def answers():
    return 4 * torch.randn(60, 4), torch.randint(4, (60,))


def test_bins_are_those_written_out(answers):
    logits, labels = answers
    found = reliability(logits, labels, bins=10)
    sure, named = logits.double().softmax(-1).max(-1)
    for m in range(10):
        inside = [i for i in range(60) if m / 10 < float(sure[i]) <= (m + 1) / 10]
        assert int(found.count[m]) == len(inside)
        if inside:
            assert float(found.accuracy[m]) == pytest.approx(sum(named[i] == labels[i] for i in inside) / len(inside))
            assert float(found.confidence[m]) == pytest.approx(sum(float(sure[i]) for i in inside) / len(inside))
    assert reliability(logits, labels).ece == pytest.approx(expected_calibration_error(logits, labels))
    assert "too sure" in found.sentence()
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(logits[:0], labels[:0])


def test_classes_have_recalls_with_wilsons_intervals(answers):
    logits, labels = answers
    labels[labels == 3] = 2
    named = logits.argmax(-1)
    found = class_accuracies(labels, named, named.flip(0), ("a", "b", "c", "d"))
    expected = recall_score(labels, named, labels=[0, 1, 2], average=None)
    assert found.accuracy[:3].tolist() == pytest.approx((100 * expected).tolist())
    assert bool(found.accuracy[3].isnan())
    for c in range(3):
        n, right = int((labels == c).sum()), int(((labels == c) & (named == c)).sum())
        interval = stats.binomtest(right, n).proportion_ci(method="wilson")
        assert float(found.low[c]) == pytest.approx(100 * interval.low, abs=1e-6)
        assert float(found.high[c]) == pytest.approx(100 * interval.high, abs=1e-6)
    assert "'d'" not in found.sentence()
    assert "of 3 classes" in found.sentence()


def test_mistakes_are_the_surest_first():
    logits = torch.tensor([[3.0, 0.0], [0.0, 5.0], [4.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    labels = torch.tensor([1, 1, 1, 0, 1])
    assert most_certain_mistakes(logits, labels).tolist() == [2, 4, 0, 3]
    assert most_certain_mistakes(logits, labels, 2).tolist() == [2, 4]

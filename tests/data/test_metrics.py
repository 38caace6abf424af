from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cliptune.data import metrics
from tests.data.pictures import GOLDEN

GOLD = json.loads((GOLDEN / "data_metrics.json").read_text())


@pytest.mark.parametrize("case", GOLD["results"])
def test_metrics_equal_the_reference(case):
    tensors, expected = load_file(GOLDEN / "data_metrics.safetensors"), GOLD["results"][case]
    logits, labels = tensors[f"{case}.logits"], tensors[f"{case}.y"]
    ours = metrics.evaluate_logits(logits, labels)
    assert logits.max(-1).indices.tolist() == expected["pred"]
    assert ours["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-9)
    assert ours["macro_f1"] == pytest.approx(expected["macro_f1"], abs=1e-9)
    assert ours["mean_per_class"] == pytest.approx(expected["perclass_accuracy"], abs=1e-9)


@pytest.mark.parametrize("case", GOLD["harmonic"])
def test_harmonic_mean(case):
    assert metrics.harmonic_mean(case["base"], case["new"]) == pytest.approx(case["H"], abs=1e-12)


def test_per_class_accuracy_written_out_with_an_absent_class():
    labels = [0, 0, 2, 2, 2, 3]
    predicted = [0, 1, 2, 2, 0, 1]
    assert metrics.per_class_accuracy(predicted, labels, 5) == [
        50.0,
        None,
        pytest.approx(200 / 3),
        0.0,
        None,
    ]
    assert metrics.mean_per_class_accuracy(predicted, labels) == pytest.approx((50 + 200 / 3 + 0) / 3)
    # F1: class 0 has 1 hit, 1 wrong guess, 1 miss; class 2 has 2 hits, 1 miss; 3 none; 1 is left out
    assert metrics.macro_f1(predicted, labels) == pytest.approx(100 * (0.5 + 0.8 + 0) / 3)


def test_calibration_error_equals_the_formula_with_loops():
    torch.manual_seed(0)
    logits, labels, n_bins = 3 * torch.randn(200, 5), torch.randint(0, 5, (200,)), 7
    confidence, predicted = logits.double().softmax(-1).max(-1)
    expected = 0.0
    for m in range(1, n_bins + 1):
        inside = [i for i in range(200) if (m - 1) / n_bins < confidence[i] <= m / n_bins]
        if inside:
            acc = sum(float(predicted[i] == labels[i]) for i in inside) / len(inside)
            conf = sum(float(confidence[i]) for i in inside) / len(inside)
            expected += len(inside) / 200 * abs(acc - conf)
    ours = metrics.expected_calibration_error(logits, labels, n_bins)
    assert ours == pytest.approx(100 * expected, abs=1e-9)


def test_unusable_input_gets_a_sentence():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="1 of 2 images have logits that are not finite"):
        metrics.evaluate_logits(torch.tensor([[0.0, float("nan"), 0], [0, 0, 0]]), [0, 1])
    with pytest.raises(ValueError, match="label 3 does not exist among 3 classes"):
        metrics.evaluate_logits(logits, [0, 3])
    with pytest.raises(ValueError, match="a label is unknown"):
        metrics.evaluate_logits(logits, [0, -1])
    with pytest.raises(ValueError, match="at least one"):
        metrics.accuracy([], [])
    with pytest.raises(ValueError, match="expected logits"):
        metrics.evaluate_logits(logits, [0])

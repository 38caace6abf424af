"""`weights` and `patterns` of finished runs."""

from __future__ import annotations

import torch

from cliptune.analysis.prm import contributions
from cliptune.explain import explain


def test_weights_and_patterns_of_causes(opened):
    run = opened("dvp_cse", images=12, data="tinyworld/one_cause_colour", epochs=2, lr=10.0)
    answers = explain(run, ["weights", "patterns"])
    weights, patterns = answers["weights"].found, answers["patterns"].found
    assert weights.risk.n == len(run.split("train")) == 12
    assert all(weights.risk.best <= value + 1e-9 for value in weights.risk.fixed.values())
    assert set(weights.heaviest) == set(run.class_names)
    assert list(answers["weights"].pictures) == ["causes", "risk"]
    assert "gained most" in answers["weights"].sentence

    batch = next(iter(run.batches()))
    expected = contributions(run.adapter, batch)
    own = expected[torch.arange(12), :, batch.labels]
    torch.testing.assert_close(patterns.of_image, own.cpu())
    assert patterns.names == weights.read.groups
    assert list(answers["patterns"].pictures) == ["pictures", "contributions", "alike"]
    assert "pictures" not in answers["patterns"].to_json()["found"]
    assert patterns.pictures.shape[:2] == (3, len(patterns.names) + 1)
    assert run.adapter.resolution < patterns.pictures.shape[2]
    assert float(patterns.pictures.min()) >= 0


def test_one_pattern_without_a_matrix(opened):
    answers = explain(opened("vp", images=6), ["weights", "patterns"])
    assert "no reweighting matrix" in answers["weights"].why_not
    assert answers["patterns"].found.contribution is None
    assert list(answers["patterns"].pictures) == ["pictures"]
    assert answers["patterns"].sentence.startswith("1 pattern on the pixels.")


def test_nothing_on_the_pixels_is_a_sentence(opened):
    assert "Nothing is drawn" in explain(opened("coop", images=6), ["patterns"])["patterns"].why_not

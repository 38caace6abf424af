"""Channels of two prompts, against the measures written out and controls of which the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from cliptune.analysis.channels import channel_invariance, compare_channels


def ranks(values):
    return [sum(other < value for other in values) + 1 for value in values]


def correlation(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    cov = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return cov / math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def test_measures_are_those_written_out():
    first, second = torch.randn(3, 20), torch.randn(3, 20)
    found = compare_channels(first, second)
    p, q = first.tolist(), second.tolist()
    kappa = [[sum(abs(row[c]) for row in m) / 3 for c in range(20)] for m in (p, q)]
    top = [set(sorted(range(20), key=lambda c: -k[c])[:2]) for k in kappa]
    dot = lambda x, y: sum(a * b for a, b in zip(x, y, strict=True))
    cosines = [dot(x, y) / math.sqrt(dot(x, x) * dot(y, y)) for x, y in zip(p, q, strict=True)]
    moved = sum((b - a) ** 2 for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True))
    assert found.pearson == pytest.approx(correlation(*kappa))
    assert found.spearman == pytest.approx(correlation(*map(ranks, kappa)))
    assert found.jaccard == pytest.approx(len(top[0] & top[1]) / len(top[0] | top[1]))
    assert found.cosine == pytest.approx(sum(cosines) / 3)
    assert found.drift == pytest.approx(math.sqrt(moved / sum(dot(x, x) for x in p)))


def test_controls_tell_what_chance_gives():
    tuned = {"text 0": torch.randn(4, 256) * torch.rand(256)}
    scaled = {"text 0": 1.5 * tuned["text 0"]}  # the same profile, moved far
    found = channel_invariance(tuned, scaled, {"text 0": torch.randn(4, 256)}, draws=10)
    assert found.mean("parallel", "spearman") == pytest.approx(1)
    assert found.mean("permuted", "drift") == pytest.approx(found.mean("parallel", "drift")) == pytest.approx(0.5)
    assert found.mean("permuted", "spearman") < 0.95
    assert abs(found.mean("random", "spearman")) < 0.15
    assert found.mean("random", "drift") == pytest.approx(2**0.5, abs=0.15)  # two directions of equal length
    assert "other seed" in found.sentence()
    assert "more than the same change" in found.sentence()


def test_a_prompt_that_hardly_moved_is_told_apart():
    tuned = {"text 0": torch.randn(4, 64)}
    found = channel_invariance(tuned, {"text 0": tuned["text 0"] + 1e-3 * torch.randn(4, 64)})
    assert "how little the prompt moved" in found.sentence()
    assert set(found.to_json()["pairs"]) == {"parallel", "permuted", "random"}


def test_a_constant_profile_has_no_correlation():
    assert math.isnan(compare_channels(torch.ones(2, 5), torch.randn(2, 5)).spearman)


def test_class_specific_prompts_count_all_their_rows():
    first, second = torch.randn(3, 2, 16), torch.randn(3, 2, 16)
    assert compare_channels(first, second) == compare_channels(first.flatten(0, 1), second.flatten(0, 1))


@pytest.mark.parametrize(
    ("first", "second"), [((2, 4), (3, 4)), ((2, 4), (2, 5)), ((4,), (4,))], ids=["rows", "width", "vector"]
)
def test_prompts_of_two_shapes_are_a_sentence(first, second):
    with pytest.raises(ValueError, match="two prompts"):
        compare_channels(torch.ones(first), torch.ones(second))


def test_other_places_are_a_sentence():
    with pytest.raises(ValueError, match=r"same places.*text 0 and image 0"):
        channel_invariance({"text 0": torch.ones(2, 4)}, {"image 0": torch.ones(2, 4)})

from __future__ import annotations

import pytest
import torch

from cliptune.doctor import labels as module
from cliptune.doctor.labels import MARGIN, SURE, _drawn, confident, cross_validated, doubted, folds
from tests.conftest import NAMES


def test_confident_is_the_rule_written_out():
    draw = torch.Generator().manual_seed(1)
    chances = torch.rand(200, 4, generator=draw, dtype=torch.float64).pow(3)
    chances /= chances.sum(1, keepdim=True)
    labels = torch.randint(0, 4, (200,), generator=draw)
    usual = [
        sum(float(chances[i, c]) for i in range(200) if labels[i] == c) / sum(int(y) == c for y in labels)
        for c in range(4)
    ]
    expected = {}
    for i in range(200):
        best = max(range(4), key=lambda c: float(chances[i, c]))
        lead = float(chances[i, best]) - float(chances[i, labels[i]])
        if best != labels[i] and chances[i, best] >= min(usual[best], SURE) and lead >= MARGIN:
            expected[i] = lead
    assert len(expected) > 20
    assert confident(chances, labels) == sorted(expected, key=lambda i: -expected[i])


def test_no_picture_is_answered_by_a_classifier_that_knew_it():
    draw = torch.Generator().manual_seed(2)
    centres = torch.randn(3, 12, generator=draw)
    labels = torch.arange(3).repeat_interleave(20)
    features = centres[labels] + 0.3 * torch.randn(60, 12, generator=draw)
    labels[0] = 2  # which all others contradict
    chances = cross_validated(features, labels, 3)
    assert torch.allclose(chances.sum(1), torch.ones(60, dtype=torch.float64))
    assert chances[0].argmax() == 0
    assert (chances.argmax(1) == labels)[1:].all()
    assert confident(chances, labels) == [0]


def test_folds_deal_out_every_class():
    fold = folds([0] * 7 + [1] * 2 + [2] * 5)
    assert sorted(fold[:7].tolist()) == [0, 0, 1, 1, 2, 3, 4]
    assert sorted(fold[7:9].tolist()) == [0, 1]
    assert sorted(fold[9:].tolist()) == [0, 1, 2, 3, 4]


def test_of_many_pictures_every_class_gives_its_share(dataset, monkeypatch):
    monkeypatch.setattr(module, "MOST", 10)
    places = [("train", i) for i in range(20)]
    drawn = _drawn(dataset, places)
    assert drawn == _drawn(dataset, places)
    assert sorted(dataset.train[i].label for _, i in drawn) == sorted(list(range(len(NAMES))) * 2)


def test_classes_of_one_picture_are_left_out(dataset, tiny_clip):
    first = [next(i for i, item in enumerate(dataset.train.items) if item.label == c) for c in range(len(NAMES))]
    doubts = doubted(dataset, [("train", i) for i in first], tiny_clip)
    assert doubts.finding is None
    assert "fewer than two classes have two pictures" in doubts.looked[0]


def test_poor_features_are_said_to_be_poor(dataset, tiny_clip, monkeypatch):
    monkeypatch.setattr(module, "POOR", 101)
    told = []
    doubts = doubted(dataset, [("train", i) for i in range(20)], tiny_clip, progress=lambda *step: told.append(step))
    assert "--backbone ViT-B/16" in doubts.looked[1]
    assert told == [("features", 20, 20)]


@pytest.mark.parametrize("most", [20, 100])
def test_few_pictures_are_all_taken(dataset, monkeypatch, most):
    monkeypatch.setattr(module, "MOST", most)
    places = [("train", i) for i in range(20)]
    assert _drawn(dataset, places) == places

"""The table of steps over their floor, with a tiny CLIP in place of ViT-B/16's sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import cliptune.clip

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import step_floor
from turns import MEMORY, STEP, TEST


class Fixed:
    """Other code, of known speed."""

    def answer(self, method: str, what: str = STEP) -> float:
        return {STEP: 300.0, TEST: 200.0, MEMORY: 100.0}[what]


@pytest.fixture
def steps(tiny_clip, monkeypatch):
    monkeypatch.setattr(cliptune.clip, "CLIP", lambda *_: tiny_clip)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return step_floor.Steps(classes=5, batch=2, layers=4)


@pytest.mark.parametrize("test", [False, True])
def test_a_row_has_every_column(steps, test, monkeypatch):
    monkeypatch.setattr(step_floor, "done", lambda step: 1)  # counting takes seconds
    row = step_floor.measured("ivlp", steps, steps, [Fixed()], rounds=1, test=test)
    columns = step_floor.heads(["beside"], test)
    cells = dict(zip(columns, row.strip("| ").split(" | "), strict=True))
    assert cells["method"] == "ivlp"
    assert cells["beside s"] == "300.00"
    if test:
        assert (cells["beside test s"], cells["beside peak GiB"]) == ("200.00", "100.00")
        ours = float(cells["peak GiB"])
        assert float(cells["beside peak / peak"]) == pytest.approx(100 / ours, rel=0.01 / ours)


@pytest.mark.parametrize("method", ["ivlp", "cocoop", "vpt", "promptsrc"])
def test_a_test_batch_answers_as_an_evaluation_and_leaves_training_alone(steps, method, monkeypatch):
    _, adapter, batch, _ = steps.prepared(method)
    steps.seconds(method)
    kept, known = dict(adapter._kept), []
    plain = type(adapter).forward

    def heard(self, batch, **options):
        assert not self.training
        assert not torch.is_grad_enabled()
        known.append((options["text_features"], plain(self, batch, **options).logits))

    monkeypatch.setattr(type(adapter), "forward", heard)
    steps.answer(method, TEST)
    steps.answer(method, step_floor.TEXTS)
    monkeypatch.undo()
    ((texts, logits),) = known
    assert (texts is None) == (method == "cocoop")
    with torch.no_grad(), adapter.evaluating():
        torch.testing.assert_close(logits, adapter(batch).logits)
    assert adapter.training
    assert all(torch.equal(adapter._kept[name], value) for name, value in kept.items())

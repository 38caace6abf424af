import json

import pytest

from cliptune.choosing import Candidate, beside
from cliptune.protocols import few_shot
from cliptune.registry import build
from cliptune.results.statistics import paired_bootstrap, proportion
from cliptune.runs import read_result
from cliptune.runs.manifest import verify
from cliptune.training import evaluate, fit
from tests.training.support import squares

BASELINES = (Candidate("zeroshot"), Candidate("gda"))


def test_baselines_are_compared_on_the_images_of_the_run(tiny_clip, tmp_path):
    data = squares()
    few_shot("linear_probe", tiny_clip, data, shots=None, out=tmp_path / "run", progress="silent")
    found = beside(tmp_path / "run", tiny_clip, data, BASELINES)
    assert [one.method for one in found] == ["zeroshot", "gda"]
    own = fit(build("linear_probe", tiny_clip, data.class_names), data, progress="silent").adapter
    own = evaluate(own, data.test).predictions.right.numpy().astype(float)
    for one in found:
        adapter = fit(build(one.method, tiny_clip, data.class_names), data, progress="silent").adapter
        right = evaluate(adapter, data.test).predictions.right.numpy().astype(float)
        assert one.accuracy == pytest.approx(100 * right.mean())
        share = proportion(int(right.sum()), len(right))
        assert (one.low, one.high) == pytest.approx((100 * share.low, 100 * share.high))
        more = paired_bootstrap([right - own])
        assert (one.difference, one.difference_low, one.difference_high) == pytest.approx(
            (100 * more.estimate, 100 * more.low, 100 * more.high)
        )
        assert one.verdict == more.sign
        assert one.n == len(data.test)


def test_they_are_kept_in_a_result_that_its_manifest_vouches_for(tiny_clip, tmp_path, monkeypatch):
    data = squares()
    few_shot("zeroshot", tiny_clip, data, shots=None, out=tmp_path / "run", progress="silent")
    found = beside(tmp_path / "run", tiny_clip, data, BASELINES)
    assert [one.method for one in found] == ["gda"]  # its own method is not beside it
    assert json.loads((tmp_path / "run" / "result.json").read_text())["beside"][0]["method"] == "gda"
    assert verify(tmp_path / "run").state == "verified"
    monkeypatch.setattr("cliptune.choosing.baselines.train", None)  # nothing is trained again
    assert beside(tmp_path / "run", tiny_clip, data, BASELINES) == found


def test_without_test_images_the_validation_images_are_compared_on(tiny_clip, tmp_path):
    data = squares({"train": 4, "val": 3})
    few_shot("linear_probe", tiny_clip, data, shots=None, out=tmp_path / "run", progress="silent")
    found = beside(tmp_path / "run", tiny_clip, data, BASELINES)
    assert [(one.evaluation, one.n) for one in found] == [("val", 9)] * 2


def test_where_nothing_was_scored_nothing_is_compared(tiny_clip, tmp_path):
    data = squares({"train": 4})
    few_shot("zeroshot", tiny_clip, data, shots=None, out=tmp_path / "run", progress="silent")
    assert beside(tmp_path / "run", tiny_clip, data, BASELINES) == []
    assert "beside" not in read_result(tmp_path / "run")

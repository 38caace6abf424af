"""What a page says of a run, against its result."""

from __future__ import annotations

import json
import math

import pytest

from cliptune.report.facts import facts
from tests.conftest import without_manifest


def test_numbers_are_those_of_the_result_with_wilsons_interval(runs):
    folder = runs("coop")
    result = json.loads((folder / "result.json").read_text())["evaluations"]["test"]
    (score,) = facts(folder).scores
    n, share, z = result["n"], result["accuracy"] / 100, 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (score.accuracy.estimate, score.images) == (pytest.approx(result["accuracy"]), n)
    assert score.accuracy.low == pytest.approx(100 * (middle - half), abs=1e-6)
    assert score.accuracy.high == pytest.approx(100 * (middle + half), abs=1e-6)


def test_rows_name_what_was_trained(runs):
    read = facts(runs("coop"))
    rows = dict(read.rows)
    assert rows["method"] == "coop"
    assert rows["shots"] == "2"
    assert "epochs 1" in rows["options"]
    assert read.title == "coop on tinyworld/objects"
    assert f"{read.scores[0].accuracy.estimate:.1f} %" in read.answer


def test_a_choice_on_validation_images_is_a_flag(runs):
    read = facts(runs("linear_probe"))
    assert any("chosen on" in flag and "validation images" in flag for flag in read.flags)


def test_own_data_come_before_others_and_base_before_new(runs):
    read = facts(runs("coop", protocol="base2new"))
    assert [score.name for score in read.scores] == ["base", "new"]


def test_an_unfinished_run_is_a_sentence(runs, tmp_path):
    import shutil

    folder = shutil.copytree(runs("coop"), tmp_path / "run")
    (without_manifest(folder) / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        facts(folder)

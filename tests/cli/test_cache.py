"""`cliptune cache` and `--no-cache`, on a real run."""

import json

import pytest

from cliptune.features import FeatureStore


@pytest.fixture
def features(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPTUNE_FEATURES", str(tmp_path / "features"))
    return tmp_path / "features"


def fit(cli, out, *more):
    answer = cli(
        "train",
        "--method",
        "coop",
        "--data",
        "tinyworld/symbols",
        "--shots",
        "1",
        "--set",
        "epochs=1",
        "--out",
        out,
        *more,
    )
    assert answer.code == 0, answer.err
    return json.loads((out / "result.json").read_text())


def test_a_run_leaves_and_finds_embeddings_and_no_number_changes(cli, features, tmp_path):
    plain = fit(cli, tmp_path / "plain", "--no-cache")
    assert not features.exists()
    first, again = (fit(cli, tmp_path / name) for name in ("first", "again"))
    assert first["evaluations"] == again["evaluations"] == plain["evaluations"]
    stored = FeatureStore(features).spaces()[0]
    assert stored.described["backbone"] == "mini"
    assert sum(map(len, stored.shards())) == 400
    answer = cli("cache", "list")
    assert "mini" in answer.out
    assert "400" in answer.out
    assert "today" in answer.out


def test_the_list_is_cleared(cli, features, tmp_path):
    fit(cli, tmp_path / "run")
    assert "Freed 0.0 MB" in cli("cache", "clear", "--unused-days", "3").out
    assert "nothing is kept of 'ViT-B/16'" in cli("cache", "clear", "ViT-B/16").err
    assert "Freed 0.2 MB" in cli("cache", "clear", "mini").out
    assert "Nothing is kept" in cli("cache", "list").out


def test_the_list_shows_what_is_there_also_without_using_it(cli, features, tmp_path):
    fit(cli, tmp_path / "run")
    assert "mini" in cli("cache", "list", "--no-cache").out


def test_a_negative_age_is_refused(cli):
    assert "--unused-days must be 0 or more" in cli("cache", "clear", "--unused-days=-1").err

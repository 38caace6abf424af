from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import without_manifest


def test_check_tells_of_every_run_and_ends_with_1_if_one_is_damaged(cli, photos, backbone):
    for seed, name in enumerate(("a", "b", "old"), 1):
        seeded = ("--seed", seed, "--out", f"runs/{name}")
        cli("fit", photos, "--method", "zeroshot", *seeded, "--backbone", backbone)
    without_manifest(Path("runs/old"))
    whole = cli("check", "runs")
    assert whole.code == 0
    assert "runs/a: verified" in whole.out
    assert "3 runs: 1 unverified, 2 verified." in whole.out
    Path("runs/b/split.json").write_text("{}")
    answer = cli("check", "runs/b", "runs/a")
    assert answer.code == 1
    assert "runs/b: damaged: split.json is not as the run wrote it" in answer.out
    found = {run["run"]: run for run in json.loads(cli("check", "runs", "--json").out)}
    assert found["runs/b"]["problems"] == {"split.json": "is not as the run wrote it"}
    assert cli("eval", "runs/b").code == cli("predict", "runs/b", photos).code == 2
    table = cli("table", "runs")
    assert "Left out" in table.err
    assert "split.json" in table.err


def test_check_of_a_folder_without_runs_is_a_sentence(cli, tmp_path):
    answer = cli("check", tmp_path)
    assert answer.code == 2
    assert "found none" in answer.err

"""A method that sees the test images, from the command line."""

from __future__ import annotations

import json
from pathlib import Path


def test_tda_is_flagged_measured_over_orders_and_refused_where_it_has_no_stream(cli, photos, backbone):
    made = cli("fit", photos, "--method", "tda", "--out", "runs/tda", "--backbone", backbone)
    assert made.code == 0, made.err
    result = json.loads(Path("runs/tda/result.json").read_text())
    assert result["flags"]["unlabelled_test_images"] == "as they come"
    assert "sees unlabelled test images" in cli("table", "runs").out
    numbers = json.loads(cli("eval", "runs/tda", "--orders", 10, "--json").out)
    assert len(numbers["orders"]["accuracies"]) == 10
    assert numbers["orders"]["n"] == 8
    assert numbers["accuracy"] == result["evaluations"]["test"]["accuracy"]  # in its own order
    assert "In 3 orders: accuracy " in cli("eval", "runs/tda", "--orders", 3).out
    told = cli("predict", "runs/tda", photos)
    assert told.code == 0
    assert "answers each picture by those before it" in told.err
    for words, sentence in (
        (("eval", "runs/tda", "--orders", 1), "at least 2 are needed"),
        (("eval", "runs/tda", "--orders", 3, "--data", photos), "--orders is for the run's own images"),
        (("export", "runs/tda", "--out", "e"), "an export answers each one alone"),
        (("export", "runs/tda", "--to", "folded", "--out", "f"), "an export answers each one alone"),
        (("calibrate", "runs/tda"), "are another stream than those it will be asked about"),
        (("serve", "runs/tda"), "answers a picture by those that came before it"),
    ):
        answer = cli(*words)
        assert answer.code == 2, words
        assert sentence in answer.err
    plain = cli("fit", photos, "--method", "zeroshot", "--out", "runs/zero", "--backbone", backbone)
    assert plain.code == 0
    assert "no answer of the run in runs/zero depends on images" in cli("eval", "runs/zero", "--orders", 3).err

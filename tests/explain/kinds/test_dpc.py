"""`dpc` of finished runs."""

from __future__ import annotations

import json

import pytest

from cliptune import protocols
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain
from cliptune.explain.running import write
from cliptune.runs import RunSpec

ONCE = {"epochs": 1, "dpc_epochs": 1}


def test_two_prompts_over_base_and_new_with_all_controls(tmp_path):
    for seed in (1, 2):
        source = DataSpec("tinyworld/objects", shots=1, seed=seed, classes="base")
        protocols.run(RunSpec("coop+dpc", source, "base2new", options=ONCE), tmp_path / f"seed{seed}")
    run = OpenedRun.open(tmp_path / "seed1", images=20)
    answer = explain(run, ["dpc"])["dpc"]
    found = answer.found
    assert set(found.curve.accuracy) == {"base", "new"}
    assert found.curve.used == {"base": 0.2, "new": 0.0}
    assert found.curve.n == {"base": 20, "new": 20}
    assert set(found.channels.pairs) == {"parallel", "permuted", "random", "other seed"}
    assert found.channels.places == ("text 0",)
    assert list(answer.pictures) == ["accuracy", "channels", "linearity"]
    assert all(part in answer.sentence for part in ("base classes are named", "Spearman", "straight line"))
    written = write({"dpc": answer}, tmp_path / "explain")
    assert json.loads(written[0].read_text())["found"]["curve"]["weights"][-1] == 1.0


def test_without_a_sibling_the_control_is_left_out(opened, tmp_path):
    run = opened("vpt+dpc", images=6, shots=1, dpc_epochs=1, depth=1)
    run.among = str(run.folder)
    found = explain(run, ["dpc"], draw=False)["dpc"].found
    assert "other seed" not in found.channels.pairs
    assert found.linearity.text is None
    assert found.linearity.n == 6


def test_one_prompt_is_a_sentence(opened):
    assert "one prompt" in explain(opened("zeroshot"), ["dpc"])["dpc"].why_not


def test_a_folder_of_others_that_is_not_there_is_a_sentence(opened, tmp_path):
    run = opened("vpt+dpc", images=6, shots=1, dpc_epochs=1, depth=1)
    run.among = str(tmp_path / "none")
    assert "no folder" in explain(run, ["dpc"])["dpc"].why_not


@pytest.mark.parametrize("free", [(), ("seed",)])
def test_family_keeps_apart_what_differs(tmp_path, free):
    from cliptune.explain.siblings import family

    for name, seed, options in (("a", 1, {}), ("b", 2, {}), ("c", 1, {"n_ctx": 2})):
        source = DataSpec("tinyworld/objects", shots=1, seed=seed)
        protocols.run(RunSpec("coop", source, options={"epochs": 1, **options}), tmp_path / name)
    found = family(OpenedRun.open(tmp_path / "a"), *free)
    assert [one.folder.name for one in found] == (["a", "b"] if free else ["a"])

"""Prompts logged epoch by epoch: they are what entered, resume bit for bit, and change no number."""

from __future__ import annotations

import json

import pytest
import torch

from cliptune.batch import Batch
from cliptune.runs import FixedPrompt, read_prompts
from cliptune.runs.manifest import verify
from cliptune.training import fit
from tests.training.support import recipe, squares
from tests.training.test_continued import run
from tests.training.test_fit import StopAfter, same, two_stages

FILE = "prompts.jsonl"
QUIET = {"progress": "silent", "log_prompts": True}


@pytest.mark.parametrize("method", ["maple", "bias_tuning", "clip_lora", "coop+rlp"])
def test_the_last_line_is_what_enters_the_finished_adapter(tiny_clip, tmp_path, method):
    made = fit(recipe(tiny_clip, method, epochs=2), squares(), tmp_path, **QUIET)
    logged = read_prompts(tmp_path)
    assert [one.epoch for one in logged] == [0, 1, 2]
    batch = Batch.of(torch.rand(3, 3, 32, 32))
    assert logged[-1].whole
    with torch.no_grad():  # with gradients the rounding is another
        now = made.adapter(batch).logits
        again, before = (made.adapter.with_prompt(FixedPrompt(logged[i]))(batch).logits for i in (-1, 0))
    assert torch.equal(again, now)
    assert not torch.equal(before, now)


def test_logging_changes_no_number_and_is_off_by_default(tiny_clip, tmp_path):
    plain = fit(recipe(tiny_clip, "coop", epochs=2), squares(), tmp_path / "plain", progress="silent")
    logged = fit(recipe(tiny_clip, "coop", epochs=2), squares(), tmp_path / "logged", **QUIET)
    same(plain.adapter.learnables(), logged.adapter.learnables())
    assert not (tmp_path / "plain" / FILE).exists()
    assert (tmp_path / "plain/config.yaml").read_bytes() == (tmp_path / "logged/config.yaml").read_bytes()
    assert read_prompts(tmp_path / "plain") == []


@pytest.mark.parametrize("steps", [1, 4, 7, 8, 12, 17])
def test_a_stopped_run_logs_what_an_uninterrupted_one_does(tiny_clip, tmp_path, steps):
    fit(two_stages(tiny_clip), squares(), tmp_path / "whole", save_every=0.0, **QUIET)
    with pytest.raises(KeyboardInterrupt):
        fit(
            two_stages(tiny_clip),
            squares(),
            tmp_path / "cut",
            save_every=0.0,
            progress=StopAfter(steps),
            log_prompts=True,
        )
    with open(tmp_path / "cut" / FILE, "a") as file:
        file.write('{"torn')  # as a crash while writing leaves it
    # Once a state knows of the log, it goes on, asked for again or not.
    fit(two_stages(tiny_clip), squares(), tmp_path / "cut", progress="silent", log_prompts=steps < 4)
    assert (tmp_path / "cut" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert [(one.stage, one.epoch) for one in read_prompts(tmp_path / "cut")][3:] == [("second", i) for i in range(4)]


def test_a_log_that_begins_late_is_said(tiny_clip, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(two_stages(tiny_clip), squares(), tmp_path, save_every=0.0, progress=StopAfter(2))
    made = fit(two_stages(tiny_clip), squares(), tmp_path, **QUIET)
    assert read_prompts(tmp_path)[0].epoch > 0
    assert any("this run began without" in note for note in made.result["notes"])


def test_a_second_stage_takes_over_its_hosts_log(tiny_clip, tmp_path):
    run(tiny_clip, "coop+dpc", tmp_path / "whole", {}, {}, log_prompts=True)
    run(tiny_clip, "coop", tmp_path / "host", {}, log_prompts=True)
    run(tiny_clip, "coop+dpc", tmp_path / "after", {}, {}, log_prompts=True, continues=tmp_path / "host")
    assert (tmp_path / "after" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    last = read_prompts(tmp_path / "after")[-1]
    assert not torch.equal(last.trained.text.tokens[0], last.others.text.tokens[0])  # ω 0.2 and 0


def test_the_manifest_covers_the_log(tiny_clip, tmp_path):
    fit(recipe(tiny_clip, "coop", epochs=1), squares(), tmp_path, **QUIET)
    assert verify(tmp_path).state == "verified"
    lines = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text(lines[0] + "\n")
    assert FILE in verify(tmp_path).problems


def test_overwriting_removes_an_earlier_log(tiny_clip, tmp_path):
    fit(recipe(tiny_clip, "coop", epochs=1), squares(), tmp_path, **QUIET)
    fit(recipe(tiny_clip, "coop", epochs=1), squares(), tmp_path, overwrite=True, progress="silent")
    assert not (tmp_path / FILE).exists()


def test_a_method_without_tokens_says_that_there_is_nothing_to_log(tiny_clip, tmp_path):
    made = fit(recipe(tiny_clip, "vp", epochs=1), squares(), tmp_path, **QUIET)
    assert not (tmp_path / FILE).exists()
    assert any("Prompts are not logged" in note for note in made.result["notes"])


def test_texts_that_depend_on_the_image_are_not_whole(tiny_clip, tmp_path):
    fit(recipe(tiny_clip, "cocoop", epochs=1), squares(), tmp_path, **QUIET)
    assert not read_prompts(tmp_path)[-1].whole


@pytest.mark.parametrize(
    "change",
    [
        lambda line: {**line, "leaves": {"text tokens 0": {"shape": [2, 2], "float32": "AAAA"}}},
        lambda line: {**line, "leaves": {"text tokens 0": {"shape": [-1], "float32": "?"}}},
        lambda line: {**line, "leaves": {"text": 3}},
        lambda line: {**line, "leaves": {"text delta 0 q down": line["leaves"]["text tokens 0"]}},
        lambda line: {"stage": "x"},
        lambda line: {**line, "leaves": []},
        lambda line: {**line, "leaves": {"text tokens 3": line["leaves"]["text tokens 0"]}},
    ],
    ids=["too few bytes", "size", "no value", "half a delta", "missing", "list", "no first layer"],
)
def test_damaged_lines_are_a_sentence(tiny_clip, tmp_path, change):
    fit(recipe(tiny_clip, "coop", epochs=1), squares(), tmp_path, **QUIET)
    line = json.loads((tmp_path / FILE).read_text().splitlines()[0])
    (tmp_path / FILE).write_text(json.dumps(change(line)) + "\n")
    with pytest.raises(ValueError, match=r"no logged prompt .*Make the run anew"):
        read_prompts(tmp_path)

"""`cliptune fit` where no method is named, and what stands beside one that is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cliptune.choosing import Candidate, Candidates
from cliptune.cli.shared.choosing import command_line
from cliptune.runs import read_config, read_result
from cliptune.runs.manifest import verify

ZERO, GDA, PROBE = Candidate("zeroshot"), Candidate("gda"), Candidate("linear_probe")
COOP = Candidate("coop", {"epochs": 2}, {"views": 1})


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    """The first three of the usual ones, and a short training."""
    few = Candidates((ZERO, GDA, PROBE, COOP), (ZERO, GDA), GDA)
    monkeypatch.setattr("cliptune.choosing.usual_candidates", lambda: few, raising=False)
    return few


@pytest.fixture
def fit(cli, photos, backbone):
    def run(*words, out="out", folder=photos):
        return cli("fit", folder, "--out", out, "--backbone", backbone, *words)

    return run


def test_without_a_method_the_best_on_held_out_images_is_trained_on_all(fit, photos):
    answer = fit()
    assert answer.code == 0, answer.err
    assert "24 train, 0 val, 8 test" in answer.out  # none are set aside to choose on
    assert "one of 4, chosen on parts of the training images" in answer.out
    assert "Its accuracy on other images, corrected for its having been chosen on these: " in answer.out
    result, config = read_result("out"), read_config("out")
    choice = result["choice"]
    tried = {score["method"]: score for score in choice["tried"]}
    assert list(tried) == ["zeroshot", "gda", "linear_probe", "coop"]
    assert result["method"] == choice["method"] == config["method"]
    assert tried[choice["method"]]["accuracy"] == max(score["accuracy"] for score in tried.values())
    assert result["train_images"] == choice["images"] == 24
    assert choice["folds"] == len(tried["gda"]["folds"]) == 5
    assert all(score["seconds"] > 0 for score in tried.values())
    low, estimate, high = (choice["estimate"][name] for name in ("low", "estimate", "high"))
    assert low <= estimate <= high
    assert result["flags"]["method_chosen"] == {"among": 4, "folds": 5, "images": 24}
    assert "chosen" not in config


def test_the_chosen_run_is_a_run_like_any_other(cli, fit, photos):
    assert fit().code == 0
    assert verify("out").state == "verified"
    predicted = cli("predict", "out", photos / "snow" / "00.png", "--json")
    assert len(json.loads(predicted.out)) == 1
    evaluated = cli("eval", "out")
    assert evaluated.code == 0, evaluated.err
    assert cli("check", "out").code == 0
    table = cli("table", "out").out
    assert "method chosen by 5-fold cross-validation among 4" in table


def test_the_same_command_finds_it_finished_and_another_is_refused(fit, monkeypatch):
    first = fit()
    again = fit()
    assert again.code == 0, again.err
    assert "It was chosen before, as out/choice.json says" in again.out
    assert "This run was finished before" in again.out
    for line in first.out.splitlines():
        if line.startswith("  gda "):
            assert line in again.out
    other = fit("--time", "1m")
    assert other.code == 2
    assert "holds a choice among other methods, on other data or with another time" in other.err
    assert fit("--time", "1m", "--overwrite").code == 0


def test_what_was_interrupted_after_the_choice_goes_on_with_it(fit, monkeypatch):
    from cliptune.protocols import by_spec

    plain = by_spec.few_shot

    def interrupted(*arguments, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(by_spec, "few_shot", interrupted)
    assert fit().code == 130
    assert Path("out/choice.json").exists()
    monkeypatch.setattr(by_spec, "few_shot", plain)
    monkeypatch.setattr("cliptune.choosing.settled.choose", None)
    answer = fit()
    assert answer.code == 0, answer.err
    assert read_result("out")["choice"]["method"] == read_result("out")["method"]


def test_a_run_that_was_not_chosen_is_not_replaced(fit):
    assert fit("--method", "zeroshot").code == 0
    answer = fit()
    assert answer.code == 2
    assert "holds a run whose method was not chosen by this" in answer.err


def test_a_damaged_choice_is_refused_in_a_sentence(fit):
    fit()
    for content in ("{", "[]", '{"format": 1, "choice": {}}'):
        Path("out/choice.json").write_text(content)
        answer = fit()
        assert answer.code == 2
        assert "Remove it to choose anew" in answer.err


def test_images_that_are_split_keep_their_split(fit, photos, tmp_path):
    layout = tmp_path / "layout"
    shutil.copytree(photos, layout / "train")
    shutil.copytree(photos, layout / "test")
    answer = fit(folder=layout)
    assert answer.code == 0, answer.err
    assert "32 train, 0 val, 32 test" in answer.out
    assert "change nothing" not in answer.err
    assert fit("--val", 0.25, "--test", 0.25, out="b").code == 0
    assert read_result("b")["train_images"] == 16


def test_classes_later_takes_what_can_be_asked_about_others(cli, fit, photos):
    answer = fit("--classes-later")
    assert answer.code == 0, answer.err
    assert "among the methods that can be asked about other classes later" in answer.out
    assert read_result("out")["method"] in ("zeroshot", "gda", "coop")
    assert cli("predict", "out", photos / "snow" / "00.png", "--classes", "ice, sand").code == 0


def test_with_one_image_of_each_class_nothing_is_compared_and_it_is_said(fit):
    answer = fit("--shots", 1)
    assert answer.code == 0, answer.err
    assert "No class of photos has two training images to hold one out, so gda is taken without" in answer.out
    result = read_result("out")
    assert result["method"] == "gda"
    assert "method_chosen" not in result["flags"]
    assert any("gda is taken without a comparison" in note for note in result["notes"])


def test_common_settings_reach_all_that_are_tried(fit):
    assert fit("--set", "template=many colours: {}.", "--precision", "bf16").code == 0
    config = read_config("out")
    assert config["options"]["template"] == "many colours: {}."
    assert config["precision"] == "bf16"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", 2], "fit: epochs cannot be set while the method is chosen"),
        (["--set", "n_ctx=4", "--lr", "0.1"], "fit: n_ctx, lr cannot be set while the method is chosen"),
        (["--select", "val"], "fit: select cannot be set"),
        (["--config", "out/config.yaml"], "fit: what --config holds cannot be set"),
        (["--time", "soon"], "--time: A time is written with its unit, such as 90s, 5m or 1h30m"),
        (["--method", "gda", "--time", "5m"], "--time: it is for choosing a method, and --method names one"),
        (["--method", "gda", "--classes-later"], "--classes-later: it is for choosing a method"),
    ],
)
def test_what_cannot_be_asked_of_a_choice_is_said(fit, words, sentence):
    answer = fit(*words)
    assert answer.code == 2
    assert sentence in answer.err


def test_several_processes_do_not_choose(fit, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = fit()
    assert answer.code == 2
    assert "a method is chosen in one process" in answer.err


def test_a_method_that_loses_is_told_with_the_better_one_and_its_command(cli, fit, photos, backbone):
    answer = fit("--method", "zeroshot", "--seed", 3)
    assert answer.code == 0, answer.err
    assert "Beside it, on the same 8 images (with 95 % intervals):" in answer.out
    lines = answer.out.splitlines()
    assert any(line.startswith("  zeroshot ") for line in lines)
    assert any(line.startswith("  gda ") for line in lines)
    (kept,) = read_result("out")["beside"]
    assert kept["difference"] > 0, "the drawing of colours is easy for a head"
    (command,) = [line.strip() for line in lines if line.strip().startswith("cliptune fit ")]
    assert command == f"cliptune fit {photos} --method gda --backbone {backbone} --seed 3 --out out-gda"
    assert ("gda is better here than zeroshot, by " in answer.out) == (kept["difference_low"] > 0)
    followed = cli(*command.split()[1:])
    assert followed.code == 0, followed.err
    assert f"  gda              {kept['accuracy']:6.2f} %" in followed.out


def test_baselines_are_told_again_of_a_finished_run_and_are_not_trained_again(fit, monkeypatch):
    first = fit("--method", "zeroshot")
    monkeypatch.setattr("cliptune.choosing.baselines.train", None)
    again = fit("--method", "zeroshot")
    assert again.code == 0, again.err
    beside = first.out.partition("Beside it")[2].partition("The run lies")[0]
    assert beside
    assert beside in again.out


def test_a_command_for_a_choice_keeps_its_split(fit):
    answer = fit()
    (command,) = [line for line in answer.out.splitlines() if line.strip().startswith("cliptune fit ")] or [""]
    assert not command or " --val 0 " in command


def test_a_suggested_command_spells_options_as_the_command_does():
    given = {"backbone": "here", "hide_prompts": True, "split-seed": 3, "trust": False, "shots": None}
    line = command_line("photos", given, "gda", Path("out"))
    assert line == "cliptune fit photos --method gda --backbone here --hide-prompts --split-seed 3 --out out"

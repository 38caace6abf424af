from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from cliptune.clip.model import openai_key
from cliptune.protocols import scoring
from tests.cli.conftest import FILED
from tests.conftest import random_clip, without_manifest

DATA = "tinyworld/textures"


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tinyworld with a handful of pictures per class."""
    import cliptune.data.tinyworld.suites as suites

    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=6, val=2, test=2))


@pytest.fixture
def train(cli, backbone):
    def run(out: str, *words: object, method: str = "coop"):
        command = ("train", "--method", method, "--data", DATA, "--backbone", backbone, "--shots", 2, "--out", out)
        if method == "coop":
            command += ("--epochs", 1)
        return cli(*command, *words)

    return run


def test_train_on_base_classes_then_eval_on_new_ones(cli, train):
    answer = train("runs/a", "--classes", "base")
    assert answer.code == 0, answer.err
    assert "Accuracy on the base classes: " in answer.out
    assert "cliptune eval runs/a --classes new" in answer.out
    result = json.loads(Path("runs/a/result.json").read_text())
    assert result["train_images"] == 5 * 2
    assert result["evaluations"]["base"]["n"] == 5 * 2

    new = cli("eval", "runs/a", "--classes", "new", "--json")
    assert new.code == 0, new.err
    assert cli("eval", "runs/a", "--data", DATA, "--classes", "new", "--split", "train").code == 0
    numbers = json.loads(new.out)
    assert numbers["n"] == 5 * 2
    assert set(numbers["per_class"]).isdisjoint(result["evaluations"]["base"]["per_class"])
    assert json.loads(Path("runs/a/result.json").read_text())["evaluations"]["new"]["accuracy"] == numbers["accuracy"]


def test_eval_repeats_the_number_of_training(cli, train):
    train("runs/a")
    before = json.loads(Path("runs/a/result.json").read_text())
    again = json.loads(cli("eval", "runs/a", "--json").out)
    assert again["accuracy"] == before["evaluations"]["test"]["accuracy"]
    assert json.loads(Path("runs/a/result.json").read_text()) == before
    named = cli("eval", "runs/a", "--data", DATA, "--split", "train", "--json")
    assert json.loads(named.out)["n"] == before["train_images"]
    trained_on = json.loads(cli("eval", "runs/a", "--split", "train", "--json").out)
    assert trained_on["n"] == before["train_images"]
    assert json.loads(Path("runs/a/result.json").read_text()) == before


def test_eval_in_another_precision_is_entered_beside_the_runs_own_number(cli, train, photos):
    train("runs/a")
    before = json.loads(Path("runs/a/result.json").read_text())["evaluations"]
    assert cli("eval", "runs/a", "--precision", "bf16").code == 0
    assert cli("eval", "runs/a", "--precision", "bf16", "--data", photos).code == 0
    after = json.loads(Path("runs/a/result.json").read_text())["evaluations"]
    assert list(after) == [*before, "test (bf16)", "photos/test (bf16)"]
    assert after["test"] == before["test"]
    train("runs/b", "--precision", "bf16")
    assert cli("eval", "runs/b").code == 0
    result = json.loads(Path("runs/b/result.json").read_text())
    assert list(result["evaluations"]) == ["test"]
    table = cli("table", "runs/a", "--format", "md").out
    assert "test (bf16)" in table


def test_eval_on_other_data_and_own_folders(cli, train, photos):
    train("runs/a")
    answer = cli("eval", "runs/a", "--data", photos, "--per-class")
    assert answer.code == 0, answer.err
    assert "red fox" in answer.out
    assert "photos/test" in json.loads(Path("runs/a/result.json").read_text())["evaluations"]


@pytest.mark.parametrize("foreign", [False, True])
def test_eval_takes_some_of_the_trained_classes_as_trained(foreign, cli, photos, backbone, tmp_path, monkeypatch):
    cli("fit", photos, "--method", "zeroshot", "--out", "run", "--backbone", backbone)
    shutil.rmtree(photos / "snow")
    if foreign:
        (photos / "green frog").rename(photos / "brown toad")
    seen, measure = [], scoring.evaluate

    def watched(adapter, *arguments, **options):
        seen.append(adapter.seen)
        return measure(adapter, *arguments, **options)

    monkeypatch.setattr(scoring, "evaluate", watched)
    answer = cli("eval", "run", "--data", photos.rename(tmp_path / "others"))
    assert answer.code == 0, answer.err
    assert seen == [not foreign]


def test_eval_warns_if_the_folder_has_changed(cli, photos, backbone):
    cli("fit", photos, "--method", "zeroshot", "--out", "out", "--backbone", backbone)
    (photos / "snow" / "00.png").unlink()
    answer = cli("eval", "out")
    assert answer.code == 0
    assert "may have been trained on" in answer.err


def test_a_published_recipe_is_a_start_that_other_settings_change(train):
    answer = train("runs/a", "--recipe", "few_shot")
    assert answer.code == 0, answer.err
    config = json.loads(Path("runs/a/adapter_config.json").read_text())["config"]
    assert (config["n_ctx"], config["words"], config["epochs"]) == (16, "", 1)
    none = train("runs/b", "--recipe", "base2new", method="linear_probe")
    assert none.code == 2
    assert "no published recipe for 'base2new'" in none.err


def test_table_averages_seeds_and_gives_the_harmonic_mean(cli, train):
    for seed in (1, 2):
        train(f"runs/coop-{seed}", "--classes", "base", "--seed", seed)
        cli("eval", f"runs/coop-{seed}", "--classes", "new")
    train("runs/zeroshot", "--classes", "base", method="zeroshot")
    results = [json.loads(Path(f"runs/coop-{seed}/result.json").read_text()) for seed in (1, 2)]
    base, new = ([r["evaluations"][half]["accuracy"] for r in results] for half in ("base", "new"))
    answer = cli("table", "runs", "--format", "csv")
    assert answer.code == 0, answer.err
    coop, zeroshot = csv.DictReader(io.StringIO(answer.out))
    assert float(coop["base"]) == pytest.approx(statistics.mean(base))
    assert float(coop["base_std"]) == pytest.approx(statistics.pstdev(base))
    b, n = statistics.mean(base), statistics.mean(new)
    assert float(coop["harmonic_mean"]) == pytest.approx(2 * b * n / (b + n) if b * n else 0)
    assert coop["seeds"] == "1 2"
    assert zeroshot["new"] == zeroshot["harmonic_mean"] == ""

    for style, mark in (("md", "| coop |"), ("latex", r"$\pm$"), ("text", "±")):
        assert mark in cli("table", "runs", "--format", style).out


def test_table_across_shots_has_a_column_for_each(cli, backbone):
    grid = ("--methods", "zeroshot", "--data", DATA, "--backbone", backbone, "--shots", "1,2", "--seeds", "1")
    assert cli("bench", "few_shot", *grid, "--out", "runs").code == 0
    answer = cli("table", "runs", "--across", "shots", "--format", "md")
    assert answer.code == 0, answer.err
    assert "| 1 shot | 2 shots |" in answer.out.splitlines()[0]
    refused = cli("table", "runs", "--across", "shots", "--budget")
    assert refused.code == 2
    assert "does not go with --budget" in refused.err


def test_table_against_a_method_shows_paired_differences_in_every_format(cli, train):
    for seed in (1, 2):
        train(f"runs/coop-{seed}", "--seed", seed)
        train(f"runs/vpt-{seed}", "--seed", seed, method="vpt")
    coop, vpt = (
        [json.loads(Path(f"runs/{m}-{s}/result.json").read_text())["evaluations"]["test"] for s in (1, 2)]
        for m in ("coop", "vpt")
    )
    answer = cli("table", "runs", "--against", "coop", "--format", "csv")
    assert answer.code == 0, answer.err
    (line,) = csv.DictReader(io.StringIO(answer.out))
    differences = [b["accuracy"] - a["accuracy"] for a, b in zip(coop, vpt, strict=True)]
    assert float(line["difference"]) == pytest.approx(statistics.mean(differences))
    assert (line["method"], line["against"], line["measure"], line["seeds"]) == ("vpt", "coop", "test", "1 2")
    assert float(line["images_low"]) <= float(line["difference"]) <= float(line["images_high"])
    assert all(set(one["predictions"]) == {"file", "sha256"} for one in (*coop, *vpt))
    for style, mark in (("md", "| vpt |"), ("latex", "vpt &"), ("html", "<td>vpt</td>"), ("text", "told apart")):
        shown = cli("table", "runs", "--against", "coop", "--format", style).out
        assert mark in shown
        assert "coop" in shown
    none = cli("table", "runs", "--against", "maple")
    assert none.code == 2
    assert "there is no row of that method" in none.err


def test_a_budget_is_given_in_steps_or_images_and_tables_show_what_was_taken(cli, train):
    train("runs/epochs")
    train("runs/steps", "--steps", 5)
    line, other = csv.DictReader(io.StringIO(cli("table", "runs", "--format", "csv").out))
    assert {line["method"], other["method"]} == {"coop (steps=none)", "coop (steps=5)"}
    steps = line if "steps=5" in line["method"] else other
    assert (steps["steps"], float(steps["peak_memory_bytes"]) > 2**20) == ("5.0", True)
    assert "steps" not in cli("table", "runs/epochs", "--format", "md").out
    shown = cli("table", "runs/steps", "--format", "md", "--budget").out
    assert "| steps | images seen | time | memory |" in shown
    assert "images seen" in cli("table", "runs/steps", "--format", "html").out
    result = json.loads((without_manifest(Path("runs/steps")) / "result.json").read_text())
    del result["budget"]
    Path("runs/steps/result.json").write_text(json.dumps(result))
    assert "| – | – | – | – |" in cli("table", "runs/steps", "--format", "md", "--budget").out


def test_a_budget_below_an_epoch_or_for_a_solved_head_is_a_sentence(cli, train):
    few = train("runs/few", "--images", 1)
    assert "fewer than the" in few.err
    solved = train("runs/probe", "--steps", 9, method="zeroshot")
    assert "steps=9 has no meaning for zeroshot" in solved.err


def test_table_keeps_what_differs_apart_and_says_what(cli, train):
    train("runs/last")
    train("runs/val", "--select", "val")
    train("runs/longer", "--set", "n_ctx=2")
    out = cli("table", "runs", "--format", "md").out
    assert "coop (n_ctx=4, select=last)" in out
    assert "coop (n_ctx=4, select=val)" in out
    assert "coop (n_ctx=2, select=last)" in out


def test_table_sets_published_numbers_beside_ours_with_their_source(cli, train):
    train("runs/a", method="zeroshot")
    nothing = cli("table", "runs", "--compare", "published")
    assert nothing.code == 0
    assert "No published number is known" in nothing.err
    path = without_manifest(Path("runs/a")) / "result.json"
    result = json.loads(path.read_text())
    result["data"]["name"] = "oxford_pets"
    path.write_text(json.dumps(result))
    config = Path("runs/a/config.yaml")
    made = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**made, "backbone": {**made["backbone"], "name": "ViT-B/16"}}))
    answer = cli("table", "runs", "--compare", "published", "--format", "csv")
    assert answer.code == 0, answer.err
    own, *others = csv.DictReader(io.StringIO(answer.out))
    assert own["source"] == ""
    assert {(other["method"], other["test"], other["tag"]) for other in others} == {
        ("CLIP (published)", "89.1", "recalled")
    }
    shown = cli("table", "runs", "--compare", "published", "--format", "md").out
    assert "| these runs |" in shown
    assert "| CLIP-LoRA arXiv:2405.18541 | recalled |" in shown


def test_table_as_a_page_says_how_the_epoch_was_chosen_and_escapes_names(cli, train):
    train("runs/a", "--select", "oracle")
    path = without_manifest(Path("runs/a")) / "result.json"
    result = json.loads(path.read_text())
    result["data"]["name"] = "<b>&"
    path.write_text(json.dumps(result))
    page = cli("table", "runs", "--format", "html").out
    assert page.startswith("<!doctype html>")
    assert "<td>epoch chosen on test images; made without a manifest, so unverified</td>" in page
    assert "<td>&lt;b&gt;&amp;</td>" in page


def test_what_is_scored_on_other_data_is_a_row_below_its_source(cli, train, photos, tmp_path):
    train("runs/a")
    other = tmp_path / "others"
    photos.rename(other)
    assert cli("eval", "runs/a", "--data", other).code == 0
    note = json.loads(Path("runs/a/result.json").read_text())["targets"]["others/test"]
    assert note["protocols"] == []  # so that averages over a protocol's targets stay as they are
    lines = list(csv.DictReader(io.StringIO(cli("table", "runs", "--format", "csv").out)))
    source = json.loads(Path("runs/a/result.json").read_text())["data"]["name"]
    assert [line["data"] for line in lines] == [source, f"{source} → others"]
    assert rf"{source} $\to$ others" in cli("table", "runs", "--format", "latex").out


def test_a_runs_own_data_by_name_are_its_own_and_changed_ones_leave_its_number_alone(cli, photos, backbone):
    cli("fit", photos, "--method", "zeroshot", "--out", "run", "--backbone", backbone)
    before = json.loads(Path("run/result.json").read_text())["evaluations"]
    assert cli("eval", "run", "--data", photos).code == 0
    assert json.loads(Path("run/result.json").read_text())["evaluations"] == before
    # The same names elsewhere are other pictures: the split's hash knows names alone.
    shutil.copytree(photos, Path("corrupt") / photos.name)
    assert cli("eval", "run", "--data", Path("corrupt") / photos.name).code == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["evaluations"]["test"] == before["test"]
    assert set(result["evaluations"]) - set(before) == {f"{photos.name}/test"}
    before = result["evaluations"]
    next(photos.glob("test/*/*")).unlink() if (photos / "test").exists() else next(photos.glob("*/*")).unlink()
    changed = cli("eval", "run")
    assert "are not those of the run any more" in changed.err
    after = json.loads(Path("run/result.json").read_text())["evaluations"]
    assert next(name for name in after if name not in before).startswith("test (split ")
    assert after["test"] == before["test"]


def test_the_training_images_of_a_run_on_a_fraction_are_those_it_kept(cli, backbone):
    command = ("bench", "data_efficient", "--methods", "zeroshot", "--data", DATA, "--backbone", backbone)
    assert cli(*command, "--fractions", 0.5, "--seeds", 1, "--out", "runs").code == 0
    (result,) = Path("runs").glob("**/result.json")
    kept = json.loads(result.read_text())["train_images"]
    assert kept == 10 * 3
    assert json.loads(cli("eval", result.parent, "--split", "train", "--json").out)["n"] == kept
    shown = cli("table", "runs", "--format", "csv").out
    assert [line["shots"] for line in csv.DictReader(io.StringIO(shown))] == ["50% uniform"]


def test_table_of_another_metric_says_so(cli, train):
    train("runs/a")
    ece = json.loads(Path("runs/a/result.json").read_text())["evaluations"]["test"]["ece"]
    shown = cli("table", "runs", "--format", "md", "--metric", "ece").out
    assert "| test ece |" in shown
    assert f"| {ece:.2f} |" in shown
    mixed = cli("table", "runs", "--metric", "ece", "--compare", "published")
    assert mixed.code == 2
    assert "published numbers are accuracies" in mixed.err


def test_table_refuses_the_same_run_twice(cli, train):
    train("runs/a")
    train("runs/b")
    answer = cli("table", "runs")
    assert answer.code == 2
    assert "runs/a and runs/b are the same run" in answer.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "requires an argument"),
        (["train", "--method", "coop", "--data", "tinyworld"], "is a family: say which one"),
        (["train", "--method", "coop", "--data", "tinyworld/texture"], "Did you mean tinyworld/textures"),
        (["train", "--method", "coop", "--data", DATA, "--classes", "old"], "Invalid value"),
        (["train", "--method", "coop", "--data", DATA, "--recipe", "mine"], "Invalid value"),
        (["train", "--method", "coop+what", "--data", DATA], "no method 'what'"),
        (["eval", "nowhere"], "expected the folder of a finished run"),
        (["eval", "RUN", "--data", "nowhere"], "expected the name of a data set"),
        (["eval", "PROBE", "--classes", "new"], "cannot speak of other classes"),
        (["eval", "RUN", "--backbone", "mini.safetensors"], "no file or folder mini.safetensors"),
        (["table", "nowhere"], "expected a folder with runs in it"),
        (["table", "."], "there is no finished run"),
        (["table", ".", "--format", "pdf"], "Invalid value"),
        (["tabel", "."], 'Did you mean "table"?'),
    ],
)
def test_bad_input_is_one_sentence(cli, train, words, sentence):
    if "RUN" in words:
        train("run", method="zeroshot")
    if "PROBE" in words:
        train("probe", "--classes", "base", method="linear_probe")
    answer = cli(*({"RUN": "run", "PROBE": "probe"}.get(word, word) for word in words))
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_train_with_exact_masks_and_eval(cli, backbone):
    command = ("train", "--method", "maple+dapt", "--data", "tinyworld/objects", "--backbone", backbone, "--shots", 1)
    command += ("--epochs", 1, "--set", "dapt_source=exact", "--set", "depth=2", "--out", "runs/masked")
    answer = cli(*command)
    assert answer.code == 0, answer.err
    result = json.loads(Path("runs/masked/result.json").read_text())
    assert result["flags"]["external_models"] == ["masks: exact"]
    assert cli("eval", "runs/masked").code == 0
    nowhere = cli(*command[:-2], "--set", "dapt_source=nowhere", "--out", "runs/b")
    assert nowhere.code == 2
    assert "Masks: there is no folder nowhere" in nowhere.err


def test_patterns_are_scored_on_another_backbone(cli, train, backbone, tmp_path):
    clip = random_clip(replace(FILED, text_width=128), seed=4)
    other = tmp_path / "b.safetensors"
    save_file({openai_key(key): value.contiguous() for key, value in clip.state_dict().items()}, other)
    assert train("runs/vp", "--epochs", 1, method="vp").code == 0
    known = ("--activation", "quick_gelu", "--json")
    answer = cli("eval", "runs/vp", "--on", other, *known)
    assert answer.code == 0, answer.err
    entered = json.loads(Path("runs/vp/result.json").read_text())["evaluations"]
    (name,) = [name for name in entered if " (on " in name]
    assert entered[name]["accuracy"] == json.loads(answer.out)["accuracy"]
    assert "test" in entered
    assert train("runs/coop").code == 0
    refused = cli("eval", "runs/coop", "--on", other, *known)
    assert refused.code
    assert "does not fit on" in refused.err
    both = cli("eval", "runs/vp", "--on", other, "--backbone", backbone)
    assert "Give one." in both.err

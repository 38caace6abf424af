from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cliptune.cli.commands.bench import GridOptions, ProtocolOptions, _sweep
from cliptune.protocols import by_spec as grids
from cliptune.registry import published_options
from tests.cli.conftest import write_photos
from tests.data.published.miniatures import MINIATURES

METHODS = "zeroshot,coop"


@pytest.fixture
def bench(cli, backbone, photos):
    """A grid on a folder of photographs with a toy CLIP."""

    def run(*words: object, methods: str = METHODS, protocol: str = "base2new", seeds: str = "1,2"):
        return cli(*command(backbone, photos, methods, protocol, seeds), *words)

    return run


def command(backbone, photos, methods=METHODS, protocol="base2new", seeds="1,2") -> tuple[object, ...]:
    words = ("bench", protocol, "--methods", methods, "--data", photos, "--seeds", seeds, "--shots", 2)
    return (*words, "--backbone", backbone, "--set", "epochs=2")


def table_of(out: str) -> str:
    """What is printed between the count of runs and what follows the table."""
    return out.partition("\n")[2].partition("The runs lie")[0].partition(" failed:")[0]


def test_a_grid_ends_with_its_table_and_a_second_call_finds_all_finished(bench):
    first = bench()
    assert first.code == 0, first.err
    assert first.out.startswith("4 runs in runs/bench: base2new, 2 methods.")
    assert "1 of 4: zeroshot on " in first.err
    assert "left" in first.err
    assert all(word in first.out for word in ("coop", "zeroshot", "1,2", "HM"))
    again = bench()
    assert again.code == 0
    assert again.err.count("finished before") == 4
    assert table_of(again.out) == table_of(first.out)


def test_interrupted_twice_and_resumed_it_gives_the_same_table(bench, monkeypatch):
    whole = bench("--out", "whole")
    started = []

    def stop_in_the_middle(*args, _fit=grids.base2new, **kwargs):
        from cliptune.training.progress import Silent

        class Stops(Silent):
            def advance(self, description: str) -> None:
                raise KeyboardInterrupt

        started.append(args[0])
        kwargs["progress"] = Stops() if args[0] == "coop" else "silent"
        return _fit(*args, **kwargs)

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(grids, "base2new", stop_in_the_middle)
            stopped = bench("--out", "broken")
        assert stopped.code == 130
        assert "goes on where it stopped" in stopped.err
    resumed = bench("--out", "broken")
    assert resumed.code == 0, resumed.err
    assert resumed.err.count("finished before") == 2  # zeroshot
    assert started.count("coop") == 2
    assert table_of(resumed.out) == table_of(whole.out)


def test_killed_with_its_worker_and_resumed_it_gives_the_same_table(bench, backbone, photos):
    longer = ("--set", "epochs=25")  # the last word counts
    whole = bench(*longer, "--out", "whole")
    asked = (*command(backbone, photos), *longer, "--out", "killed")
    words = [sys.executable, "-m", "cliptune", *asked, "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([str(word) for word in words], **quiet)
    until = time.monotonic() + 200
    while not list(Path("killed").glob("**/coop*/**/config.yaml")) and time.monotonic() < until:
        time.sleep(0.01)
    still_at_work = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert still_at_work
    time.sleep(0.5)  # the worker ends with its parent and lets go of its folder
    assert len(list(Path("killed").glob("**/zeroshot/**/result.json"))) == 2
    assert not list(Path("killed").glob("**/coop*/**/result.json"))
    resumed = bench(*longer, "--out", "killed")
    assert resumed.code == 0, resumed.err
    assert resumed.err.count("finished before") == 2
    assert table_of(resumed.out) == table_of(whole.out)


def test_two_workers_equal_one_process_and_a_failing_cell_stops_neither(bench):
    too_long = ("--set", "kgcoop:n_ctx=99")
    asked = {"methods": f"{METHODS},kgcoop,tip_adapter", "protocol": "few_shot", "seeds": "1"}
    here = bench("--out", "here", *too_long, **asked)
    there = bench("--out", "there", "--workers", 2, *too_long, **asked)
    for answer in (here, there):
        assert answer.code == 1
        assert "1 run of 4 failed:" in answer.out
        assert "kgcoop on" in answer.out.partition("failed:")[2]
        assert "Traceback" not in answer.err
    assert table_of(here.out) == table_of(there.out)
    assert "tip_adapter" in table_of(there.out)


def test_the_published_recipe_lies_below_what_is_set(bench):
    """With --recipe each method starts from its own published settings; --set goes over them."""
    answer = bench("--recipe", "--set", "coop+dpc:dpc_epochs=1", methods="coop,coop+dpc", seeds="1")
    assert answer.code == 0, answer.err
    configs = {
        config["method"]: config["options"]
        for config in (yaml.safe_load(path.read_text()) for path in Path("runs").glob("**/config.yaml"))
    }
    assert set(configs) == {"coop", "coop+dpc"}
    for method, changed in (("coop", {"epochs": 2}), ("coop+dpc", {"epochs": 2, "dpc_epochs": 1})):
        published = published_options(method, "base2new", 2)
        assert configs[method].items() >= {**published, **changed}.items()
        assert all(published[name] != value for name, value in changed.items())
    assert "finished before" in bench("--recipe", methods="coop", seeds="1").err
    assert "finished before" not in bench(methods="coop", seeds="1").err  # these are other settings


def test_a_damaged_result_is_named_and_costs_the_other_runs_nothing(bench):
    bench(methods="coop,zeroshot", seeds="1")
    damaged = next(Path("runs").glob("**/coop*/**/result.json"))
    damaged.write_text('{"method')
    again = bench("--set", "coop+dpc:dpc_epochs=1", methods="coop,coop+dpc,zeroshot", seeds="1")
    assert again.code == 1
    assert f"{damaged.name} is not readable JSON" in " ".join(again.out.split())
    assert "1 run of 3 failed" in again.out
    damaged.unlink()
    assert bench(methods="coop", seeds="1").code == 0


def test_any_spelling_of_a_data_set_is_the_same_run(cli, backbone, tmp_path):
    MINIATURES["oxford_pets"](tmp_path / "data")
    command = ("bench", "few_shot", "--methods", "zeroshot", "--root", tmp_path / "data", "--backbone", backbone)
    command += ("--seeds", 1, "--shots", 1)
    assert cli(*command, "--data", "pets,OxfordPets,oxford_pets").out.startswith("1 run in")
    assert "finished before" in cli(*command, "--data", "Oxford_Pets").err
    assert len(list(Path("runs").glob("**/result.json"))) == 1


def test_other_settings_get_folders_of_their_own(bench):
    bench(methods="coop", seeds="1")
    bench("--set", "coop:n_ctx=2", methods="coop", seeds="1")
    again = bench("--set", "n_ctx=2", methods="coop", seeds="1")
    assert "finished before" in again.err
    assert len(list(Path("runs/bench").glob("**/result.json"))) == 2


@pytest.fixture
def elsewhere(tmp_path, photos):
    """The same classes in other pictures, and two classes of their own."""
    sketches = write_photos(tmp_path / "sketches", 4)
    cars = write_photos(tmp_path / "cars", 4)
    for old, new in (("snow", "old van"), ("red_fox", "red truck")):
        (cars / old).rename(cars / new)
    return sketches, cars


def test_transfer_trains_the_source_once_for_all_its_targets(bench, elsewhere):
    sketches, cars = elsewhere
    few = bench(protocol="few_shot")
    both = bench("--targets", f"{sketches},{cars}", protocol="cross")
    shifted = bench("--targets", sketches, protocol="domains")
    for answer in (few, both, shifted):
        assert answer.code == 0, answer.err
    assert len(list(Path("runs/bench").glob("**/result.json"))) == 4
    again = bench("--targets", sketches, protocol="domains")
    assert again.err.count("finished before") == 4
    assert "to 1 targets" not in again.err
    wrong = bench("--targets", cars, protocol="domains")
    assert wrong.code == 1
    assert "cars has 2 classes that photos has not" in wrong.out


def test_the_published_recipe_is_that_of_the_shots_the_data_and_the_backbone():
    grid = GridOptions(methods="coop", data="dtd,ImageNet", shots="1,16", seeds="1", recipe=True, set=["n_ctx=3"])
    runs = _sweep("few_shot", grid, ProtocolOptions(), {}, {}).runs()
    assert [spec.options["epochs"] for spec in runs] == [50, 200, 50, 50]
    assert {(spec.options["n_ctx"], spec.options["words"]) for spec in runs} == {(3, "")}


def test_a_share_of_the_training_set_is_a_side_of_the_grid(bench, backbone, photos):
    words = ("--fractions", "0.5,1", "--selections", "uniform,margin", "--selector", "coop")
    answer = bench(*words, protocol="data_efficient", methods="coop", seeds="1")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("4 runs in runs/bench: data_efficient")
    assert "50% by margin" in answer.err
    assert all(f" {share} " in answer.out for share in ("50% uniform", "50% margin", "100% uniform"))
    kept = {json.loads(path.read_text())["train_images"] for path in Path("runs/bench").glob("**/result.json")}
    assert len(kept) == 2
    assert bench(*words, protocol="data_efficient", methods="coop", seeds="1").err.count("finished before") == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["base2old", "--methods", "coop", "--data", "x"], "Invalid value"),
        (["base2new", "--methods", "coop,kopp", "--data", "x"], "no method 'kopp'"),
        (["base2new", "--methods", "coop", "--data", "x", "--seeds", "one"], "--seeds: expected whole numbers"),
        (["base2new", "--methods", "coop", "--data", ","], "there are no data"),
        (["base2new", "--methods", "zeroshot,coop", "--data", "x", "--set", "n_ctxx=4"], "Did you mean n_ctx"),
        (["base2new", "--methods", "coop", "--data", "x", "--set", "maple:depth=4"], "is not among the methods coop"),
        (["base2new", "--methods", "coop", "--data", "x", "--workers", "-1"], "workers must be at least 0"),
        (["base2new", "--methods", "coop", "--data", "x", "--address", "head:6379"], "Add --engine ray"),
        (
            ["base2new", "--methods", "coop", "--data", "x", "--engine", "ray", "--cpus-per-run", "0"],
            "cpus_per_run must be a part of one, or a whole number",
        ),
        (
            ["base2new", "--methods", "coop", "--data", "x", "--engine", "ray", "--workers", "2"],
            "the cluster decides how many runs are made side by side",
        ),
        (["few_shot", "--methods", "coop", "--data", "x", "--targets", "y"], "--targets: few_shot has none"),
        (["few_shot", "--methods", "coop", "--data", "x", "--fractions", "0.5"], "few_shot has no use for it"),
        (["few_shot", "--methods", "coop", "--data", "x", "--gpus-per-run", "0.5"], "only --engine ray has a use"),
        (["cross", "--methods", "coop", "--data", "x"], "no targets are usual for the source 'x'"),
        (["cross", "--methods", "coop", "--data", "x", "--targets", ","], "there are no targets"),
        (
            ["data_efficient", "--methods", "coop", "--data", "x", "--fractions", "half"],
            "--fractions: expected numbers",
        ),
        (["data_efficient", "--methods", "coop", "--data", "x", "--fractions", "2"], "at most 1, got 2"),
        (["data_efficient", "--methods", "coop", "--data", "x", "--selections", "best"], "selection must be one of"),
        (["data_efficient", "--methods", "coop", "--data", "x", "--selections", "forgetting"], "at least 2, got 0"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_runs(cli, backbone, words, sentence):
    answer = cli("bench", *words, "--backbone", backbone)
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert not Path("runs").exists()


def test_data_that_is_not_there_is_a_failure_among_others(cli, backbone, photos):
    words = command(backbone, f"nowhere,{photos}", "zeroshot", "few_shot", "1")
    answer = cli(*words[: words.index("--set")])  # zeroshot has no epochs to set
    assert answer.code == 1
    assert "zeroshot on nowhere, 2 shots, seed 1: Data 'nowhere'" in answer.out
    assert table_of(answer.out).count("zeroshot") == 1


def test_a_budget_holds_for_all_methods_and_is_noted_for_solved_heads(bench):
    answer = bench("--steps", 3, protocol="few_shot", methods="zeroshot,coop", seeds="1")
    assert answer.code == 0, answer.err
    assert "--steps 3 has no meaning for zeroshot" in answer.err
    results = [json.loads(path.read_text()) for path in Path("runs/bench").rglob("result.json")]
    assert {result["method"]: result["budget"]["steps"] for result in results} == {"zeroshot": 0, "coop": 3}
    again = bench("--steps", 3, protocol="few_shot", methods="zeroshot,coop", seeds="1")
    assert again.err.count("finished before") == 2
    other = bench("--steps", 4, protocol="few_shot", methods="zeroshot,coop", seeds="1")
    assert other.err.count("finished before") == 1  # the solved head's
    both = bench("--steps", 3, "--images", 9)
    assert both.code == 2
    assert "a budget is one or the other" in both.err


def test_options_are_tuned_on_seeds_that_are_not_reported(bench, cli):
    words = ("--tune", "lr=0.001,0.01,1e-2", "--tune-seeds", "101,102")
    answer = bench(*words, seeds="1,2")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("4 runs to choose options by, on seeds 101, 102.")
    assert "2 tried)" in answer.out
    shown = cli("table", "runs/bench", "--format", "csv")
    assert shown.out.count("lr tuned on seeds 101, 102 (validation images)") == 1  # zeroshot has no such option
    assert "val" not in shown.out.partition("\n")[0].split(",")
    tuned = [path for path in Path("runs/bench").rglob("result.json") if "tuning" not in path.parts]
    flags = [json.loads(path.read_text())["flags"].get("tuned") for path in tuned]
    assert sum(flag is not None for flag in flags) == 2
    again = bench(*words, seeds="1,2")
    assert again.err.count("finished before") == 4 + 4
    assert table_of(again.out).partition("HM")[2] == table_of(answer.out).partition("HM")[2]


def test_a_student_is_tuned_with_a_teacher_of_its_own_seed(bench):
    words = ("--set", "promptkd:teacher=coop", "--tune", "temperature=1,2", "--tune-seeds", "101,102")
    answer = bench(*words, methods="coop,promptkd", seeds="1")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("6 runs to choose options by")  # two teachers, two students of each
    assert "2 tried)" in answer.out
    alone = bench(*words, "--out", "alone", methods="promptkd", seeds="1")
    assert alone.code == 2
    assert "neither in this grid nor finished" in alone.err
    assert not Path("alone").exists()  # nothing was trained before it was refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tune", "lr=0.1", "--tune-seeds", "2"), "on seeds that are not reported, but 2 would be both"),
        (("--tune", "lr"), "--tune: expected name=value,value"),
        (("--tune", "n_layers=1"), "--tune n_layers: none of the methods zeroshot, coop has such an option"),
        (("--tune", "lr=fast"), "Option lr: expected a number"),
        (("--tune-seeds", "101"), "--tune-seeds 101: it is for --tune"),
    ],
)
def test_a_search_that_cannot_be_is_a_sentence(bench, words, sentence):
    answer = bench(*words)
    assert answer.code == 2
    assert sentence in answer.err

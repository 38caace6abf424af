"""Budgets of steps and images in place of epochs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from cliptune.data.items import Split
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.protocols import few_shot
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.registry import build
from cliptune.runs import RunSpec, read_config, read_metrics, read_result
from cliptune.training import fit, learning_rate
from cliptune.training.budget import within_budget
from cliptune.training.memory import PeakMemory
from tests.training.support import NAMES, recipe, squares
from tests.training.test_fit import StopAfter, same, timeless

N = 18  # training images; batches of 4 make 4 steps of an epoch, and 2 images are dropped


def made(*stages: Stage) -> Recipe:
    return Recipe(adapter=None, stages=list(stages), method="made")  # type: ignore[arg-type]


def stage(epochs: int, batch_size: int = 4, **more) -> Stage:
    optimiser = more.pop("optimiser", OptimiserConfig(lr=0.1))
    return Stage(WeightedLoss(cross_entropy), epochs, batch_size, optimiser, **more)


@pytest.mark.parametrize("method", ["coop", "maple", "promptsrc", "vp"])
def test_a_budget_of_whole_epochs_is_that_many_epochs_bit_for_bit(tiny_clip, method):
    per_epoch = 5 if method == "vp" else 4  # which keeps its last batch
    epochs = fit(recipe(tiny_clip, method, epochs=5), squares(), progress="silent")
    steps = fit(recipe(tiny_clip, method, epochs=2), squares(), progress="silent", steps=5 * per_epoch)
    same(steps.adapter.learnables(), epochs.adapter.learnables())
    seen = 5 * (N if method == "vp" else 16)
    images = fit(recipe(tiny_clip, method, epochs=2), squares(), progress="silent", images=seen)
    same(images.adapter.learnables(), epochs.adapter.learnables())
    for run in (epochs, steps, images):
        assert (run.result["budget"]["steps"], run.result["budget"]["images"]) == (5 * per_epoch, seen)


def test_a_last_epoch_ends_early_and_the_cosine_with_it(tiny_clip, tmp_path):
    run = fit(recipe(tiny_clip, lr=0.1), squares(), tmp_path, progress="silent", steps=10)
    assert (run.result["budget"]["steps"], run.result["budget"]["images"]) == (10, 40)
    rates = [line["lr"] for line in read_metrics(tmp_path)]
    expected = [1e-5, *(0.05 * (1 + math.cos(math.pi * (epoch - 1) / 2.5)) for epoch in (1, 2))]
    assert rates == pytest.approx(expected)
    assert read_config(tmp_path)["stages"][0]["epochs"] == 3
    assert read_config(tmp_path)["stages"][0]["steps"] == read_config(tmp_path)["steps"] == 10


def test_rates_per_step_run_over_the_broken_number_of_epochs():
    config = OptimiserConfig(lr=1.0, per="step", warmup_epochs=0)
    rates = [learning_rate(config, step // 4, 2.5, step % 4, 4) for step in range(10)]
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])


@pytest.mark.parametrize("broken", [1, 5, 7, 9])
def test_a_run_with_a_budget_resumes_bit_for_bit(tiny_clip, tmp_path, broken):
    data, asked = squares(), {"steps": 10, "select": "val", "save_every": 0}
    whole = fit(recipe(tiny_clip, "promptsrc"), data, tmp_path / "whole", progress="silent", **asked)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip, "promptsrc"), data, tmp_path / "run", progress=StopAfter(broken), **asked)
    run = fit(recipe(tiny_clip, "promptsrc"), data, tmp_path / "run", progress="silent", **asked)
    same(run.adapter.learnables(), whole.adapter.learnables())
    assert timeless(run.metrics) == timeless(whole.metrics)
    counted = ("steps", "images")
    assert [run.result["budget"][name] for name in counted] == [10, 40]
    assert [whole.result["budget"][name] for name in counted] == [10, 40]


def test_workers_and_images_without_embeddings_end_where_the_budget_does(tiny_clip):
    plain = fit(recipe(tiny_clip, "vpt"), squares(), progress="silent", steps=6)
    workers = fit(recipe(tiny_clip, "vpt"), squares(), progress="silent", steps=6, workers=2)
    same(workers.adapter.learnables(), plain.adapter.learnables())


def test_stages_share_a_budget_in_proportion_to_their_epochs():
    observing = Stage(None, 1, 4, None, name="observe")
    found = within_budget(made(observing, stage(20), stage(10, 8)), N, steps=100).stages
    assert found[0] is observing
    assert [(s.steps, s.epochs) for s in found[1:]] == [(67, 17), (33, 17)]
    assert sum(s.steps for s in found[1:]) == 100
    by_images = within_budget(made(stage(20), stage(10, 8)), N, images=300).stages
    assert [s.steps for s in by_images] == [50, 12]  # 200 images in batches of 4, 100 in batches of 8


@pytest.mark.parametrize(
    ("n", "keep_last", "images", "steps"),
    [
        (18, False, 16, 4),
        (18, False, 19, 4),  # three more fill no batch
        (18, False, 20, 5),
        (18, True, 36, 10),
        (18, True, 35, 9),  # the last batch of the second epoch has two
        (3, False, 10, 3),  # the only batch
    ],
)
def test_steps_see_no_more_images_than_the_budget_has(n, keep_last, images, steps):
    (found,) = within_budget(made(stage(5, keep_last=keep_last)), n, images=images).stages
    assert found.steps == steps


def test_a_horizon_stays_as_far_behind_the_end():
    (found,) = within_budget(made(stage(4, optimiser=OptimiserConfig(lr=1.0, horizon=5))), N, steps=10).stages
    assert found.optimiser.horizon == 3.5


@pytest.mark.parametrize(
    ("stages", "budget", "sentence"),
    [
        ([stage(5)], {"steps": 3}, r"would get 3 optimiser steps, fewer than the 4 batches .* Give steps=4 or more"),
        ([stage(9), stage(1)], {"steps": 30}, r"would get 3 optimiser steps.* Give steps=40 or more"),
        ([stage(5)], {"images": 15}, r"would get 3 optimiser steps.* Give images=16 or more"),
        ([stage(5)], {"steps": -1}, "fewer than the 4 batches"),
        ([stage(5)], {"steps": 8, "images": 40}, "either steps or images"),
        ([Stage(None, 1, 4, None)], {"steps": 8}, "has no meaning for made: it takes no optimiser steps"),
    ],
)
def test_budgets_that_cannot_be_are_sentences(stages, budget, sentence):
    with pytest.raises(ValueError, match=sentence):
        within_budget(made(*stages), N, **budget)


@pytest.mark.parametrize("method", ["zeroshot", "linear_probe", "tip_adapter", "zs_probe"])
def test_solved_heads_refuse_a_budget(tiny_clip, method):
    with pytest.raises(ValueError, match=f"steps=8 has no meaning for {method}"):
        fit(build(method, tiny_clip, NAMES), squares(), steps=8)


def test_only_runs_with_a_budget_write_it_down(tiny_clip, tmp_path):
    few = {"shots": 4, "options": {"epochs": 1, "batch_size": 4}}
    few_shot("coop", tiny_clip, squares(), out=tmp_path / "old", **few)
    few_shot("coop", tiny_clip, squares(), out=tmp_path / "new", steps=5, **few)
    assert not {"steps", "images"} & set(read_config(tmp_path / "old"))
    assert "steps" not in read_config(tmp_path / "old")["stages"][0]
    old, new = (RunSpec.read(tmp_path / name) for name in ("old", "new"))
    assert "steps" not in old.training
    assert new.training["steps"] == 5
    assert old.folder_below(tmp_path) != new.folder_below(tmp_path)
    assert new.folder_below(tmp_path) == replace(old, training=new.training).folder_below(tmp_path)


def test_a_run_says_what_it_took(tiny_clip, tmp_path):
    result = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent").result
    spent = read_result(tmp_path)["budget"]
    assert spent == result["budget"]
    assert spent["seconds"] == result["seconds"]
    assert spent["peak_memory_bytes"]["resident"] > 2**20
    assert "cuda" not in spent["peak_memory_bytes"]
    probe = fit(build("linear_probe", tiny_clip, NAMES), squares(), progress="silent").result
    assert (probe["budget"]["steps"], probe["budget"]["images"]) == (0, N)


def test_a_state_of_an_earlier_version_is_not_counted(tiny_clip, tmp_path):
    from cliptune.runs.folder import RunFolder
    from cliptune.training.state import restore_adapter

    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip), squares(), tmp_path, progress=StopAfter(5), save_every=0)
    tensors, values = RunFolder.load_state(_at(tmp_path))
    for name in ("steps_taken", "images_seen", "counted", "peak_memory"):
        del values["position"][name]
    RunFolder.save_state(_at(tmp_path), tensors, values)
    assert not restore_adapter(recipe(tiny_clip).adapter, tensors, values).counted
    assert "budget" not in fit(recipe(tiny_clip), squares(), tmp_path, progress="silent").result


def _at(path):
    folder = object.__new__(__import__("cliptune.runs.folder", fromlist=["RunFolder"]).RunFolder)
    folder.path, folder._lock = path, None
    return folder


def test_a_run_that_goes_on_counts_its_hosts_steps(tiny_clip, tmp_path):
    host = fit(recipe(tiny_clip, "coop"), squares(), tmp_path / "coop", progress="silent").result
    options = {"dpc_epochs": 1, "dpc_batch_size": 4}
    run = fit(
        recipe(tiny_clip, "coop+dpc", **options), squares(), continues=tmp_path / "coop", progress="silent"
    ).result
    own = fit(recipe(tiny_clip, "coop+dpc", **options), squares(), progress="silent").result
    assert run["budget"]["steps"] == own["budget"]["steps"] == host["budget"]["steps"] + 4
    assert run["budget"]["images"] == own["budget"]["images"]


def test_memory_that_is_held_is_seen():
    watch = PeakMemory(torch.device("cpu"))
    before = watch.bytes()["resident"]
    held = torch.ones(64 * 2**20)  # 256 MiB, written
    del held
    assert watch.bytes()["resident"] >= before
    assert watch.bytes()["resident"] >= 256 * 2**20


@pytest.mark.parametrize(
    ("method", "options", "views", "flags"),
    [
        ("coop", {"epochs": 1}, 2, {"augmentation": True, "views": 2}),
        ("linear_probe", {}, None, {"augmentation": False, "views": None}),
        ("zeroshot", {}, None, {"augmentation": None, "views": None}),
    ],
)
def test_flags_say_what_was_done_with_the_images(tiny_clip, method, options, views, flags):
    result = fit(build(method, tiny_clip, NAMES, **options), squares(), progress="silent", views=views).result
    assert {name: result["flags"][name] for name in flags} == flags
    assert json.dumps(result["flags"])


def test_an_empty_split_is_still_a_sentence(tiny_clip):
    with pytest.raises(ValueError, match="no training images"):
        fit(recipe(tiny_clip), replace(squares(), train=Split.empty()), steps=8)

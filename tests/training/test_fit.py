import dataclasses
import sys

import pytest
import torch

from cliptune.data.items import Dataset
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss
from cliptune.recipe import OptimiserConfig, Stage
from cliptune.registry import build
from cliptune.runs import read_result
from cliptune.training import TrainingDiverged, evaluate, fit
from tests.training.support import NAMES, recipe, squares


class StopAfter:
    """A progress that raises after some steps, as a crash would."""

    def __init__(self, steps: int):
        self.left = steps

    def start(self, total, done):
        self.total, self.done = total, done

    def advance(self, description):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def say(self, line, minor=False):
        pass

    def close(self):
        pass


def same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def timeless(metrics):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in metrics]


class Averaging:
    """A hook with a state: the running sum of a learnable, taken over at the end."""

    def __init__(self):
        self.sum, self.count = None, 0

    def __call__(self, adapter, epoch, epochs):
        value = next(iter(adapter.trainable().values()))
        self.sum = value.detach().clone() if self.sum is None else self.sum + value.detach()
        self.count += 1
        if epoch + 1 == epochs:
            value.data.copy_(self.sum / self.count)

    def state_dict(self):
        return {"sum": self.sum, "count": self.count}

    def load_state_dict(self, state):
        self.sum, self.count = state["sum"], state["count"]


def noisy(out, batch, progress):
    """A loss with dropout, so that a step depends on the random state."""
    logits = torch.nn.functional.dropout(out.logits, 0.3)
    loss = torch.nn.functional.cross_entropy(logits, batch.labels)
    return loss, {"ce": loss, "progress": torch.tensor(progress)}


def two_stages(clip):
    r = recipe(clip, "coop", epochs=2)
    second = Stage(
        WeightedLoss(noisy),
        3,
        5,
        OptimiserConfig(lr=0.02, name="adamw", per="step"),
        "second",
        after_epoch=(Averaging(),),
    )
    r.stages.append(second)
    return r


@pytest.mark.parametrize("steps", [1, 4, 7, 8, 12, 17])
def test_resumed_run_equals_an_uninterrupted_one(tiny_clip, tmp_path, steps):
    data, options = squares(), {"select": "val", "save_every": 0.0}
    whole = fit(two_stages(tiny_clip), data, tmp_path / "whole", progress="silent", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(two_stages(tiny_clip), data, tmp_path / "cut", progress=StopAfter(steps), **options)
    cut = fit(two_stages(tiny_clip), data, tmp_path / "cut", progress="silent", **options)

    same(cut.adapter.learnables(), whole.adapter.learnables())
    weights = "adapter_model.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert timeless(cut.metrics) == timeless(whole.metrics)
    assert cut.result["selected"] == whole.result["selected"]


class CountingHead(MeanHead):
    """Weighs classes by what an epoch's steps counted, as heads that count do; the counts are in no checkpoint."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(3))
        self.register_buffer("votes", torch.zeros(3), persistent=False)

    def forward(self, similarity, texts, image_embedding):
        return super().forward(similarity, texts, image_embedding) * self.weight

    def observe(self, out, labels, split="train"):
        assert not out.logits.requires_grad
        self.votes += torch.bincount(out.logits.argmax(-1), minlength=3)

    def refit(self):
        self.weight.copy_(1 + self.votes / self.votes.sum())
        self.votes.zero_()


@pytest.mark.parametrize("steps", [2, 4, 6])
def test_a_heads_counts_are_resumed_within_an_epoch(tiny_clip, tmp_path, steps):
    def counting():
        r = recipe(tiny_clip)
        r.adapter.head = CountingHead()
        return r

    whole = fit(counting(), squares(), progress="silent").adapter.learnables()
    assert not torch.equal(whole["head.weight"], torch.ones(3))
    with pytest.raises(KeyboardInterrupt):
        fit(counting(), squares(), tmp_path, progress=StopAfter(steps), save_every=0)
    same(fit(counting(), squares(), tmp_path, progress="silent").adapter.learnables(), whole)


def test_resuming_without_mid_epoch_states_goes_back_to_the_last_epoch(tiny_clip, tmp_path):
    data = squares()
    whole = fit(recipe(tiny_clip), data, progress="silent")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip), data, tmp_path, progress=StopAfter(6))
    shown = StopAfter(10**6)
    cut = fit(recipe(tiny_clip), data, tmp_path, progress=shown)
    assert (shown.total, shown.done) == (12, 4)
    same(cut.adapter.learnables(), whole.adapter.learnables())


def test_same_seed_same_numbers_and_the_callers_generator_is_untouched(tiny_clip):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fit(two_stages(tiny_clip), squares(), seed=2, progress="silent").adapter.learnables()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(99)
    same(fit(two_stages(tiny_clip), squares(), seed=2, progress="silent").adapter.learnables(), first)
    other = fit(two_stages(tiny_clip), squares(), seed=3, progress="silent").adapter.learnables()
    assert any(not torch.equal(other[name], value) for name, value in first.items())


def test_workers_change_nothing(tiny_clip):
    r = fit(recipe(tiny_clip), squares(), progress="silent", workers=2)
    same(r.adapter.learnables(), fit(recipe(tiny_clip), squares(), progress="silent").adapter.learnables())


@pytest.mark.parametrize("pieces", [2, 3, 7])
def test_accumulated_pieces_give_the_whole_batchs_gradient(tiny_clip, pieces):
    options = {"batch_size": 7, "epochs": 2, "lr": 0.02}
    whole = fit(recipe(tiny_clip, "maple", **options), squares(), progress="silent")
    cut = fit(recipe(tiny_clip, "maple", **options), squares(), progress="silent", accumulate=pieces)
    for name, value in cut.adapter.learnables().items():
        assert torch.allclose(value, whole.adapter.learnables()[name], atol=2e-5), name
    assert cut.adapter.learnables().keys() == whole.adapter.learnables().keys()


def test_first_epochs_follow_the_plain_loop(tiny_clip):
    """CoOp's loop written out: SGD at the schedule's rates over the loader's batches."""
    from cliptune.data.loader import batches
    from cliptune.data.transforms import mixed, train_transform
    from cliptune.training import learning_rate

    data = squares()
    trained = fit(recipe(tiny_clip), data, progress="silent", seed=4).adapter
    plain = recipe(tiny_clip)
    adapter, config = plain.adapter, plain.stages[0].optimiser
    adapter.train()
    optimiser = torch.optim.SGD(adapter.trainable().values(), 1.0, 0.9, weight_decay=5e-4)
    for epoch in range(3):
        optimiser.param_groups[0]["lr"] = learning_rate(config, epoch, 3)
        seen = batches(data.train, train_transform(32), 4, shuffle=True, seed=mixed(4, 0), epoch=epoch)
        for batch in seen:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(adapter(batch).logits, batch.labels).backward()
            optimiser.step()
    same(trained.learnables(), adapter.learnables())


def test_metrics_hold_a_line_per_epoch(tiny_clip, tmp_path):
    run = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", select="val")
    assert [(line["stage"], line["epoch"]) for line in run.metrics] == [("train", e) for e in (1, 2, 3)]
    for line in run.metrics:
        assert {"lr", "loss", "parts", "train_accuracy", "val_accuracy", "seconds"} <= line.keys()
        assert line["loss"] == pytest.approx(line["parts"]["ce"])


def test_validation_selects_the_first_best_epoch(tiny_clip, tmp_path):
    data = squares()
    kept = []
    r = recipe(tiny_clip, epochs=6, lr=0.4)
    r.stages[0] = dataclasses.replace(
        r.stages[0], after_epoch=(lambda adapter, epoch, epochs: kept.append(adapter.learnables()),)
    )
    run = fit(r, data, tmp_path, select="val", progress="silent")
    scores = [line["val_accuracy"] for line in run.metrics]
    best = scores.index(max(scores))
    same(run.adapter.learnables(), kept[best])
    assert run.result["selected"] == [{"stage": "train", "epoch": best + 1, "accuracy": max(scores)}]
    assert run.result["flags"]["selection"] == "val"
    assert evaluate(run.adapter, data.val).accuracy == max(scores)


def test_selection_on_test_images_is_labelled(tiny_clip):
    run = fit(recipe(tiny_clip), squares(), select="oracle", progress="silent")
    assert run.result["flags"]["selection"] == "oracle"
    data, (selected,) = squares(), run.result["selected"]
    assert selected["accuracy"] == evaluate(run.adapter, data.test).accuracy
    last = fit(recipe(tiny_clip), data, progress="silent").adapter
    assert selected["accuracy"] >= evaluate(last, data.test).accuracy


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"val": None}, {"select": "val"}, "squares has none"),
        ({"val": "test"}, {"select": "val"}, "would choose the epoch on test images"),
        ({"train": None}, {}, "has no training images"),
        ({"test": None}, {"select": "oracle"}, "has none"),
        ({}, {"select": "best"}, "select must be one of last, val, oracle, got 'best'"),
        ({}, {"accumulate": 0}, "accumulate must be at least 1"),
        ({}, {"cache_features": "always"}, "cache_features must be 'auto' or False"),
        ({}, {"views": 0}, "views must be at least 1"),
        ({}, {"views": 2, "cache_features": False}, "Drop one"),
    ],
)
def test_what_cannot_work_is_refused(tiny_clip, change, options, sentence):
    data = squares()
    empty = type(data.val).empty()
    for name, value in change.items():
        data = dataclasses.replace(data, **{name: empty if value is None else data[value]})
    with pytest.raises(ValueError, match=sentence):
        fit(recipe(tiny_clip), data, progress="silent", **options)


def test_other_classes_than_the_recipes_are_refused(tiny_clip):
    data = squares()
    other = Dataset("other", ("a", "b", "c"), data.train, data.val, data.test)
    with pytest.raises(ValueError, match="Build it with the data's class_names"):
        fit(recipe(tiny_clip), other, progress="silent")


def test_a_stage_that_only_observes_sees_its_splits_once_in_order(tiny_clip):
    r = build("linear_probe", tiny_clip, NAMES)
    seen = []
    observe = r.adapter.head.observe
    r.adapter.head.observe = lambda out, labels, split="train": (
        seen.append((split, labels.tolist())),
        observe(out, labels, split),
    )
    data = squares()
    run = fit(r, data, progress="silent")
    assert seen == [("train", data.train.labels.tolist()), ("val", data.val.labels.tolist())]
    assert evaluate(run.adapter, data.test).accuracy == 100


def test_a_stage_that_only_observes_skips_an_absent_split(tiny_clip):
    data = squares({"train": 4, "test": 2})
    assert evaluate(fit(build("linear_probe", tiny_clip, NAMES), data, progress="silent").adapter, data.test).n == 6


def test_a_method_without_stages_runs(tiny_clip, tmp_path):
    run = fit(recipe(tiny_clip, "zeroshot"), squares(), tmp_path, progress="silent")
    assert run.result["learnables"] == 0
    assert (tmp_path / "result.json").exists()


def test_a_loss_that_is_no_number_stops_with_a_sentence_and_keeps_the_last_state(tiny_clip, tmp_path):
    def explode(out, batch, progress):
        loss = out.logits.mean() * (float("nan") if progress > 0.5 else 1.0)
        return loss, {}

    def broken():
        r = recipe(tiny_clip)
        r.stages[0].objective = WeightedLoss(explode)
        return r

    with pytest.raises(TrainingDiverged, match=r"epoch 3 of 3, step 1, at learning rate 0\.0\d+.*lower learning rate"):
        fit(broken(), squares(), tmp_path, progress="silent", save_every=0)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert "Stopped: " in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "result.json").exists()


def test_a_learnable_that_overflows_is_never_saved(tiny_clip, tmp_path):
    from cliptune.runs.folder import RunFolder

    with pytest.raises(TrainingDiverged):
        fit(recipe(tiny_clip, lr=1e38), squares(), tmp_path, progress="silent", save_every=0)
    tensors, _ = RunFolder.load_state(type("Folder", (), {"path": tmp_path})())
    assert all(value.isfinite().all() for name, value in tensors.items() if name.startswith("learnables/"))


def test_clip_is_left_as_it_was(tiny_clip):
    before = {name: p.clone() for name, p in tiny_clip.state_dict().items()}
    fit(recipe(tiny_clip, "maple"), squares(), progress="silent", precision="bf16")
    for name, value in tiny_clip.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in tiny_clip.parameters())


@pytest.mark.parametrize(
    ("method", "options", "symbols"),
    [
        ("linear_probe", {}, ["C"]),
        ("tip_adapter", {}, ["α", "β"]),
        ("tip_adapter_f", {"epochs": 1}, ["α", "β"]),
        ("gda", {"search": True}, ["α"]),
    ],
)
def test_a_result_says_what_was_chosen_on_how_many_validation_images(tiny_clip, tmp_path, method, options, symbols):
    data, lines = squares(), []
    run = fit(build(method, tiny_clip, NAMES, **options), data, tmp_path, progress="silent", log=lines.append)
    flag = read_result(tmp_path)["flags"]["validation_images"]
    assert flag["images"] == len(data.val) == 9
    assert list(flag["chose"]) == symbols
    assert flag == run.result["flags"]["validation_images"]
    assert any(f"chose {symbols[0]} = " in line and line.endswith("on 9 validation images") for line in lines)


@pytest.mark.parametrize("method", ["linear_probe", "tip_adapter", "tip_adapter_f"])
def test_without_validation_images_a_result_says_that_none_were_used(tiny_clip, method):
    lines, options = [], {"epochs": 1} if method == "tip_adapter_f" else {}
    data = squares({"train": 4, "test": 2})
    run = fit(build(method, tiny_clip, NAMES, **options), data, progress="silent", log=lines.append)
    assert run.result["flags"]["validation_images"] == {"images": 0}
    assert sum("there are no validation images to choose on" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("linear_probe", {"c": 1.0}),
        ("tip_adapter", {"search": False}),
        ("tip_adapter_f", {"search": False, "epochs": 1}),
    ],
)
def test_a_head_that_does_not_search_has_no_flag(tiny_clip, method, options):
    run = fit(build(method, tiny_clip, NAMES, **options), squares(), progress="silent")
    assert "validation_images" not in run.result["flags"]


def test_what_was_chosen_outlives_an_interruption(tiny_clip, tmp_path, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[fit.__module__], "_result", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(build("linear_probe", tiny_clip, NAMES), squares(), tmp_path, progress="silent")
    run = fit(build("linear_probe", tiny_clip, NAMES), squares(), tmp_path, progress="silent")
    assert run.result["flags"]["validation_images"]["images"] == 9

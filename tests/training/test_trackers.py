import sys
import types

import pytest

from cliptune.training import fit
from tests.training.support import recipe, squares
from tests.training.test_fit import StopAfter


class Recorder:
    def __init__(self):
        self.seen, self.closed = [], False

    def log(self, values, step):
        self.seen.append((step, values))

    def close(self):
        self.closed = True


def test_a_tracker_sees_the_numbers_of_every_epoch_once(tiny_clip, tmp_path):
    first, second = Recorder(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip), squares(), tmp_path, progress=StopAfter(10), trackers=[first])
    run = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", trackers=[second])
    assert [step for step, _ in first.seen + second.seen] == [1, 2, 3]
    assert second.seen[-1][1]["train/loss"] == run.metrics[-1]["loss"]
    assert second.seen[-1][1]["train/parts/ce"] == run.metrics[-1]["parts"]["ce"]
    assert first.closed
    assert second.closed


def test_tensorboard_and_wandb_get_the_numbers(tiny_clip, tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, *values):
            written.append(values)

        def flush(self):
            pass

        close = flush

    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer
    weights = types.ModuleType("wandb")
    weights.init = lambda **options: types.SimpleNamespace(
        log=lambda values, step: written.append((step, values)), finish=lambda: written.append(options["name"])
    )
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", weights)
    run = fit(recipe(tiny_clip), squares(), tmp_path / "x", progress="silent", trackers=("tensorboard", "wandb"))
    assert str(tmp_path / "x" / "tensorboard") in written
    assert ("train/loss", run.metrics[0]["loss"], 1) in written
    assert written[-1] == "x"


def test_a_missing_package_is_said_with_the_pip_line(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"Weights & Biases .*pip install 'cliptune\[wandb\]'"):
        fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", trackers="wandb")


def test_an_unknown_tracker_and_one_without_a_folder_are_refused(tiny_clip, tmp_path):
    with pytest.raises(ValueError, match="Unknown tracker 'mlflow'"):
        fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", trackers=["mlflow"])
    with pytest.raises(ValueError, match="writes to the run folder"):
        fit(recipe(tiny_clip), squares(), progress="silent", trackers=["tensorboard"])

import socket

import pytest
import torch

from cliptune.runs import read_learnables, read_metrics
from cliptune.training import fit
from cliptune.training.distributed import Processes
from tests.training.shared_run import start
from tests.training.support import recipe, squares
from tests.training.test_fit import timeless


def together(world, out, **options):
    """Run with the environment that torchrun gives to each process; the exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [start(out, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **options) for rank in range(world)]
    for process in started:
        process.join(180)
    return [process.exitcode for process in started]


@pytest.mark.parametrize("method", ["coop", "maple"])
def test_two_processes_give_the_learnables_of_one(tiny_clip, tmp_path, method):
    options = {"method": method, "batch_size": 5, "lr": 0.005}
    assert together(2, tmp_path / "two", **options) == [0, 0]
    one = fit(recipe(tiny_clip, **options), squares(), tmp_path / "one", select="val", progress="silent")
    start = recipe(tiny_clip, **options).adapter.learnables()
    two = read_learnables(tmp_path / "two")
    for name, value in one.adapter.learnables().items():
        # Sums in another order; how far apart they end depends on the processor (1.7e-6 was seen).
        assert (two[name] - value).abs().max() <= 5e-6, name
        assert (start[name] - value).abs().max() > 1e-4, name
    for left, right in zip(timeless(read_metrics(tmp_path / "two")), timeless(one.metrics), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
        assert (left["train_accuracy"], left["val_accuracy"]) == (right["train_accuracy"], right["val_accuracy"])


def test_an_error_of_the_first_process_reaches_all(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "result.json").write_text("{}")
    assert together(2, out) == [1, 1]
    sentences = [(tmp_path / f"run.error{rank}").read_text() for rank in range(2)]
    assert sentences[0] == sentences[1]
    assert "holds result.json but no config.yaml" in sentences[0]


def test_a_batch_smaller_than_the_processes_is_refused():
    with pytest.raises(ValueError, match="batch of 2 images cannot be shared by 3 processes"):
        Processes(torch.device("cpu"), rank=0, world=3).share(2)


@pytest.mark.parametrize(("n", "world"), [(5, 2), (7, 3), (4, 4)])
def test_shares_cover_a_batch(n, world):
    parts = [list(range(n))[Processes(torch.device("cpu"), rank, world).share(n)] for rank in range(world)]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1

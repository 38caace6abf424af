import time
from pathlib import Path

from cliptune.runs import read_metrics
from cliptune.training import fit
from tests.training.shared_run import start
from tests.training.support import recipe, squares
from tests.training.test_fit import same, timeless

EPOCHS = 10


def wait_for(process, done):
    """Wait until `done()`, or the process ends."""
    deadline = time.monotonic() + 60
    while process.is_alive() and not done() and time.monotonic() < deadline:
        time.sleep(0.001)


def finish(process):
    process.join(300)
    assert process.exitcode == 0


def test_a_run_killed_at_several_moments_ends_with_the_same_bytes(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(whole, epochs=EPOCHS))

    def lines(path: Path) -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    kills = 0
    # At the first state; then after so many epochs, and a little later, so that it falls anywhere in a step.
    for epochs, later in ((0, 0.0), (1, 0.013), (3, 0.004), (5, 0.021), (8, 0.0)):
        process = start(cut, epochs=EPOCHS)
        state = cut / "state" / "state.safetensors"
        wait_for(process, lambda state=state, n=epochs: state.exists() and lines(cut / "metrics.jsonl") >= n)
        time.sleep(later)
        process.kill()  # SIGKILL: nothing in the process can react
        process.join()
        kills += process.exitcode != 0
    assert kills >= 3
    finish(start(cut, epochs=EPOCHS))

    for name in ("adapter_model.safetensors", "adapter_config.json", "config.yaml", "split.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert timeless(read_metrics(cut)) == timeless(read_metrics(whole))
    assert len(read_metrics(cut)) == EPOCHS
    assert not [path for path in cut.rglob("*") if path.name.startswith(".")]


def test_a_process_of_its_own_gives_the_numbers_of_this_one(tmp_path, tiny_clip):
    finish(start(tmp_path / "other"))
    here = fit(recipe(tiny_clip, batch_size=5), squares(), select="val", progress="silent").adapter.learnables()
    from cliptune.runs import read_learnables

    other = read_learnables(tmp_path / "other")
    same({name: value.round(decimals=4) for name, value in other.items()},
         {name: value.round(decimals=4) for name, value in here.items()})  # fmt: skip

import time

import pytest

from cliptune.timing import Stopwatch
from cliptune.training import fit
from cliptune.training.progress import Lines
from tests.training.support import recipe, squares
from tests.training.test_fit import same


class Jumping:
    """A clock that goes on by a second for each look, and by the next jump at every tenth."""

    def __init__(self, *jumps: float):
        self.jumps, self.now, self.looks = jumps, 1e6, 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += self.jumps[self.looks // 10 % len(self.jumps)] if self.looks % 10 == 0 else 1.0
        return self.now


def test_a_watch_adds_up_what_goes_forward(monkeypatch):
    readings = iter([100.0, 103.0, 40.0, 42.0, 42.0, 50.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(readings))
    watch = Stopwatch()
    assert [watch.seconds for _ in range(5)] == [3.0, 3.0, 5.0, 5.0, 13.0]


@pytest.mark.parametrize("jumps", [(-86400.0,), (86400.0,), (-3600.0, 7200.0, -1.0)])
def test_a_run_whose_clock_jumps_is_the_same_run(tiny_clip, tmp_path, monkeypatch, jumps):
    whole = fit(recipe(tiny_clip), squares(), progress="silent").adapter.learnables()
    monkeypatch.setattr(time, "monotonic", Jumping(*jumps))
    run = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", save_every=30)
    monkeypatch.undo()
    same(run.adapter.learnables(), whole)
    assert run.result["seconds"] >= 0
    assert all(line["seconds"] >= 0 for line in run.metrics)


def test_lines_are_shown_again_after_the_clock_went_back(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = Lines()
    lines.start(100, 0)
    now[0] = 10.0
    lines.advance("train")
    now[0] = 25.0
    lines.advance("train")
    assert "step 2 of 100" in capsys.readouterr().err

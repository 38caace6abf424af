"""What a run notes of itself, wherever it is taken up again."""

from __future__ import annotations

import pytest
import torch

from cliptune.registry import build
from cliptune.training import fit, loop
from tests.training.support import NAMES, few, recipe, squares
from tests.training.test_fit import StopAfter


class Heard(StopAfter):
    """Keeps the lines, and stops after some steps."""

    def __init__(self, steps: int = -1):
        super().__init__(steps)
        self.lines: list[str] = []

    def say(self, line, minor=False):
        self.lines.append(line)


def test_notes_are_said_once_also_over_an_interruption(tiny_clip, tmp_path):
    heard = Heard(5)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip, "maple"), squares(), tmp_path, save_every=0, progress=heard)
    again = Heard()
    notes = fit(recipe(tiny_clip, "maple"), squares(), tmp_path, progress=again).result["notes"]
    assert any("every epoch leaves out 2 of the 18 training images" in note for note in notes)
    assert notes == fit(recipe(tiny_clip, "maple"), squares(), progress="silent").result["notes"]
    for note in notes:
        assert heard.lines.count(note) + again.lines.count(note) == 1, note


def test_steps_that_fp16_leaves_out_are_counted(tiny_clip, monkeypatch):
    """A loss scale far beyond fp16 overflows, and is halved until gradients fit."""
    moved = []

    class Watched(torch.amp.GradScaler):
        def step(self, optimiser, *given, **more):
            weights = [p for group in optimiser.param_groups for p in group["params"]]
            before = [p.detach().clone() for p in weights]
            super().step(optimiser, *given, **more)
            moved.append(any(not torch.equal(a, b) for a, b in zip(before, weights, strict=True)))

    monkeypatch.setattr(loop, "build_scaler", lambda precision, device: Watched(device.type, init_scale=2.0**60))
    result = fit(recipe(tiny_clip, "maple", epochs=8), squares(), precision="fp16", progress="silent").result
    skipped = moved.count(False)
    assert skipped > 0
    assert f"train: {skipped} of {len(moved)} steps changed nothing, because gradients" in "\n".join(result["notes"])


def test_a_device_that_was_named_and_batches_that_come_out_even_need_no_note(tiny_clip):
    result = fit(recipe(tiny_clip, batch_size=6), squares(), device="cpu", progress="silent").result
    assert result["notes"] == []


def test_what_a_head_chose_by_itself_is_noted(tiny_clip):
    notes = fit(build("gda", tiny_clip, NAMES), squares(), progress="silent").result["notes"]
    assert any(note.startswith("fit the Gaussians: α was left out and is ") for note in notes)
    notes = fit(build("linear_probe", tiny_clip, NAMES), few((3, 3, 0)), progress="silent").result["notes"]
    assert "fit: 1 of 3 classes have no training images and are never predicted." in notes

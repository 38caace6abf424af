"""Methods that keep more than learnables between steps: a run that was cut goes on bit for bit."""

from __future__ import annotations

import pytest
import torch

from cliptune.registry import build
from cliptune.training import fit
from tests.training.support import NAMES, squares
from tests.training.test_fit import StopAfter, same

# PromptSRC keeps the sum of its prompts, PromptKD running statistics, Tip-Adapter-F a cache and its search.
CASES = {
    "promptsrc": {"epochs": 3, "gpa_mean": 2.0, "templates": "selected7"},
    "promptkd": {"epochs": 3},
    "tip_adapter_f": {"epochs": 3, "batch_size": 8, "views": 2},
    "ape_t": {"epochs": 3, "batch_size": 8, "views": 2},
    "clip_lora": {"epochs": 3, "batch_size": 8},
}


@pytest.mark.parametrize(("method", "steps"), [(method, steps) for method in CASES for steps in (1, 4)])
def test_a_cut_run_equals_a_whole_one(tiny_clip, tmp_path, method, steps):
    recipe = lambda: build(method, tiny_clip, NAMES, seed=3, **CASES[method])
    whole = fit(recipe(), squares(), tmp_path / "whole", progress="silent", save_every=0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(), squares(), tmp_path / "cut", progress=StopAfter(steps), save_every=0.0)
    cut = fit(recipe(), squares(), tmp_path / "cut", progress="silent", save_every=0.0)
    same(cut.adapter.learnables(), whole.adapter.learnables())


def test_the_last_state_of_promptsrc_is_the_average(tiny_clip, tmp_path):
    """A curve far behind the end takes the last epoch alone, one far before it the first."""
    last, first, plain = (
        fit(build("promptsrc", tiny_clip, NAMES, epochs=2, **gpa), squares(), progress="silent").adapter.learnables()
        for gpa in ({"gpa_mean": 50.0, "gpa_std": 0.5}, {"gpa_mean": -50.0, "gpa_std": 0.5}, {"gpa": False})
    )
    same(last, plain)
    assert any(not torch.equal(value, plain[name]) for name, value in first.items())


def test_batch_statistics_refuse_pieces(tiny_clip):
    with pytest.raises(ValueError, match="compares the images of a batch with each other"):
        fit(build("promptkd", tiny_clip, NAMES, epochs=1), squares(), accumulate=2)

from __future__ import annotations

import pytest

from cliptune import methods
from cliptune.registry import list_method, list_methods
from cliptune.registry.listing import count_learnables, takes_steps

# Sizes of ViT-B/16: text width 512, image width 768, 12 blocks in each tower, D 512.
COUNTS = {
    "zeroshot": (0, 0),
    "linear_probe": (0, 512 + 1),
    "coop": (4 * 512, 0),
    "vpt": (12 * 8 * 768, 0),
    "ivlp": (12 * 2 * (512 + 768), 0),
    "maple": (9 * (2 * 512 + 512 * 768 + 768), 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_learnables_are_the_papers_numbers(name):
    listed = list_method(name)
    assert (listed.learnables, listed.per_class) == COUNTS[name]


def test_every_method_and_each_of_its_options_is_explained():
    for listed in list_methods():
        assert listed.summary
        assert listed.enters
        for option in listed.options:
            assert option["meaning"], f"{listed.name}.{option['name']}"


def test_learnables_of_a_built_adapter(tiny_clip):
    adapter = methods.build("coop", tiny_clip, ["cat", "dog"], class_specific=True).adapter
    assert count_learnables(adapter) == 2 * 4 * 24


def test_methods_say_whether_they_take_optimiser_steps():
    solved = {"zeroshot", "linear_probe", "tip_adapter", "ape", "gda", "proker"}
    assert {name for name in solved if not takes_steps(name)} == solved
    assert all(takes_steps(name) for name in ("coop", "tip_adapter_f", "coop+dpc", "clip_lora", "promptkd"))

"""What a run is, said once: equal, hashable, readable from its folder, and the folder's name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cliptune.data import DataSpec
from cliptune.protocols import run
from cliptune.runs import RunSpec


def test_specs_that_say_the_same_are_equal_whatever_the_order_it_was_said_in():
    one = DataSpec("x", options={"fractions": [0.5, 0.2, 0.3], "split_seed": 2}, shots=4)
    other = DataSpec("x", options={"split_seed": 2, "fractions": [0.5, 0.2, 0.3]}, shots=4)
    assert one == other
    assert len({one, other, replace(one, shots=1)}) == 2
    first = RunSpec("coop", one, options={"n_ctx": 4, "epochs": 1}, asked={"targets": [one]})
    second = RunSpec("coop", other, options={"epochs": 1, "n_ctx": 4}, asked={"targets": [other]})
    assert len({first, second}) == 1
    assert first.without_seed == replace(first, data=replace(one, seed=3)).without_seed


def test_a_data_specs_arguments_say_it_again():
    spec = DataSpec("x", "/data", "torchvision", "a {}.", {"split_seed": 2}, shots=4, seed=3, classes="base")
    assert DataSpec.of(spec.arguments, shots=4, seed=3, classes="base") == spec
    assert DataSpec.of(spec.arguments) == spec.whole
    assert DataSpec("x").arguments == {"name": "x"}


def test_what_is_found_here_means_the_same_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert DataSpec.found("photos").name == str(tmp_path / "photos")
    assert DataSpec.found("OxfordPets", "photos") == DataSpec("oxford_pets", str(tmp_path / "photos"))
    assert DataSpec.found("photos", split_seed=None, exif=True).options == {"exif": True}


def test_opening_with_an_option_that_the_reader_lacks_is_a_sentence():
    with pytest.raises(ValueError, match="no option 'fraction'"):
        DataSpec("tinyworld/symbols", options={"fraction": 0.5}).open()


def test_a_run_is_made_by_its_spec_and_its_folder_says_what_it_is(tmp_path):
    data = DataSpec("tinyworld/symbols", options={"train": 4, "val": 0, "test": 2}, shots=2, seed=3)
    spec = RunSpec("coop", data, options={"epochs": 1, "n_ctx": 2}, training={"precision": "fp32"})
    result = run(spec, tmp_path, device="cpu", progress="silent")
    read = RunSpec.read(tmp_path)
    assert (read.method, read.data, read.protocol, read.backbone) == ("coop", data, "few_shot", "mini")
    assert read.options.items() >= spec.options.items()
    assert run(replace(read, training={}), tmp_path, device="cpu", progress="silent") == result


def test_every_protocol_is_known_by_name():
    with pytest.raises(ValueError, match="protocol must be one of base2new, few_shot"):
        RunSpec("coop", DataSpec("x"), "fewshot")

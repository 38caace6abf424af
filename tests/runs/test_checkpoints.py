import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from cliptune.runs import load_adapter, read_adapter_config, read_learnables, save_adapter
from cliptune.runs.checkpoints import to_bytes
from cliptune.runs.file_names import CONFIG, WEIGHTS
from cliptune.training import fit
from tests.conftest import TINY, random_clip
from tests.training.support import recipe, squares


@pytest.fixture
def folder(tiny_clip, tmp_path):
    run = fit(recipe(tiny_clip, "maple"), squares(), tmp_path / "run", progress="silent")
    return run.folder.path


def edit(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_learnables_come_back(tiny_clip, folder):
    adapter = recipe(tiny_clip, "maple").adapter
    before = adapter.learnables()
    description = load_adapter(folder, adapter)
    assert description["method"] == "maple"
    assert description["classes"]["names"] == ["red", "green", "blue"]
    stored = load_file(folder / WEIGHTS)
    assert stored.keys() == before.keys()
    for name, value in adapter.learnables().items():
        assert torch.equal(value, stored[name])
        assert not torch.equal(value, before[name])


def test_the_file_holds_nothing_but_learnables(folder):
    assert all(name.startswith("prompt.") for name in read_learnables(folder))
    assert (folder / WEIGHTS).stat().st_size < 50_000


def test_equal_tensors_give_equal_bytes():
    a, b = torch.ones(2, 3), torch.zeros(4)
    assert to_bytes({"a": a, "b": b}) == to_bytes({"b": b, "a": a})


def test_other_options_name_the_keys(tiny_clip, folder):
    with pytest.raises(ValueError, match=r"method 'maple'.*missing none, unexpected .*prompt\.maps"):
        load_adapter(folder, recipe(tiny_clip, "vpt").adapter)
    with pytest.raises(ValueError, match=r"prompt\.layers\.0\.value must have shape \(3, 24\), got \(2, 24\)"):
        load_adapter(folder, recipe(tiny_clip, "maple", n_ctx=3).adapter)


def test_another_backbone_is_detected_by_its_sizes(folder):
    other = random_clip(dataclasses.replace(TINY, image_layers=2))
    with pytest.raises(ValueError, match="trained on the backbone 'tiny', which has image_layers 3 instead of 2"):
        load_adapter(folder, recipe(other, "maple").adapter)


def test_other_weights_are_detected_by_their_hash(folder):
    edit(folder, backbone={**read_adapter_config(folder)["backbone"], "origin": {"sha256": "a" * 64}})
    other = random_clip()
    load_adapter(folder, recipe(other, "maple").adapter)
    other.origin = {"sha256": "b" * 64}
    with pytest.raises(ValueError, match="trained on other weights of 'tiny'"):
        load_adapter(folder, recipe(other, "maple").adapter)


def test_another_format_is_refused(folder):
    edit(folder, format=7)
    with pytest.raises(ValueError, match="adapter format 7; this version of cliptune .* reads format 1"):
        read_adapter_config(folder)


def test_damaged_files_are_refused(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-7])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_learnables(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        read_adapter_config(folder)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no adapter"):
        read_adapter_config(tmp_path)


def test_saving_twice_gives_the_same_file(tiny_clip, tmp_path):
    adapter = recipe(tiny_clip, "maple").adapter
    for name in ("a", "b"):
        save_adapter(tmp_path / name, adapter, method="maple", config={})
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()

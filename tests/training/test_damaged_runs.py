"""Files of a run folder that were edited or damaged: a sentence each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from cliptune.runs import read_adapter_config, read_config, read_learnables, read_metrics, read_result
from cliptune.runs.folder import read_images
from cliptune.runs.loading import load
from cliptune.training import fit
from tests.conftest import without_manifest
from tests.training.support import recipe, squares


@pytest.fixture
def run(tiny_clip, tmp_path) -> Path:
    fit(recipe(tiny_clip, method="coop", epochs=1), squares(), tmp_path / "run", progress="silent")
    return without_manifest(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": 5}, "was edited: method is missing or not what"),
        ({"config": [1]}, "was edited: config is missing"),
        ({"backbone": {"name": "tiny", "sizes": [], "origin": {}}}, r"was edited: backbone\.sizes"),
        ({"backbone": {"name": "tiny", "sizes": {}, "origin": {"source": ["x"]}}}, r"was edited: backbone\.origin"),
        ({"classes": {"names": "ab"}}, "was edited: classes"),
        ({"classes": {"names": ["a"], "more": 1}}, "was edited: classes"),
        ({"plugins": {"x": {"path": "x.py"}}}, "was edited: plugins"),
        ({"config": {"n_ctx": "many"}}, "the adapter cannot be built from its adapter_config.json"),
    ],
)
def test_edited_adapters_are_refused(run, tiny_clip, change, sentence):
    path = run / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=sentence) as raised:
        load(run, clip=tiny_clip)
    assert "\n" not in str(raised.value)


def test_adapters_without_classes_are_read_but_not_opened(run, tiny_clip):
    path = run / "adapter_config.json"
    whole = json.loads(path.read_text())
    del whole["classes"]
    path.write_text(json.dumps(whole))
    assert read_adapter_config(run) == whole
    with pytest.raises(ValueError, match=r"its adapter_config\.json names no classes"):
        load(run, clip=tiny_clip)


def test_learnables_of_a_number_type_that_torch_lacks_are_a_sentence(run):
    path = run / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F99"'))
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_learnables(run)


@pytest.mark.parametrize(
    ("name", "content", "read", "sentence"),
    [
        ("result.json", "[]", read_result, "holds a list where an object was expected"),
        ("result.json", "[" * 20_000, read_result, "is not readable JSON .*deep"),
        ("split.json", '{"train": [1]}', read_images, r"does not list the training images as \[name, label, hash\]"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epo', read_metrics, "holds a line that is no JSON"),
        ("metrics.jsonl", "3\n", read_metrics, "holds a line that is no JSON object"),
        ("config.yaml", "a: [", read_config, "is not readable YAML"),
    ],
)
def test_damaged_files_are_sentences(run, name, content, read, sentence):
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=sentence) as raised:
        read(run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "value"), [("options", [1]), ("backbone", "mini"), ("stages", None), ("method", 3)])
def test_edited_configurations_are_refused(run, name, value):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, name: value}))
    with pytest.raises(ValueError, match=f"was edited: {name} is not what a run writes there"):
        read_config(run)


def test_metrics_with_numbers_that_json_does_not_have_are_read(run):
    (run / "metrics.jsonl").write_text('{"loss": NaN}\n\n{"loss": 1.5}\n')
    first, second = read_metrics(run)
    assert torch.tensor(first["loss"]).isnan()
    assert second == {"loss": 1.5}

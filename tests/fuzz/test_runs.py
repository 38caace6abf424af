"""Folders of runs that somebody else wrote: each file in turn is another, and the run is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import load, save

from cliptune.clip import CLIP
from cliptune.data import from_images
from cliptune.protocols.training import train
from cliptune.results.tables import collect
from cliptune.runs import RunFolder, read_config, read_metrics, read_result
from cliptune.runs.folder import read_images
from cliptune.runs.loading import load as load_run
from tests.conftest import without_manifest
from tests.fuzz.campaign import MIB, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, changed_values, json_cases, values
from tests.fuzz.test_settings import yaml_cases
from tests.fuzz.test_weights import headers


@pytest.fixture(scope="module")
def run(tiny_clip: CLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 3, 32, 32, generator=draw), [0, 1, 0, 1]
    data = from_images(images, labels, ("lynx", "red fox"), val=(images, labels), test=(images, labels))
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"epochs": 1, "n_ctx": 2, "words": ""}
    made = train("coop", tiny_clip, data, protocol="few_shot", out=out, options=options, progress="silent")
    made.result["evaluations"]["test"] = {"accuracy": 50.0, "n": 4}
    (out / "result.json").write_text(json.dumps(made.result))
    return without_manifest(out)  # else its hashes would answer for the readers


@pytest.fixture
def copy(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setenv("CLIPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_adapter_configurations(copy, tiny_clip):
    seed = json.loads((copy / "adapter_config.json").read_text())
    whole = load_run(copy, clip=tiny_clip).learnables()

    def read(case: bytes) -> Any:
        (copy / "adapter_config.json").write_bytes(case)
        adapter = load_run(copy, clip=tiny_clip)
        assert all(torch.equal(whole[name], value) for name, value in adapter.learnables().items())
        return adapter.trained_classes.names

    campaign("adapter_config.json", json_cases([seed]), read, copy.parent)


def test_backbones_that_a_run_names(copy):
    seed = json.loads((copy / "adapter_config.json").read_text())
    sources = [
        "mini",
        "openai",
        "hf-hub:a/b@main",
        "hf-hub:a/b@../../c",
        "installed:none",
        "../x.pt",
        "/x.pt",
        "",
        "run",
    ]
    origins = st.fixed_dictionaries({"source": st.sampled_from(sources)}, optional={"activation": st.text(max_size=4)})
    names = st.sampled_from(["mini", "ViT-B/16", "tiny", ""])

    def read(case: tuple[str, dict[str, str]]) -> Any:
        backbone = {**seed["backbone"], "name": case[0], "origin": case[1]}
        (copy / "adapter_config.json").write_text(json.dumps({**seed, "backbone": backbone}))
        return load_run(copy).clip.name

    campaign("backbones of runs", st.tuples(names, origins), read, copy.parent, memory=1024 * MIB)


def test_adapter_weights(copy, tiny_clip):
    content = (copy / "adapter_model.safetensors").read_bytes()

    def read(case: bytes) -> Any:
        (copy / "adapter_model.safetensors").write_bytes(case)
        return sorted(load_run(copy, clip=tiny_clip).learnables())

    campaign("adapter_model.safetensors", headers(content), read, copy.parent)


def test_results_and_configurations(copy):
    result, config = json.loads((copy / "result.json").read_text()), yaml.safe_load((copy / "config.yaml").read_text())
    split = json.loads((copy / "split.json").read_text())
    metrics = (copy / "metrics.jsonl").read_bytes()
    files = {name: (copy / name).read_bytes() for name in ("result.json", "config.yaml", "split.json", "metrics.jsonl")}
    cases = st.one_of(
        st.tuples(st.just("result.json"), json_cases([result])),
        st.tuples(st.just("config.yaml"), yaml_cases([config])),
        st.tuples(st.just("split.json"), json_cases([split])),
        st.tuples(
            st.just("metrics.jsonl"), changed_bytes([metrics * 3]) | values().map(lambda v: json.dumps(v).encode())
        ),
    )

    def read(case: tuple[str, bytes]) -> Any:
        for name, content in {**files, case[0]: case[1]}.items():
            (copy / name).write_bytes(content)
        skipped: list[str] = []
        collect(copy.parent, skipped=skipped)
        assert all("\n" not in sentence for sentence in skipped)
        return read_result(copy), read_config(copy), read_metrics(copy), len((read_images(copy) or {})["train"])

    def plain(case: tuple[str, bytes]) -> Any:
        if case[0] != "metrics.jsonl":
            return UNKNOWN
        try:
            lines = [json.loads(line) for line in case[1].decode("utf-8-sig").split("\n") if line.strip()]
            json.dumps(lines, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return UNKNOWN
        return UNKNOWN if not all(isinstance(line, dict) for line in lines) else (result, config, lines, 4)

    campaign("results and configurations", cases, read, copy.parent, plain=plain)


def test_saved_states(copy, tmp_path):
    folder = RunFolder(tmp_path / "state", {})
    folder.save_state({"learnables/a": torch.ones(2, 3)}, {"position": {"stage": 1}})
    path = tmp_path / "state" / "state" / "state.safetensors"
    content = path.read_bytes()
    tensors = load(content)
    held = changed_values([{"position": {"stage": 1, "totals": {}}}]).map(
        lambda value: save(tensors, metadata={"values": json.dumps(value)})
    )

    def read(case: bytes) -> Any:
        path.write_bytes(case)
        return folder.load_state()

    try:
        campaign("saved states", headers(content) | held, lambda case: str(read(case)), tmp_path)
    finally:
        folder.release()

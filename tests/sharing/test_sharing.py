from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import cliptune
from cliptune.data import DataSpec
from cliptune.protocols import run
from cliptune.runs import RunSpec
from cliptune.sharing.card import card, interval
from tests.cli.conftest import write_photos
from tests.sharing.fake_hub import FakeHub


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and a run of coop on them."""
    place = tmp_path_factory.mktemp("shared")
    run(RunSpec("coop", DataSpec(str(write_photos(place / "photos"))), options={"epochs": 1}), place / "run")
    return place


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.stop()


@pytest.fixture
def elsewhere(hub: FakeHub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A Python program in a process of its own, whose hub is the fake one."""

    def started(code: str, *words: str, token: str = "hf_good") -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CLIPTUNE_"))},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
        }
        return subprocess.run(
            [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
        )

    return started


PUSH = """
import sys, cliptune
print(cliptune.push_to_hub(sys.argv[1], sys.argv[2], licence="mit"))
"""
FETCH = """
import sys, cliptune, torch
adapter = cliptune.from_pretrained(sys.argv[1])
torch.save(adapter.logits(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)), sys.argv[2])
"""


def test_a_folder_holds_all_that_is_needed_and_nothing_of_this_machine(place, tmp_path):
    folder = cliptune.save_pretrained(place / "run", tmp_path / "out", licence="mit")
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not any(str(place).encode() in path.read_bytes() for path in folder.iterdir())
    ours, theirs = cliptune.load(place / "run"), cliptune.from_pretrained(folder)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(theirs.logits(images), ours.logits(images))
    assert theirs.class_names == ours.class_names
    with pytest.raises(ValueError, match="already"):
        cliptune.save_pretrained(place / "run", folder)
    cliptune.save_pretrained(place / "run", folder, overwrite=True)


def test_a_card_has_numbers_hashes_flags_and_licences(place, tmp_path):
    text = (cliptune.save_pretrained(place / "run", tmp_path, licence="mit") / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["license"] == "mit"
    assert said["library_name"] == "cliptune"
    result = json.loads((place / "run" / "result.json").read_text())
    score = result["evaluations"]["test"]
    low, high = interval(score["accuracy"], score["n"])
    assert f"| test | {score['accuracy']:.2f} | {low:.2f} to {high:.2f} | {score['n']} |" in body
    assert result["data"]["split_sha256"] in body
    assert "4: blue jay, green frog, red fox, snow." in body
    assert "Licence of the backbone: MIT" in body
    assert "unlabelled test images: false" in body


def test_an_interval_is_wilsons():
    # scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    from scipy.stats import binomtest

    for k, n in ((0, 10), (3, 10), (36, 36), (500, 1000)):
        expected = binomtest(k, n).proportion_ci(0.95, "wilson")
        assert interval(100 * k / n, n) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-4)


def test_names_cannot_write_markup_or_headers(place):
    config = json.loads((place / "run" / "adapter_config.json").read_text())
    result = json.loads((place / "run" / "result.json").read_text())
    config["classes"]["names"] = ["<script>", "a\n---\nlicense: x", "[x](http://y)", "|"]
    text = card(config, result, "organisation/name", 'x"\nlicense: y')
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == 'x"\nlicense: y'
    assert "\n---\nlicense" not in text
    assert "\\[x\\](http" in text


def test_a_run_goes_to_the_hub_and_comes_back(place, hub, elsewhere, tmp_path):
    done = elsewhere(PUSH, str(place / "run"), "someone/fish")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.address}/someone/fish/commit/{hub.commits['someone/fish']}"
    files = hub.repositories["someone/fish"]
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert b'from_pretrained("someone/fish")' in files["README.md"]
    assert hub.private == {"someone/fish": True}
    images = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    expected = cliptune.load(place / "run").logits(images)
    for name in ("someone/fish", "hf-hub:someone/fish", f"someone/fish@{hub.commits['someone/fish']}"):
        done = elsewhere(FETCH, name, str(tmp_path / "logits.pt"))
        assert done.returncode == 0, done.stderr
        assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    picture = str(next((place / "photos").rglob("*.png")))
    command = "import sys; from cliptune.cli.main import main; sys.exit(main(['predict', *sys.argv[1:]]))"
    done = elsewhere(command, "hf-hub:someone/fish", picture)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_content_that_is_not_the_hubs_is_refused(place, hub, elsewhere, tmp_path, file):
    assert elsewhere(PUSH, str(place / "run"), "someone/fish").returncode == 0
    hub.spoil = {file}
    done = elsewhere(FETCH, "someone/fish", str(tmp_path / "logits.pt"))
    assert done.returncode == 1
    assert re.search(rf"ValueError: from_pretrained: \S+{file} should have (SHA-256|Git hash)", done.stderr)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("someone/nothing", "the hub has no model 'someone/nothing'"),
        ("someone/empty", "has no adapter_config.json and no adapter_model.safetensors"),
        ("someone/empty@v9", "no revision 'v9'|has no"),
        ("../etc", "must look like hf-hub:organisation/name"),
        ("someone/../etc", "must look like"),
        ("fish", "must look like"),
    ],
)
def test_what_is_not_there_is_a_sentence(hub, elsewhere, tmp_path, name, sentence):
    hub.repositories["someone/empty"], hub.commits["someone/empty"] = {}, "1" * 40
    done = elsewhere(FETCH, name, str(tmp_path / "logits.pt"))
    assert done.returncode == 1
    assert re.search(sentence, done.stderr), done.stderr[-500:]


def test_a_push_that_the_hub_refuses_is_a_sentence(place, hub, elsewhere):
    done = elsewhere(PUSH, str(place / "run"), "someone/fish", token="hf_bad")
    assert re.search(r"OSError: push_to_hub: the hub did not take hf-hub:someone/fish .*Log in", done.stderr)
    assert not hub.repositories
    assert "hf_bad" not in done.stderr


@pytest.mark.parametrize("name", ["fish", "../fish", "a/b/c", "a/b@main", "a/..", "", "/tmp/x"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(place, name):
    with pytest.raises(ValueError, match=r"must look like|without a revision"):
        cliptune.push_to_hub(place / "run", name)


def test_offline_nothing_is_pushed(place, monkeypatch):
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    with pytest.raises(OSError, match="offline mode is on"):
        cliptune.push_to_hub(place / "run", "someone/fish")


PLUGIN = {"x": {"path": "x", "sha256": "", "installed": False}}


@pytest.mark.parametrize("change", [{"plugins": PLUGIN}, {"method": "./x.py"}])
def test_a_program_is_neither_shared_nor_run(place, tmp_path, change):
    folder = cliptune.save_pretrained(place / "run", tmp_path / "out")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (tmp_path / "x.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ValueError, match="which is a program and is not run"):
        cliptune.from_pretrained(folder)
    from cliptune.sharing.saving import _without_places

    with pytest.raises(ValueError, match="is not shared"):
        _without_places(json.loads(path.read_text()), "run")


def test_a_backbone_from_a_file_is_named_without_its_folder(place, tmp_path):
    from cliptune.sharing.saving import _without_places

    config = json.loads((place / "run" / "adapter_config.json").read_text())
    config["backbone"]["origin"]["source"] = "/home/someone/secret/toy.safetensors"
    config["config"]["teacher"] = "/home/someone/runs/teacher"
    told = json.dumps(_without_places(config, "run"))
    assert "/home" not in told
    assert "toy.safetensors" in told


def test_the_command_writes_a_folder(place, tmp_path, capsys):
    from cliptune.cli.main import main

    assert main(["share", str(place / "run"), "--out", str(tmp_path / "out")]) == 0
    assert "README.md" in capsys.readouterr().out
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert main(["share", str(place / "run")]) == 2
    assert "--out FOLDER, --push" in capsys.readouterr().err
    assert main(["share", str(tmp_path), "--out", str(tmp_path / "b")]) == 2

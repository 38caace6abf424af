"""A finished run knows the hashes of its files: whatever is changed is found, and what agrees is never accused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cliptune
from cliptune.data import DataSpec
from cliptune.protocols import run
from cliptune.protocols.scoring import score_run
from cliptune.results import collect
from cliptune.runs import RunSpec, read_predictions, read_result
from cliptune.runs.manifest import VOUCHED, verify
from cliptune.training.continued import HostRunMismatch
from tests.conftest import without_manifest

SMALL = DataSpec("tinyworld/symbols", options={"train": 4, "val": 2, "test": 4}, shots=2)
SPEC = RunSpec("coop", SMALL, options={"epochs": 1, "n_ctx": 2}, training={"log_prompts": True})
FILES = (*VOUCHED, "result.json", "manifest.json")


def make(folder: Path, **how) -> dict[str, object]:
    return run(SPEC, folder, device="cpu", progress="silent", **how)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    make(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    for name, content in finished.items():
        (tmp_path / "runs/one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/one" / name).write_bytes(content)
    return tmp_path / "runs/one"


def damaged(content: bytes, how: str) -> bytes | None:
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"empty": b"", "half": content[:middle], "flipped": flipped, "gone": None}[how]


def test_a_run_as_it_was_written_is_verified(folder):
    assert verify(folder).state == "verified"
    assert make(folder) == read_result(folder)  # finished
    score_run(folder, cliptune.load(folder), classes="base")
    score_run(folder, cliptune.load(folder), classes="new")
    assert verify(folder).state == "verified"
    assert {"test", "base", "new"} <= read_result(folder)["evaluations"].keys()


@pytest.mark.parametrize("how", ["empty", "half", "flipped", "gone"])
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_damaged_is_named_and_nothing_answers(name, how, folder):
    content = damaged((folder / name).read_bytes(), how)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    if name == "result.json" and how == "gone":
        assert verify(folder).state == "unfinished"
        return
    assert name in verify(folder).problems
    adapter = cliptune.build("coop", cliptune.load_clip("mini"), ["a", "b"], n_ctx=2).adapter
    skipped: list[str] = []
    for asked in (
        lambda: make(folder),
        lambda: cliptune.load(folder),
        lambda: score_run(folder, adapter),
        lambda: collect(folder.parent, skipped=skipped),
    ):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            asked()
    assert len(skipped) == 1


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("config.yaml", "metrics.jsonl", "prompts.jsonl")]
)
def test_what_can_be_made_anew_is_by_the_advice_that_is_given(name, folder, finished):
    (folder / name).write_bytes(damaged(finished[name], "flipped") or b"")
    with pytest.raises(ValueError, match="make the run anew|from the saved state") as error:
        make(folder)
    advice = str(error.value).partition("or remove ")[2].partition(" and give")[0]
    for file in advice.split(", "):
        (folder / file).unlink()
    result = make(folder)
    assert verify(folder).state == "verified"
    assert result["evaluations"] == json.loads(finished["result.json"])["evaluations"]
    assert (folder / "adapter_model.safetensors").read_bytes() == finished["adapter_model.safetensors"]


def test_what_cannot_be_made_from_the_saved_state_is_made_anew(folder, finished):
    (folder / "metrics.jsonl").write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="overwrite=True"):
        make(folder)
    assert make(folder, overwrite=True)["evaluations"] == json.loads(finished["result.json"])["evaluations"]
    assert verify(folder).state == "verified"


def test_answers_to_single_images_are_checked_and_nothing_but_comparing_needs_them(folder):
    (answers,) = (folder / "predictions").iterdir()
    answers.write_bytes(answers.read_bytes()[:-1] + b"x")
    assert verify(folder).problems == {f"predictions/{answers.name}": "is not as the run wrote it"}
    with pytest.raises(ValueError, match="is not the file that result.json was written with"):
        read_predictions(folder, "test")
    score_run(folder, cliptune.load(folder))  # makes them anew
    assert verify(folder).state == "verified"


def test_a_stop_between_the_two_files_leaves_a_verified_run(folder, monkeypatch):
    """The manifest is written first and knows both results."""
    before, adapter = (folder / "result.json").read_bytes(), cliptune.load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(
            "cliptune.runs.manifest.atomic_write_bytes", lambda *given: (_ for _ in ()).throw(OSError("stop"))
        )
        with pytest.raises(OSError, match="stop"):
            score_run(folder, adapter, classes="base")
    assert (folder / "result.json").read_bytes() == before
    assert verify(folder).state == "verified"
    score_run(folder, adapter, classes="base")
    assert verify(folder).state == "verified"
    assert "base" in read_result(folder)["evaluations"]


def test_a_run_that_never_had_a_manifest_opens_unverified_and_is_told_in_tables(folder):
    without_manifest(folder)
    assert verify(folder).state == "unverified"
    score_run(folder, cliptune.load(folder), classes="base")
    assert verify(folder).state == "unverified"  # nobody vouches for what was there before
    assert "unverified" in " ".join(collect(folder)[0].caveats)


def test_a_host_that_is_damaged_is_no_beginning(folder, tmp_path):
    (folder / "env.json").write_text("{}")
    dpc = RunSpec("coop+dpc", SMALL, options={**SPEC.options, "dpc_epochs": 1})
    with pytest.raises(HostRunMismatch, match="env.json is not as the run wrote it"):
        run(dpc, tmp_path / "dpc", device="cpu", progress="silent", continues=folder)

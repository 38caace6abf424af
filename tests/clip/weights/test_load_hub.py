"""`hf-hub:` names, against a hub cache written by hand; the network is never asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save

from cliptune.clip.weights.hub import hub_folder
from cliptune.clip.weights.load import load_clip
from tests.clip.weights.checkpoints import HEAD_WIDTH, hugging_face_tensors, openai_tensors, same_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Files as the hub's client caches them: blobs by hash, links by commit."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "refs" / "tagged").write_text(COMMIT)
    for name, content in files.items():
        blob = root / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    return snapshot


def test_open_clip_repository_is_read(cache, tiny_clip):
    tensors = openai_tensors(tiny_clip)
    config = {"model_cfg": {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}}}
    weights = save(tensors)
    files = {"open_clip_model.safetensors": weights, "open_clip_config.json": json.dumps(config).encode()}
    put(cache, "some/clip", files)
    clip = load_clip("hf-hub:some/clip")
    assert same_weights(clip, tensors)
    assert clip.origin == {
        "source": f"hf-hub:some/clip@{COMMIT}",
        "file": "open_clip_model.safetensors",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "layout": "openai",
        "activation": "gelu",
        "activation_from": "configuration file",
    }


@pytest.mark.parametrize("name", ["hf-hub:some/clip", "hf-hub:some/clip@tagged", f"hf-hub:some/clip@{COMMIT}"])
def test_hugging_face_repository_is_read_at_a_revision(cache, tiny_clip, name):
    config = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
    theirs = save(hugging_face_tensors(tiny_clip))
    put(cache, "some/clip", {"model.safetensors": theirs, "config.json": json.dumps(config).encode()})
    clip = load_clip(name)
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert clip.name == name
    with pytest.raises(FileNotFoundError, match="revision other, has none of"):
        load_clip("hf-hub:some/clip", revision="other")


def test_what_is_not_cached_is_a_sentence_in_offline_mode(cache):
    sentence = r"hf-hub:no/body, revision main, has none of open_clip_model\.safetensors, .* offline mode is on"
    with pytest.raises(FileNotFoundError, match=sentence):
        load_clip("hf-hub:no/body")


def test_altered_weights_are_refused(cache, tiny_clip):
    snapshot = put(cache, "some/clip", {"open_clip_model.safetensors": save(openai_tensors(tiny_clip))})
    blob = (snapshot / "open_clip_model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=f"should have SHA-256 {blob.name}, but has .*Delete"):
        load_clip("hf-hub:some/clip", head_width=HEAD_WIDTH)


@pytest.mark.parametrize("name", ["hf-hub:alone", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../x"])
def test_malformed_names_are_sentences(name):
    with pytest.raises(ValueError, match="must look like hf-hub:organisation/name"):
        load_clip(name)


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no connection."), ConnectionError("refused.")])
def test_no_network_is_a_sentence(cache, monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("CLIPTUNE_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(OSError, match=r"hub could not be asked for some/clip \((no connection|refused)\.\)"):
        load_clip("hf-hub:some/clip")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def test_small_files_are_checked_against_gits_hash(cache, tiny_clip):
    config = json.dumps({"model_cfg": {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}}}).encode()
    snapshot = put(cache, "some/clip", {"open_clip_model.safetensors": save(openai_tensors(tiny_clip))})
    blob = cache / "models--some--clip" / "blobs" / git_sha1(config)
    blob.write_bytes(config)
    (snapshot / "open_clip_config.json").symlink_to(blob)
    assert load_clip("hf-hub:some/clip").config.activation == "gelu"
    blob.write_bytes(config.replace(b"{", b"{ ", 1))
    with pytest.raises(ValueError, match=f"open_clip_config.json should have Git hash {blob.name}, but has"):
        load_clip("hf-hub:some/clip")


def test_what_has_no_checksum_needs_a_commit_or_trust(cache, tiny_clip):
    """As the client keeps files where the file system has no links."""
    snapshot = put(cache, "some/clip", {"open_clip_model.safetensors": save(openai_tensors(tiny_clip))})
    link = snapshot / "open_clip_model.safetensors"
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)
    said = {"head_width": HEAD_WIDTH, "activation": "gelu"}
    for name in ("hf-hub:some/clip", "hf-hub:some/clip@tagged"):
        with pytest.raises(ValueError, match=r"came without a checksum.*@COMMIT, or say that you trust .*--trust"):
            load_clip(name, **said)
        assert same_weights(load_clip(name, trust=True, **said), openai_tensors(tiny_clip))
    assert same_weights(load_clip(f"hf-hub:some/clip@{COMMIT}", **said), openai_tensors(tiny_clip))


def test_a_models_folder_is_checked_too(cache):
    snapshot = put(cache, "some/model", {"model.safetensors": b"weights", "config.json": b"{}"})
    assert hub_folder("some/model", "masks") == snapshot
    (snapshot / "config.json").resolve().write_bytes(b"[]")
    with pytest.raises(ValueError, match="masks: .*config.json should have SHA-256"):
        hub_folder("some/model", "masks")
    with pytest.raises(
        FileNotFoundError, match="masks: hf-hub:some/other, revision main, has none of model.safetensors"
    ):
        hub_folder("some/other", "masks")


@pytest.mark.parametrize("name", ["hf-hub:some/clip@../../refs", "hf-hub:some/clip@a b", "hf-hub:some/clip@/above"])
def test_revisions_that_climb_are_refused(cache, name):
    with pytest.raises(ValueError, match="a revision is a branch, a tag or a commit, got"):
        load_clip(name)

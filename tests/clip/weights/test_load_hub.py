"""`hf-hub:` names, against a hub cache written by hand; the network is never asked."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from cliptune.clip.weights.choice import INNER_FOLDERS, chosen
from cliptune.clip.weights.hub import hub_folder
from cliptune.clip.weights.load import load_clip
from tests.clip.foreign.test_hugging_face import model_of
from tests.clip.foreign.vocabularies import sentencepiece
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


def no_network(monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("CLIPTUNE_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fails)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)


@pytest.mark.parametrize("error", [RuntimeError("no connection."), ConnectionError("refused.")])
def test_no_network_is_a_sentence(cache, monkeypatch, error):
    no_network(monkeypatch, error)
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


CONFIG = json.dumps({"model_cfg": {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}}}).encode()


def test_without_network_what_is_cached_is_taken_and_said(cache, monkeypatch, tiny_clip):
    put(cache, "some/clip", {"model.safetensors": save(openai_tensors(tiny_clip)), "open_clip_config.json": CONFIG})
    no_network(monkeypatch, ConnectionError("down"))
    clip = load_clip("hf-hub:some/clip")
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert any(
        "the hub did not answer, so the copy that was downloaded before was taken" in note for note in clip.notes
    )
    # A commit is never another one, so there was nothing to ask.
    assert not any("did not answer" in note for note in load_clip(f"hf-hub:some/clip@{COMMIT}").notes)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_is_that_of_the_field(cache, monkeypatch, tiny_clip, variable):
    put(cache, "some/clip", {"model.safetensors": save(openai_tensors(tiny_clip)), "open_clip_config.json": CONFIG})
    no_network(monkeypatch, AssertionError("was asked"))
    monkeypatch.setenv(variable, "1")
    notes = " ".join(load_clip("hf-hub:some/clip").notes)
    assert "offline mode is on, so the copy" in notes


def split(tensors):
    """Two files and their index, as `save_pretrained(max_shard_size=…)` writes them."""
    names = sorted(tensors)
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    files, places = {}, {}
    for i, part in enumerate(parts, 1):
        file = f"model-0000{i}-of-00002.safetensors"
        files[file] = save({name: tensors[name] for name in part})
        places.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}


def test_weights_in_several_files_are_read(cache, tiny_clip, tmp_path_factory):
    config = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
    files = {**split(hugging_face_tensors(tiny_clip)), "config.json": json.dumps(config).encode()}
    put(cache, "some/clip", files)
    clip = load_clip("hf-hub:some/clip")
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert any("read from 2 files, as model.safetensors.index.json says" in note for note in clip.notes)

    folder = tmp_path_factory.mktemp("local")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    local = load_clip(f"local-dir:{folder}")
    assert same_weights(local, openai_tensors(tiny_clip))
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in sorted(files.items()) if "-of-" in name
    )
    assert local.origin["sha256"] == clip.origin["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert same_weights(load_clip(local.origin["source"]), openai_tensors(tiny_clip))

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"speaks of model-00002-of-00002\.safetensors, which is not beside it"):
        load_clip(folder)


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ({"a": "../../b.safetensors"}, r"should lie in a \.safetensors or \.bin file beside it"),
        ({"a": "b.py"}, r"should lie in a \.safetensors or \.bin file beside it"),
        ({}, "has no weight_map"),
        ({"stranger": "b.safetensors"}, r"should hold tensor 'stranger', as model\.safetensors\.index\.json says"),
    ],
)
def test_an_index_that_cannot_be_is_a_sentence(tmp_path, places, sentence):
    (tmp_path / "b.safetensors").write_bytes(save({"b": torch.zeros(1)}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError, match=sentence):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["model.safetensors.index.json", "pytorch_model.bin"], "pytorch_model.bin"),
        (["model.fp16.safetensors", "model.fp32.safetensors"], "model.fp32.safetensors"),
        (["model.bf16.safetensors", "model.fp16.safetensors"], "model.fp16.safetensors"),
        (["pytorch_model.fp16.bin.index.json", "x.bin"], "pytorch_model.fp16.bin.index.json"),
        (["0_CLIPModel/model.safetensors", "modules.json"], "0_CLIPModel/model.safetensors"),
        (["onnx/model.safetensors"], None),
    ],
)
def test_the_weights_among_many_files(names, expected):
    assert chosen(names, folders=INNER_FOLDERS) == expected


def test_half_precision_alone_is_read_and_said(cache, tiny_clip):
    halves = {name: value.half() for name, value in openai_tensors(tiny_clip).items()}
    put(cache, "some/clip", {"model.fp16.safetensors": save(halves), "open_clip_config.json": CONFIG})
    clip = load_clip("hf-hub:some/clip")
    assert clip.origin["file"] == "model.fp16.safetensors"
    assert any("stored as float16 are kept as float32" in note for note in clip.notes)


def test_a_folder_of_sentence_transformers_is_read(tmp_path, tiny_clip):
    inner = tmp_path / "0_CLIPModel"
    inner.mkdir()
    (inner / "model.safetensors").write_bytes(save(hugging_face_tensors(tiny_clip)))
    heads = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
    (inner / "config.json").write_text(json.dumps(heads))
    (inner / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3]}))
    (tmp_path / "modules.json").write_text("[]")
    clip = load_clip(tmp_path)
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert clip.mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf://some/clip", "is written hf-hub:some/clip, got"),
        ("https://huggingface.co/some/clip", "is written hf-hub:some/clip, got"),
        ("some/clip", "If you mean a model on the hub, write hf-hub:some/clip"),
    ],
)
def test_other_spellings_are_hinted_at(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_clip(name)


def test_the_clients_own_folder_is_hinted_at(cache, tiny_clip):
    snapshot = put(cache, "some/clip", {"model.safetensors": save(openai_tensors(tiny_clip))})
    with pytest.raises(ValueError, match=f"Write hf-hub:some/clip, or give one of its snapshots: {snapshot}"):
        load_clip(cache / "models--some--clip")


# -- a hub on this machine -----------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as the hub does: a list of files, and the files. Its files, and what it was asked."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, whole: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            if self.path.startswith("/api/models/some/clip"):
                siblings = [
                    {
                        "rfilename": name,
                        "size": len(content),
                        "blobId": git_sha1(content),
                        "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": 1, "pointerSize": 1},
                    }
                    for name, content in files.items()
                ]
                listed = {"id": "some/clip", "sha": COMMIT, "siblings": siblings}
                return self.send(json.dumps(listed).encode(), {}, True)
            name = self.path.rpartition(f"/some/clip/resolve/{COMMIT}/")[2]
            if name not in files:
                return self.send_error(404)
            tag = hashlib.sha256(files[name]).hexdigest()
            return self.send(files[name], {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, whole)

        def send(self, content: bytes, headers: dict[str, str], whole: bool) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if whole:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("CLIPTUNE_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    yield files, asked
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_once_and_then_opened_without_the_hub(hub, tiny_clip):
    files, asked = hub
    files.update({**split(openai_tensors(tiny_clip)), "open_clip_config.json": CONFIG, "README.md": b"not this"})
    clip = load_clip("hf-hub:some/clip")
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert clip.origin["source"] == f"hf-hub:some/clip@{COMMIT}"
    assert not any("README" in request for request in asked)
    asked.clear()
    assert same_weights(load_clip("hf-hub:some/clip"), openai_tensors(tiny_clip))
    assert len(asked) == 1  # the list of files
    asked.clear()
    assert same_weights(load_clip(f"hf-hub:some/clip@{COMMIT}"), openai_tensors(tiny_clip))
    assert not asked


def test_the_hubs_hash_is_used_where_the_cache_keeps_no_links(hub, tiny_clip):
    files, _ = hub
    files.update({"model.safetensors": save(openai_tensors(tiny_clip)), "open_clip_config.json": CONFIG})
    load_clip("hf-hub:some/clip")
    for link in list(Path(constants.HF_HUB_CACHE).glob("**/snapshots/*/*")):
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    assert same_weights(load_clip("hf-hub:some/clip"), openai_tensors(tiny_clip))
    (kept,) = Path(constants.HF_HUB_CACHE).glob("**/snapshots/*/model.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"model\.safetensors should have SHA-256"):
        load_clip("hf-hub:some/clip")


def test_a_repository_of_transformers_comes_with_its_tokenizer(cache, tmp_path):
    folder = tmp_path / "saved"
    model_of("siglip").save_pretrained(folder)
    sentencepiece(folder)
    snapshot = put(cache, "some/siglip", {path.name: path.read_bytes() for path in folder.iterdir()})
    clip = load_clip("hf-hub:some/siglip")
    assert clip.image.kind == "SiglipVisionModel of transformers"
    assert clip.tokenize(["a photo of a cat"]).ids.shape == (1, 64)
    blob = (snapshot / "tokenizer.json").resolve()
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"should have SHA-256 {blob.name}"):
        load_clip("hf-hub:some/siglip")

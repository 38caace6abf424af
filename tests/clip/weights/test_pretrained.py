"""open_clip's list of weights: names that open, and hashes that are evidence."""

from __future__ import annotations

import hashlib
import json

import pytest
from huggingface_hub import constants
from safetensors.torch import save

from cliptune.clip.weights import architectures, locate, pretrained
from cliptune.clip.weights.architectures import architecture
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.openai import CHECKSUMS
from cliptune.clip.weights.pretrained import hashed_weights, listed_weights, named_weights, tags_of
from cliptune.preprocessing import MEAN, Preprocessing
from cliptune.protocols import few_shot
from cliptune.runs import load
from tests.clip.weights.checkpoints import HEAD_WIDTH, openai_tensors, same_weights
from tests.clip.weights.test_load_hub import COMMIT, put

HALF = (0.5, 0.5, 0.5)
TINY = pretrained.Listed(
    *("ViT-T-8", "web_e2", "some/clip", "gelu"),
    {"resize": "squash", "interpolation": "bicubic", "mean": HALF, "std": HALF},
    "",
)


def test_every_line_is_of_an_architecture_that_our_towers_build():
    lines = listed_weights()
    assert len(lines) == 96
    for line in lines:
        assert architecture(line.architecture).name == line.architecture
        assert line.repository.count("/") == 1
        Preprocessing.from_dict(line.pictures)


def test_a_tag_has_one_activation_whatever_its_architecture_is_called():
    seen = {}
    for line in listed_weights():
        key = (line.architecture.removesuffix("-quickgelu"), line.tag)
        assert seen.setdefault(key, (line.activation, line.repository)) == (line.activation, line.repository)


@pytest.mark.parametrize(
    ("name", "tag", "activation", "how"),
    [
        # Values as open_clip.pretrained of 3.3.0 has them.
        ("ViT-B-16", "laion2b_s34b_b88k", "gelu", Preprocessing()),
        ("ViT-B/16", "laion2b_s34b_b88k", "gelu", Preprocessing()),
        ("ViT-B-32", "laion400m_e32", "quick_gelu", Preprocessing()),
        ("ViT-L-14", "laion2b_s32b_b82k", "gelu", Preprocessing(mean=HALF, std=HALF)),
        ("ViT-L-14", "dfn2b_s39b", "gelu", Preprocessing()),
        ("ViT-H-14-378-quickgelu", "dfn5b", "quick_gelu", Preprocessing("squash")),
    ],
)
def test_known_lines(name, tag, activation, how):
    line = named_weights(name, tag)
    assert line.activation == activation
    assert Preprocessing.from_dict(line.pictures) == how


def test_prefixes_are_those_of_openais_archives():
    for name, checksum in CHECKSUMS.items():
        line = hashed_weights(checksum)
        assert line.tag == "openai"
        assert line.architecture == name.replace("/", "-").replace("@", "-").removesuffix("px")
    assert hashed_weights("0" * 64) is None


def _list_only(monkeypatch, *lines):
    for module in (pretrained, locate):
        monkeypatch.setattr(module, "listed_weights", lambda: lines)


@pytest.fixture
def listed(monkeypatch, tmp_path, tiny_clip):
    """A line of the list, and the hub's cache with what it names, for the toy CLIP of 8 × 8 patches."""
    monkeypatch.setitem(architectures._SIZES, "ViT-T-8", (16, 32, 40, 3, 8))
    _list_only(monkeypatch, TINY)
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    config = {"model_cfg": {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}, "quick_gelu": True}}
    files = {"model.safetensors": save(openai_tensors(tiny_clip)), "open_clip_config.json": json.dumps(config).encode()}
    put(tmp_path / "cache", "some/clip", files)
    return TINY


@pytest.mark.parametrize("asked", [("ViT-T-8", "web_e2"), ("ViT-T-8:web_e2",), ("vit-t-8-quickgelu", "web_e2")])
def test_names_of_open_clip_open(listed, tiny_clip, asked):
    clip = load_clip(*asked)
    assert same_weights(clip, openai_tensors(tiny_clip))
    assert (clip.name, clip.config.activation) == ("ViT-T-8:web_e2", "gelu")
    assert clip.preprocessing == Preprocessing("squash", mean=HALF, std=HALF)
    assert clip.origin["source"] == f"hf-hub:some/clip@{COMMIT}"
    assert clip.origin["activation_from"] == "entry in open_clip's list of weights"


def test_a_run_on_listed_weights_opens_again(listed, dataset, tmp_path, monkeypatch):
    clip = load_clip("ViT-T-8:web_e2")
    few_shot("zeroshot", clip, dataset, shots=2, out=tmp_path / "run", progress="silent")
    _list_only(monkeypatch)
    again = load(tmp_path / "run").clip
    assert (again.preprocessing, again.config.activation, again.name) == (clip.preprocessing, "gelu", clip.name)


def test_statistics_of_the_list_are_kept_where_pictures_are_cropped(listed, dataset, tmp_path, monkeypatch):
    cropped = pretrained.Listed("ViT-T-8", "web_e2", "some/clip", "gelu", {"mean": HALF, "std": HALF}, "")
    _list_only(monkeypatch, cropped)
    few_shot("zeroshot", load_clip("ViT-T-8:web_e2"), dataset, shots=2, out=tmp_path / "run", progress="silent")
    _list_only(monkeypatch)
    assert load(tmp_path / "run").clip.preprocessing == Preprocessing(mean=HALF, std=HALF)


def test_a_repository_of_two_tags_is_noted(listed, monkeypatch):
    _list_only(monkeypatch, TINY, pretrained.Listed(**{**vars(TINY), "tag": "web_e1"}))
    assert any("lists the same repository for web_e1" in note for note in load_clip("ViT-T-8:web_e2").notes)


def test_other_tags_and_architectures_without_one_are_sentences(listed):
    with pytest.raises(ValueError, match=r"a tag of open_clip.*'web_e3' is none\. Of ViT-T-8, open_clip lists web_e2"):
        load_clip("ViT-T-8", "web_e3")
    with pytest.raises(ValueError, match=r"an architecture, not yet its weights\..*or ViT-T-8:TAG on the command"):
        load_clip("ViT-T-8")


def test_a_known_hash_is_evidence_for_a_lone_file(tmp_path, monkeypatch, tiny_clip):
    content = save(openai_tensors(tiny_clip))
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="its tensors do not tell the activation"):
        load_clip(tmp_path / "weights.safetensors", head_width=HEAD_WIDTH)
    line = pretrained.Listed(**{**vars(TINY), "prefix": hashlib.sha256(content).hexdigest()[:8]})
    _list_only(monkeypatch, line)
    clip = load_clip(tmp_path / "weights.safetensors", head_width=HEAD_WIDTH)
    assert clip.config.activation == "gelu"
    assert clip.origin["activation_from"] == "SHA-256, which open_clip's list of weights has"
    assert clip.preprocessing.resize == "squash"
    assert load_clip(tmp_path / "weights.safetensors", head_width=HEAD_WIDTH, activation="quick_gelu").mean == MEAN
    assert clip.std == HALF


def test_tags_of_an_architecture():
    assert "laion2b_s34b_b88k" in tags_of("ViT-B/16")
    assert tags_of("ViT-B-17") == []

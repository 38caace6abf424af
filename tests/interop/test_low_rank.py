"""CLIP-LoRA's own checkpoints, against the weights that its release would have merged."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from cliptune import interop, methods
from cliptune.interop.low_rank import nested
from tests.conftest import CLASS_NAMES

ROWS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}


def file_of(clip, blocks, *, rank=2, alpha=3, encoder="both", params=("q", "k", "v"), position="all") -> dict:
    """What the release's `save_lora` writes. blocks: (tower, block) of each layer."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for i, (tower, _) in enumerate(blocks):
        width = getattr(clip, tower).width
        weights[f"layer_{i}"] = {
            "proj" if p == "o" else f"{p}_proj": {
                "w_lora_A": 0.3 * torch.randn(rank, width, generator=generator),
                "w_lora_B": 0.3 * torch.randn(width, rank, generator=generator),
            }
            for p in params
        }
    said = {"r": rank, "alpha": alpha, "encoder": encoder, "params": list(params), "position": position}
    return {"weights": weights, "metadata": said}


def merged(clip, blocks, content):
    """A CLIP whose weights are W + α/√r B A, row block by row block of the packed projection."""
    clip = copy.deepcopy(clip)
    scale = content["metadata"]["alpha"] / math.sqrt(content["metadata"]["r"])
    state = clip.state_dict()
    for i, (tower, block) in enumerate(blocks):
        weight = state[f"{tower}.transformer.resblocks.{block}.attn.in_proj_weight"]
        width = weight.shape[1]
        for name, factors in content["weights"][f"layer_{i}"].items():
            rows = slice(ROWS[name] * width, (ROWS[name] + 1) * width)
            weight[rows] += scale * factors["w_lora_B"] @ factors["w_lora_A"]
    clip.load_state_dict(state)
    return clip


TEXT, IMAGE = [("text", i) for i in range(4)], [("image", i) for i in range(3)]


@pytest.mark.parametrize(
    ("blocks", "settings"),
    [
        (TEXT + IMAGE, {}),
        (IMAGE, {"encoder": "vision", "rank": 4, "params": ("v",)}),
        (TEXT, {"encoder": "text", "position": "bottom", "alpha": 1}),
        (TEXT + IMAGE, {"position": "half-bottom", "params": ("q", "v")}),
    ],
)
def test_answers_are_those_of_the_merged_weights(tiny_clip, images, tmp_path, blocks, settings):
    content = file_of(tiny_clip, blocks, **settings)
    torch.save(content, tmp_path / "lora_weights.pt")
    tensors = interop.read_published(tmp_path / "lora_weights.pt")
    adapter = interop.from_published("clip_lora", tensors, tiny_clip, CLASS_NAMES).adapter
    plain = methods.build("zeroshot", merged(tiny_clip, blocks, content), CLASS_NAMES).adapter
    torch.testing.assert_close(adapter.logits(images), plain.logits(images), rtol=1e-3, atol=1e-3)
    frozen = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter
    assert not torch.allclose(adapter.logits(images), frozen.logits(images), atol=0.1)


def test_a_position_leaves_the_other_blocks_as_they_are():
    from cliptune.clip.model import CLIP
    from cliptune.clip.tokenizer import default_tokenizer
    from cliptune.clip.weights.openai import OPENAI_CONFIGS
    from cliptune.interop.low_rank import _places

    base = CLIP.of_sizes(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer())
    assert _places(base, ("text", "image"), "up", 8) == [
        *(("text", i) for i in range(8, 12)),
        *(("image", i) for i in range(8, 12)),
    ]
    large = CLIP.of_sizes(OPENAI_CONFIGS["ViT-L/14"], default_tokenizer())
    assert [block for _, block in _places(large, ("image",), "half-up", 12)] == list(range(12, 24))
    assert [block for _, block in _places(large, ("image",), "half-up", 6)] == list(range(6, 12))  # as before
    assert [block for _, block in _places(large, ("image",), "all", 21)] == list(range(21))
    assert len(_places(large, ("text", "image"), "all", 36)) == 36
    with pytest.raises(ValueError, match=r"changes 7 blocks \(position 'all' of image\), which do not fit the towers"):
        _places(base, ("image",), "all", 7)


def test_it_goes_both_ways(tiny_clip):
    content = file_of(tiny_clip, TEXT + IMAGE, rank=3, alpha=2, params=("q", "k"))
    from cliptune.interop.low_rank import flattened

    recipe = interop.from_published("clip_lora", flattened(content), tiny_clip, CLASS_NAMES)
    assert {k: recipe.config[k] for k in ("rank", "alpha", "towers", "projections")} == {
        "rank": 3,
        "alpha": 2.0,
        "towers": "both",
        "projections": "qk",
    }
    back = nested(interop.to_published("clip_lora", recipe.adapter))
    assert back["metadata"] == content["metadata"]
    assert back["weights"].keys() == content["weights"].keys()
    for layer, parts in content["weights"].items():
        for name, factors in parts.items():
            for factor, value in factors.items():
                assert torch.equal(back["weights"][layer][name][factor], value)


def test_what_is_none_or_does_not_fit_is_a_sentence(tiny_clip, tiny_resnet, tmp_path):
    from cliptune.interop.low_rank import flattened

    read = lambda content, clip=tiny_clip: interop.from_published("clip_lora", flattened(content), clip, CLASS_NAMES)
    good = file_of(tiny_clip, TEXT + IMAGE)
    with pytest.raises(ValueError, match="changes the output projection of attention"):
        read(file_of(tiny_clip, TEXT + IMAGE, params=("q", "o")))
    with pytest.raises(ValueError, match="the image tower, and that of tiny has none"):
        read(good, tiny_resnet)
    with pytest.raises(ValueError, match="but not what stands in them there"):
        read({**good, "metadata": {**good["metadata"], "encoder": "audio"}})
    with pytest.raises(ValueError, match="not a released checkpoint of clip_lora"):
        interop.from_published("clip_lora", {"ctx": torch.zeros(2)}, tiny_clip, CLASS_NAMES)
    part = copy.deepcopy(good)
    del part["weights"]["layer_2"]["k_proj"]
    with pytest.raises(ValueError, match="2 are missing and 0 too many"):
        read(part)
    with pytest.raises(ValueError, match="must have shape"):
        read(file_of(tiny_clip, [*IMAGE, *IMAGE, *IMAGE][:4] + [("text", i) for i in range(3)]))

    class Stranger:
        def __reduce__(self):
            return print, ("run",)

    torch.save({**good, "metadata": Stranger()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="holds more than tensors"):
        interop.read_published(tmp_path / "bad.pt")


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    from cliptune.cli.main import main
    from cliptune.clip.weights.load import load_clip

    monkeypatch.chdir(tmp_path)
    clip = load_clip("mini")
    blocks = [(tower, i) for tower in ("text", "image") for i in range(getattr(clip, tower).layers)]
    content = file_of(clip, blocks)
    torch.save(content, "lora_weights.pt")
    asked = ["--from", "clip_lora", "--classes", "circle,star", "--backbone", "mini", "--out", "run"]
    code = main(["convert", "lora_weights.pt", *asked])
    assert code == 0, capsys.readouterr().err
    assert main(["convert", "run", "--to", "clip_lora", "--out", "back.pt"]) == 0
    back = torch.load("back.pt", weights_only=True)
    assert back["metadata"] == content["metadata"]
    first = back["weights"]["layer_0"]["q_proj"]["w_lora_A"]
    assert torch.equal(first, content["weights"]["layer_0"]["q_proj"]["w_lora_A"])
    assert json.loads(Path("run/result.json").read_text())["method"] == "clip_lora"

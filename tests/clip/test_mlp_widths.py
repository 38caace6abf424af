"""MLPs whose inner width is not four times the tower's, as in the largest CLIPs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune.clip import CLIP
from cliptune.clip.model import openai_key
from cliptune.runs.checkpoints import backbone, check_backbone
from tests.conftest import TINY, random_clip

NARROW = replace(TINY, image_mlp=100, text_mlp=50)


def test_widths_are_read_from_the_tensors_where_they_are_not_the_usual_ones():
    for config in (NARROW, TINY, replace(TINY, text_mlp=70)):
        clip = random_clip(config)
        tensors = {openai_key(key): value for key, value in clip.state_dict().items()}
        again = CLIP.from_state_dict(tensors, head_width=8)
        assert again.config == config
        assert all(torch.equal(value, clip.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_block_computes_the_mlp_of_its_width():
    block = random_clip(NARROW).image.transformer.blocks[1]
    assert [tuple(layer.weight.shape) for layer in (block.mlp.c_fc, block.mlp.c_proj)] == [(100, 40), (40, 100)]
    x, attended = torch.randn(2, 5, 40), torch.randn(2, 5, 40)
    after = x + F.linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    inner = F.linear(F.layer_norm(after, (40,), block.ln_2.weight, block.ln_2.bias), *block.mlp.c_fc.parameters())
    inner = inner * torch.sigmoid(1.702 * inner)
    torch.testing.assert_close(
        block.finish(x, attended, None, None), after + F.linear(inner, *block.mlp.c_proj.parameters())
    )


def test_runs_note_only_unusual_widths_and_tell_them_apart():
    usual, narrow = random_clip(TINY), random_clip(NARROW)
    assert not {"image_mlp", "text_mlp"} & set(backbone(usual)["sizes"])
    assert backbone(narrow)["sizes"]["image_mlp"] == 100
    check_backbone(backbone(usual), usual, "run")
    for saved, here in ((usual, narrow), (narrow, usual)):
        with pytest.raises(ValueError, match="image_mlp"):
            check_backbone(backbone(saved), here, "run")

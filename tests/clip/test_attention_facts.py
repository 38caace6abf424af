"""Facts of attention that bias tuning rests on: a prompt re-scales and adds; biases of keys and values are idle."""

import pytest
import torch

from cliptune.clip.towers.blocks import Block

ROWS, PROMPTS, WIDTH = 6, 3, 16


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    made = Block(WIDTH, 4, "quick_gelu").double()
    for p in made.parameters():
        p.data.normal_(std=0.3)
    return made


def attention(block, rows):
    return block.attn.out_proj(block.attn.attend(*block.attn.qkv(rows)))


def test_prompted_attention_is_rescaled_attention_plus_a_bias(block):
    """out(q) = λ(q) Attn_X(q) + (1 − λ(q)) Attn_P(q), head by head (arXiv:2312.11570)."""
    x = torch.randn(1, ROWS + PROMPTS, WIDTH, dtype=torch.float64)
    q, k, v = (block.attn.split(t) for t in block.attn.qkv(x))
    scores = (q @ k.mT * q.shape[-1] ** -0.5)[:, :, :ROWS]
    whole = scores.softmax(dim=-1) @ v
    real, prompt = scores[..., :ROWS], scores[..., ROWS:]
    share = (real.logsumexp(-1) - scores.logsumexp(-1)).exp()[..., None]
    beta = (1 - share) * (prompt.softmax(-1) @ v[:, :, ROWS:])
    torch.testing.assert_close(whole, share * (real.softmax(-1) @ v[:, :, :ROWS]) + beta)
    assert share.min() > 0
    assert share.max() < 1
    fused = block.attn.attend(*block.attn.qkv(x))[:, :ROWS]
    torch.testing.assert_close(fused, whole.transpose(-3, -2).flatten(-2))


def test_a_bias_of_the_keys_changes_nothing(block):
    x = torch.randn(2, ROWS, WIDTH, dtype=torch.float64)
    before = attention(block, x)
    block.attn.in_proj_bias.data[WIDTH : 2 * WIDTH] += torch.randn(WIDTH)
    torch.testing.assert_close(attention(block, x), before)


def test_a_bias_of_the_values_is_one_of_the_output(block):
    x, bias = torch.randn(2, ROWS, WIDTH, dtype=torch.float64), torch.randn(WIDTH, dtype=torch.float64)
    expected = attention(block, x) + block.attn.out_proj.weight @ bias
    block.attn.in_proj_bias.data[2 * WIDTH :] += bias
    torch.testing.assert_close(attention(block, x), expected)

"""The image towers: row skipping, permutation of prompts, what a ResNet refuses."""

from __future__ import annotations

import pytest
import torch

from cliptune.clip import TowerPorts

B, V, D, LAYERS = 3, 2, 40, 3


def views(tiny_clip) -> torch.Tensor:
    return tiny_clip.normalise(torch.rand(B, V, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def random_ports(lead=(), n=2, depth=3, bias_lead=None) -> TowerPorts:
    g = torch.Generator().manual_seed(4)
    leaf = lambda *shape: torch.randn(*shape, generator=g).mul(0.3).requires_grad_()
    bias = {}
    if bias_lead is not None:
        bias = {
            (i, site, group): leaf(*bias_lead, D)
            for i in range(LAYERS)
            for site, group in (("attn_out", "all"), ("mlp_out", "cls"), ("mlp_out", "patch"), ("attn_out", "prompt"))
        }
    return TowerPorts({i: leaf(*lead, n, D) for i in range(depth)}, bias)


@pytest.mark.parametrize("lead", [(), (V,), (1, V), (B, 1), (B, V)])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("bias_lead", [None, (), (B, 1)])
def test_row_skipping_changes_nothing(tiny_clip, lead, depth, bias_lead):
    """Facts F6 and F7, forward and gradient."""
    ports, results = random_ports(lead, depth=depth, bias_lead=bias_lead), []
    for plain in (True, False):
        tiny_clip.image.plain = plain
        try:
            out = tiny_clip.encode_image(views(tiny_clip), ports)
        finally:
            tiny_clip.image.plain = False
        leaves = [leaf for _, leaf in ports.leaves()]
        grads = torch.autograd.grad((out * torch.linspace(-1, 1, 16)).sum(), leaves, allow_unused=True)
        results.append((out, [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    for a, b in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_per_instance_prompts_equal_one_image_at_a_time(tiny_clip):
    ports, x = random_ports((B, V)), views(tiny_clip)
    whole = tiny_clip.encode_image(x, ports)
    for b in range(B):
        for v in range(V):
            alone = tiny_clip.encode_image(x[b : b + 1, v : v + 1], ports.map(lambda p, b=b, v=v: p[b, v]))
            torch.testing.assert_close(alone[0, 0], whole[b, v], rtol=1e-4, atol=1e-5)


def test_visual_prompts_are_a_set(tiny_clip):
    """Fact F10: the order of the prompt rows does not matter."""
    ports = random_ports(n=4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        tiny_clip.encode_image(views(tiny_clip), ports.map(lambda p: p[order])),
        tiny_clip.encode_image(views(tiny_clip), ports),
        rtol=1e-4,
        atol=1e-5,
    )


def test_discarded_prompt_is_scale_and_shift_invariant(tiny_clip):
    """Fact F9: a prompt that its block discards enters through LayerNorm only."""
    ports = random_ports(depth=3)
    large = {i: p * 10 for i, p in ports.tokens.items()}
    moved = {i: 3 * p + 1.5 for i, p in large.items()}
    torch.testing.assert_close(
        tiny_clip.encode_image(views(tiny_clip), TowerPorts(moved)),
        tiny_clip.encode_image(views(tiny_clip), TowerPorts(large)),
        rtol=1e-3,
        atol=1e-4,
    )


def test_wrong_size_of_view_says_so(tiny_clip):
    with pytest.raises(ValueError, match=r"must have shape \(B, V, 3, 32, 32\)"):
        tiny_clip.encode_image(torch.zeros(1, 1, 3, 64, 64))


def test_resnet_refuses_image_tokens_and_biases(tiny_resnet):
    x = torch.zeros(1, 1, 3, 64, 64)
    assert tiny_resnet.encode_image(x).shape == (1, 1, 16)
    for ports in (TowerPorts({0: torch.zeros(2, 8)}), TowerPorts({}, {(0, "mlp_out", "all"): torch.zeros(8)})):
        with pytest.raises(ValueError, match="takes no prompt tokens and no biases"):
            tiny_resnet.encode_image(x, ports)


def test_train_mode_leaves_batch_norm_frozen(tiny_resnet):
    before = {k: v.clone() for k, v in tiny_resnet.state_dict().items()}
    tiny_resnet.train()
    tiny_resnet.encode_image(torch.rand(2, 1, 3, 64, 64))
    assert not tiny_resnet.training
    assert all(torch.equal(v, before[k]) for k, v in tiny_resnet.state_dict().items())

import pytest
import torch

from cliptune.clip.folding import BiasFold
from cliptune.clip.ports import SITES, TowerPorts
from cliptune.prompts.bias import LayerBias, TowerBias, matching_budget


def test_every_row_goes_to_its_place():
    prompt = LayerBias({"text": TowerBias(2, 24), "image": TowerBias(3, 40, ("mlp_out",), "split")})
    text, image = prompt.towers["text"].value, prompt.towers["image"].value
    assert text.shape == (4, 24)
    assert image.shape == (6, 40)
    ports = prompt()
    keys = list(ports.text.bias)
    assert keys == [(layer, site, "all") for layer in (0, 1) for site in SITES]
    for row, key in enumerate(keys):
        assert torch.equal(ports.text.bias[key], text[row])
    for layer in range(3):
        assert ports.image.bias[layer, "mlp_out", "cls"] is not ports.image.bias[layer, "mlp_out", "patch"]
        assert ports.image.bias[layer, "mlp_out", "patch"] is ports.image.bias[layer, "mlp_out", "prompt"]


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_budget_matches_that_many_tokens_per_block(tokens):
    sites, groups = matching_budget(tokens)
    prompt = LayerBias({"image": TowerBias(3, 40, sites, groups)})
    assert sum(p.numel() for p in prompt.parameters()) == 3 * tokens * 40


def test_other_budgets_are_refused():
    with pytest.raises(ValueError, match="1, 2 or 4"):
        matching_budget(3)


def test_fold_changes_the_frozen_biases_and_undo_restores_them_exactly(tiny_clip):
    before = {name: value.clone() for name, value in tiny_clip.state_dict().items()}
    bias = torch.randn(40, generator=torch.Generator().manual_seed(1))
    fold = BiasFold(tiny_clip, TowerPorts(bias={(1, "attn_out", "all"): bias}), TowerPorts())
    changed = [name for name, value in tiny_clip.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["image.transformer.resblocks.1.attn.out_proj.bias"]
    for _ in range(2):
        fold.undo()
        assert all(torch.equal(value, before[name]) for name, value in tiny_clip.state_dict().items())


@pytest.mark.parametrize(("group", "shape"), [("cls", (40,)), ("all", (3, 1, 40))])
def test_what_no_single_vector_holds_does_not_fold(tiny_clip, group, shape):
    with pytest.raises(ValueError, match="only a vector for all tokens folds"):
        BiasFold(tiny_clip, TowerPorts(bias={(0, "mlp_out", group): torch.zeros(shape)}), TowerPorts())

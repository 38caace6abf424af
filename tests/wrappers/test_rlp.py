import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.params import FullRank, LowRank
from cliptune.wrappers.rlp import merge
from tests.conftest import CLASS_NAMES

HOSTS = ("coop", "vpt", "ivlp", "maple", "bias_tuning", "cocoop")


@pytest.mark.parametrize("host", HOSTS)
def test_every_matrix_of_the_host_becomes_low_rank_over_the_same_start(host, tiny_clip):
    plain = methods.build(host, tiny_clip, CLASS_NAMES).adapter
    adapter = methods.build(f"{host}+rlp", tiny_clip, CLASS_NAMES).adapter
    full = {name: module for name, module in plain.named_modules() if isinstance(module, FullRank)}
    low = {name: module for name, module in adapter.named_modules() if isinstance(module, LowRank)}
    assert full.keys() == low.keys()
    assert all(torch.equal(low[name].start, module.value) for name, module in full.items())


@pytest.mark.parametrize("host", HOSTS)
def test_merged_adapter_answers_the_same(host, tiny_clip, images):
    adapter = methods.build(f"{host}+rlp", tiny_clip, CLASS_NAMES, rlp_rank=2).adapter
    for p in adapter.trainable().values():
        p.data.add_(0.1 * torch.randn_like(p))
    before = adapter.logits(images)
    merge(adapter.prompt)
    assert not any(isinstance(module, LowRank) for module in adapter.modules())
    assert torch.equal(adapter.logits(images), before)


def test_counts_match_the_papers_formula():
    vit = OPENAI_CONFIGS["ViT-B/16"]
    count = lambda method, **options: methods.count_learnables(method, vit, **options)
    assert count("coop+rlp") == 516
    assert count("coop+rlp", n_ctx=16, words="") == 528
    assert count("ivlp+rlp", rlp_rank=2) == 12 * 2 * (2 + 512) + 12 * 2 * (2 + 768)
    assert count("ivlp+rlp", rlp_shared=True) == (12 * 2 + 512) + (12 * 2 + 768)
    maps = 9 * (512 * 768 + 768)
    assert count("maple+rlp") == 9 * (2 + 512) + maps
    csc = {"n_ctx": 16, "class_specific": True, "classes": 7}
    assert count("coop+rlp", **csc) == 7 * (16 + 512)
    assert count("coop+rlp", rlp_shared=True, **csc) == 7 * 16 + 512
    assert count("bias_tuning+rlp") == (24 + 512) + (24 + 768)


def test_zero_start_gives_the_hosts_answer_exactly(tiny_clip, images):
    plain = methods.build("maple", tiny_clip, CLASS_NAMES).adapter.logits(images)
    low = methods.build("maple+rlp", tiny_clip, CLASS_NAMES, rlp_start="zero").adapter
    assert torch.equal(low.logits(images), plain)
    gaussian = methods.build("maple+rlp", tiny_clip, CLASS_NAMES).adapter
    assert not torch.equal(gaussian.logits(images), plain)


def test_biases_start_at_zero_whatever_the_start_of_the_factors(tiny_clip, images):
    plain = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter.logits(images)
    torch.testing.assert_close(methods.build("bias_tuning+rlp", tiny_clip, CLASS_NAMES).adapter.logits(images), plain)


def test_one_dropout_sample_serves_both_towers(tiny_clip):
    adapter = methods.build("maple+rlp", tiny_clip, CLASS_NAMES, rlp_dropout=0.5).adapter.train()
    ports = adapter.prompt()
    maps = adapter.prompt.maps
    for layer, tokens in ports.text.tokens.items():
        assert torch.equal(maps[layer](tokens), ports.image.tokens[layer])


def test_the_scale_of_the_rate_reaches_the_factors_only(tiny_clip):
    recipe = methods.build("maple+rlp", tiny_clip, CLASS_NAMES, rlp_lr_scale=5.0)
    factors = recipe.stages[0].optimiser.factors
    for name in recipe.adapter.trainable():
        found = [f for start, f in factors.items() if name.startswith(start)]
        assert found == ([] if ".maps." in name else [5.0])


def test_shared_factors_train_and_reload(tiny_clip, images):
    recipe = methods.build("ivlp+rlp", tiny_clip, CLASS_NAMES, rlp_shared=True)
    adapter, batch = recipe.adapter, Batch.of(images, torch.tensor([0, 1, 2]))
    loss, _ = recipe.stages[0].objective(adapter(batch), batch, 0.0)
    loss.backward()
    assert all(p.grad is not None for p in adapter.trainable().values())
    other = methods.build("ivlp+rlp", tiny_clip, CLASS_NAMES, rlp_shared=True, seed=9).adapter
    other.load_learnables(adapter.learnables())
    assert torch.equal(other.logits(images), adapter.logits(images))


def test_hosts_without_matrices_and_bad_numbers_are_explained(tiny_clip):
    with pytest.raises(ValueError, match="no prompt matrix"):
        methods.build("zeroshot+rlp", tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="rank must be between 1 and"):
        methods.build("maple+rlp", tiny_clip, CLASS_NAMES, rlp_rank=3)
    with pytest.raises(ValueError, match="rlp_lr_scale"):
        methods.build("maple+rlp", tiny_clip, CLASS_NAMES, rlp_lr_scale=0.0)


@pytest.mark.parametrize("host", ["coop", "maple", "bias_tuning"])
def test_without_its_frozen_branch_the_matrix_is_the_product_alone(host, tiny_clip, images):
    plain = methods.build(host, tiny_clip, CLASS_NAMES).adapter
    starts = {name: module.value for name, module in plain.named_modules() if isinstance(module, FullRank)}
    adapter = methods.build(f"{host}+rlp", tiny_clip, CLASS_NAMES, rlp_rank=2, rlp_frozen=False).adapter
    nearest = methods.build(
        f"{host}+rlp", tiny_clip, CLASS_NAMES, rlp_rank=2, rlp_frozen=False, rlp_start="svd"
    ).adapter
    for name, start in starts.items():
        matrix = adapter.get_submodule(name)
        assert torch.equal(matrix.eval()(), matrix.left @ matrix.right)
        values = torch.linalg.svdvals(start)
        close = nearest.get_submodule(name).merged()
        torch.testing.assert_close((start - close).square().sum(), values[2:].square().sum(), rtol=1e-4, atol=1e-10)
    # Two tokens have rank two at most: the product alone begins where the host does.
    if host == "maple":
        torch.testing.assert_close(nearest.logits(images), plain.logits(images), rtol=1e-4, atol=1e-4)


def test_starts_that_cannot_be_are_sentences(tiny_clip):
    for options, words in (
        ({"rlp_start": "svd"}, "with rlp_frozen=False"),
        ({"rlp_start": "svd", "rlp_frozen": False, "rlp_shared": True}, "one factor for several"),
        ({"rlp_start": "uniform"}, "must be one of gaussian, zero, svd"),
    ):
        with pytest.raises(ValueError, match=words):
            methods.build("coop+rlp", tiny_clip, CLASS_NAMES, **options)

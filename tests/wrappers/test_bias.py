import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.wrappers.bias import folded
from tests.conftest import CLASS_NAMES


def moved(method, clip, **options):
    """An adapter whose learnables are somewhere."""
    adapter = methods.build(method, clip, CLASS_NAMES, **options).adapter
    generator = torch.Generator().manual_seed(4)
    for p in adapter.trainable().values():
        p.data.add_(0.1 * torch.randn(p.shape, generator=generator))
    return adapter


def test_before_training_it_is_the_zero_shot_clip(tiny_clip, images):
    plain = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter.logits(images)
    torch.testing.assert_close(methods.build("bias_tuning", tiny_clip, CLASS_NAMES).adapter.logits(images), plain)


def test_bias_tuning_is_zero_shot_with_biases(tiny_clip, images):
    a, b = moved("bias_tuning", tiny_clip), moved("zeroshot+bias", tiny_clip)
    assert torch.equal(a.logits(images), b.logits(images))


def test_counts_match_the_budget_of_prompts():
    vit = OPENAI_CONFIGS["ViT-B/16"]
    count = lambda method, **options: methods.count_learnables(method, vit, **options)
    assert count("bias_tuning") == 30_720 == count("ivlp")
    assert count("bias_tuning", budget=4) == count("ivlp", n_text=4, n_image=4)
    assert count("bias_tuning", budget=1, towers="image") == 12 * 768
    assert count("bias_tuning", depth=9) == 9 * 2 * (512 + 768)
    assert count("coop+bias") == 4 * 512 + 30_720


@pytest.mark.parametrize("method", ["bias_tuning", "coop+bias", "maple+bias", "bias_tuning+rlp"])
def test_folded_equals_live_and_unfolding_is_exact(method, tiny_clip, images):
    adapter = moved(method, tiny_clip)
    live = adapter.logits(images)
    frozen = {name: value.clone() for name, value in adapter.clip.state_dict().items()}
    with folded(adapter):
        assert not adapter.prompt().image.bias
        torch.testing.assert_close(adapter.logits(images), live, rtol=1e-5, atol=1e-3)
        changed = [name for name, value in adapter.clip.state_dict().items() if not torch.equal(value, frozen[name])]
        assert len(changed) == 2 * (adapter.clip.image.layers + adapter.clip.text.layers)
        assert all(name.endswith(("out_proj.bias", "c_proj.bias")) for name in changed)
    assert all(torch.equal(value, frozen[name]) for name, value in adapter.clip.state_dict().items())
    assert torch.equal(adapter.logits(images), live)


def test_an_error_inside_still_unfolds(tiny_clip, images):
    adapter = moved("bias_tuning", tiny_clip)
    live = adapter.logits(images)
    with pytest.raises(KeyError), folded(adapter):
        raise KeyError
    assert torch.equal(adapter.logits(images), live)


def test_what_does_not_fold_says_why(tiny_clip):
    with (
        pytest.raises(ValueError, match="only a vector for all tokens"),
        folded(moved("bias_tuning", tiny_clip, groups="split")),
    ):
        pass
    with pytest.raises(ValueError, match="no biases to fold"), folded(moved("coop", tiny_clip)):
        pass
    with pytest.raises(ValueError, match="depend on the image"), folded(moved("cocoop+bias", tiny_clip)):
        pass


def test_folded_biases_stand_for_the_classes_they_were_folded_for(tiny_clip, images):
    adapter = methods.build("bias_tuning+dpc", tiny_clip, CLASS_NAMES).adapter
    adapter.prompt.open()
    for p in adapter.trainable().values():
        p.data.add_(0.1)
    with folded(adapter):
        adapter.set_classes(CLASS_NAMES[:2])
        adapter.logits(images)
        with pytest.raises(ValueError, match="folded for trained classes, and this prompt has others"):
            adapter.set_classes(("lynx", "puma")).logits(images)
    with folded(moved("bias_tuning", tiny_clip)) as same:
        same.set_classes(("lynx", "puma")).logits(images)


def test_biases_in_the_image_tower_refuse_a_host_that_observes_several_views(tiny_clip):
    with pytest.raises(ValueError, match="shows 10 views of each image"):
        methods.build("tip_adapter_f+bias", tiny_clip, CLASS_NAMES)
    methods.build("tip_adapter_f+bias", tiny_clip, CLASS_NAMES, bias_towers="text")
    methods.build("tip_adapter_f+bias", tiny_clip, CLASS_NAMES, views=1)


def test_split_groups_reach_their_tokens(tiny_clip, images):
    """A vector for CLS alone moves the image feature; the plain tower agrees with the fast one."""
    adapter = moved("bias_tuning", tiny_clip, groups="split", towers="image")
    fast = adapter.logits(images)
    adapter.clip.image.plain = True
    try:
        torch.testing.assert_close(adapter.logits(images), fast, rtol=1e-4, atol=1e-3)
    finally:
        adapter.clip.image.plain = False


def test_biases_beside_tokens_learn_with_the_host(tiny_clip, images):
    recipe = methods.build("coop+bias", tiny_clip, CLASS_NAMES)
    assert len(recipe.stages) == 1
    batch = Batch.of(images, torch.tensor([0, 1, 2]))
    loss, _ = recipe.stages[0].objective(recipe.adapter(batch), batch, 0.0)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in recipe.adapter.trainable().values())


def test_unknown_places_and_hosts_that_take_no_steps_are_explained(tiny_clip, tiny_resnet):
    for options in ({"bias_sites": "keys"}, {"bias_towers": "none"}, {"bias_groups": "some"}):
        with pytest.raises(ValueError, match="must be one of"):
            methods.build("coop+bias", tiny_clip, CLASS_NAMES, **options)
    with pytest.raises(ValueError, match="takes no gradient steps"):
        methods.build("linear_probe+bias", tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="Use a ViT backbone, or bias_towers='text'"):
        methods.build("coop+bias", tiny_resnet, CLASS_NAMES)
    assert methods.build("coop+bias", tiny_resnet, CLASS_NAMES, bias_towers="text").adapter.trainable()


@pytest.mark.filterwarnings("ignore:.*have no descriptions")
@pytest.mark.parametrize("method", ["vp+bias", "dvp_cse+bias", "rvp+bias"])
def test_biases_beside_pixels_have_a_rate_of_their_own(method, tiny_clip):
    """Patterns learn at 40, at which biases would leave all bounds."""
    recipe = methods.build(method, tiny_clip, CLASS_NAMES, lr=40.0)
    rates = rates_of(recipe)
    assert {round(rate, 9) for name, rate in rates.items() if name.startswith("prompt.parts.bias.")} == {3.5e-3}
    assert {rate for name, rate in rates.items() if name.startswith("prompt.parts.host.")} == {40.0}


def test_biases_beside_tokens_take_the_hosts_rate_unless_told(tiny_clip):
    host = methods.build("coop", tiny_clip, CLASS_NAMES).stages[0].optimiser.lr
    assert set(rates_of(methods.build("coop+bias", tiny_clip, CLASS_NAMES)).values()) == {host}
    told = rates_of(methods.build("coop+rlp+bias", tiny_clip, CLASS_NAMES, bias_lr=0.1, rlp_lr_scale=3.0))
    assert {round(rate, 9) for name, rate in told.items() if ".bias." in name} == {0.3}
    assert {rate for name, rate in told.items() if ".bias." not in name} == {3.0 * host}
    with pytest.raises(ValueError, match=r"bias_lr must be above 0, got -1\.0"):
        methods.build("coop+bias", tiny_clip, CLASS_NAMES, bias_lr=-1.0)


def rates_of(recipe) -> dict[str, float]:
    """Learnable → its rate at the start of the last stage."""
    config = recipe.stages[-1].optimiser
    optimiser = build_optimiser(config, recipe.adapter.trainable())
    set_rate(optimiser, config.lr)
    of = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in recipe.adapter.trainable().items()}

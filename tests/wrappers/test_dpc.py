from random import Random

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.params import LowRank
from cliptune.prompts import Prompt
from cliptune.prompts.dual import mix_normalised
from cliptune.training import fit
from tests.conftest import CLASS_NAMES
from tests.training.support import NAMES, squares

HOSTS = ("coop", "kgcoop", "cocoop", "vpt", "ivlp", "maple", "bias_tuning", "maple+rlp", "coop+bias")
SHORT = {"epochs": 2, "batch_size": 4, "dpc_epochs": 2, "dpc_batch_size": 3, "dpc_negatives": 3, "seed": 3}


def opened(method, clip, **options):
    """A recipe at the start of its second stage, its parallel prompt moved away from the tuned one."""
    recipe = methods.build(method, clip, CLASS_NAMES, **options)
    for begin in recipe.stages[-1].before:
        begin(recipe.adapter)
    generator = torch.Generator().manual_seed(1)
    for p in recipe.adapter.trainable().values():
        p.data.add_(0.05 * torch.randn(p.shape, generator=generator))
    return recipe


class StopAfter:
    """A progress that raises after some steps, as a crash would."""

    def __init__(self, steps):
        self.left = steps

    def start(self, total, done):
        self.total = total

    def advance(self, description):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def say(self, line, minor=False):
        pass

    def close(self):
        pass


def answers(adapter, images, seen=True):
    with adapter.evaluating(), torch.no_grad():
        return adapter.for_texts(CLASS_NAMES, seen=seen)(Batch.of(images)).logits


@pytest.mark.parametrize("host", HOSTS)
def test_with_weight_zero_it_is_the_host_and_with_one_the_parallel_prompt(host, tiny_clip, images):
    adapter = opened(f"{host}+dpc", tiny_clip).adapter
    dual = adapter.prompt
    alone = {}
    for name in ("tuned", "parallel"):
        part: Prompt = getattr(dual, name)
        alone[name] = answers(adapter.with_prompt(part.eval()), images)
    assert not torch.equal(alone["tuned"], alone["parallel"])
    torch.testing.assert_close(answers(adapter, images, seen=False), alone["tuned"])
    for weight, name in ((0.0, "tuned"), (1.0, "parallel")):
        dual.weight = weight
        torch.testing.assert_close(answers(adapter, images), alone[name])
    dual.weight = None
    dual.base_weight = 0.0
    torch.testing.assert_close(answers(adapter, images), alone["tuned"])


@pytest.mark.parametrize("host", HOSTS)
def test_the_second_stage_begins_at_the_tuned_prompt_and_trains_as_many_values(host, tiny_clip, images):
    recipe = methods.build(f"{host}+dpc", tiny_clip, CLASS_NAMES)
    before = sum(p.numel() for n, p in recipe.adapter.trainable().items() if ".maps." not in n)
    tuned = answers(recipe.adapter, images)
    for begin in recipe.stages[-1].before:
        begin(recipe.adapter)
    torch.testing.assert_close(answers(recipe.adapter, images), tuned)
    names = recipe.adapter.trainable()
    assert all(name.startswith("prompt.parallel.") for name in names)
    assert sum(p.numel() for p in names.values()) == before


def test_counts_match_the_paper():
    assert methods.count_learnables("coop+dpc", OPENAI_CONFIGS["ViT-B/16"], n_ctx=16, words="") == 8_192


def test_conditioned_tokens_are_mixed_with_two_meta_nets(tiny_clip):
    adapter = opened("cocoop+dpc", tiny_clip).adapter.eval()
    dual, features = adapter.prompt, torch.nn.functional.normalize(torch.randn(3, 1, 16), dim=-1)
    got = dual(True).text_given(features).tokens[0]
    h = lambda prompt: prompt.meta(features).mean(dim=1)[:, None, None]
    tuned = dual.tuned.layers[0]() + h(dual.tuned)
    parallel = dual.parallel.layers[0]() + h(dual.parallel)
    torch.testing.assert_close(got, 0.2 * parallel + 0.8 * tuned)


def test_low_rank_restarts_on_the_merged_matrix(tiny_clip):
    recipe = methods.build("coop+rlp+dpc", tiny_clip, CLASS_NAMES, rlp_rank=2)
    dual = recipe.adapter.prompt
    tuned = dual.tuned.layers[0]
    tuned.left.data.normal_()
    dual.open()
    parallel = dual.parallel.layers[0]
    assert isinstance(parallel, LowRank)
    assert torch.equal(parallel.start, tuned.merged())
    assert torch.equal(parallel.right, torch.zeros_like(parallel.right))
    parallel.right.data.normal_()
    change = dual.eval()().text.tokens[0] - tuned.merged()
    torch.testing.assert_close(change, 0.2 * parallel.left @ parallel.right, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(change.detach(), atol=1e-5) == 2


def test_cloned_factors_go_on_from_the_tuned_ones(tiny_clip):
    """P' = P_0 + A' B' beside P = P_0 + A B, so that their difference may have rank 2 r."""
    dual = methods.build("coop+rlp+dpc", tiny_clip, CLASS_NAMES, dpc_factors="clone").adapter.prompt
    tuned = dual.tuned.layers[0]
    tuned.left.data.normal_()
    dual.open()
    parallel = dual.parallel.layers[0]
    for name in ("start", "left", "right"):
        assert torch.equal(getattr(parallel, name), getattr(tuned, name))
    parallel.left.data.normal_()
    parallel.right.data.normal_()
    change = dual.eval()().text.tokens[0].detach() - tuned.start
    expected = 0.8 * tuned.left @ tuned.right + 0.2 * parallel.left @ parallel.right
    torch.testing.assert_close(change, expected.detach(), rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(change, atol=1e-5) == 2


def test_mixing_after_the_norm_gives_no_weight_to_length(tiny_clip, images):
    adapter = opened("ivlp+dpc", tiny_clip, depth_text=3, depth_image=2, dpc_mix="ln", dpc_base_weight=0.5).adapter
    dual = adapter.eval().prompt
    # 4 text blocks, 3 image blocks: tokens that new ones follow, or of the last block, are read by a norm only.
    assert dual.normalised == {"text": {1}, "image": {0}}
    before = adapter.logits(images)
    with torch.no_grad():
        for tower, layer in (("text", 1), ("image", 0)):
            # A LayerNorm does not see this: twice as long, and moved by a constant.
            value = dual.parallel.parts[tower].layers[layer].value
            value.mul_(2).add_(0.3)
    torch.testing.assert_close(adapter.logits(images), before, rtol=0.01, atol=0.1)
    norm = tiny_clip.text.transformer.resblocks[1].ln_1
    a, b = (part.parts["text"].layers[1].value for part in (dual.tuned, dual.parallel))
    plain = torch.nn.functional.layer_norm
    expected = plain((plain(a, (24,)) + plain(b, (24,))) / 2, (24,), norm.weight, norm.bias)
    # But for the constant under the root, which counts where values are as small as at the start.
    torch.testing.assert_close(norm(dual().text.tokens[1]), expected, rtol=0.0, atol=0.05)
    for weight, part in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(mix_normalised(a, b, weight), part)


@pytest.mark.parametrize("host", ["coop", "maple", "cocoop"])
def test_negatives_follow_their_image_and_are_training_images(host, tiny_clip):
    recipe = methods.build(f"{host}+dpc", tiny_clip, CLASS_NAMES)
    adapter, stage = recipe.adapter, recipe.stages[-1]
    for begin in stage.before:
        begin(adapter)
    generator = torch.Generator().manual_seed(3)
    pictures, labels = torch.rand(20, 3, 32, 32, generator=generator), torch.arange(20) % 5

    class Pool:
        random = Random(5)

        def __call__(self, positions):
            index = torch.tensor(positions)
            return Batch(pictures[index], labels[index], index)

        def embedding(self, batch):
            return None

    pool = Pool()
    pool.labels = labels
    anchors = torch.tensor([3, 10])
    batch = stage.sampler(adapter.train(), Batch(pictures[anchors], labels[anchors], anchors), pool)
    assert torch.equal(batch.images, pictures[batch.index])
    assert torch.equal(batch.labels, labels[batch.index])
    assert batch.index[~batch.added].tolist() == anchors.tolist()
    first, second = (batch.index == 3).nonzero().item(), (batch.index == 10).nonzero().item()
    assert first == 0
    assert second > 1
    scores = answers(adapter.with_prompt(adapter.prompt.tuned), pictures[anchors])
    hardest = [c for c in scores[0].argsort(descending=True).tolist() if c not in (3, 0)]
    assert batch.labels[1:second].tolist() == hardest[: second - 1]
    assert len(set(batch.labels.tolist())) == len(batch)
    out = adapter(batch)
    loss, _ = stage.objective(out, batch, 0.0)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in adapter.trainable().values())


def test_a_teacher_says_what_is_hard_and_the_projector_stays(tiny_clip):
    recipe = methods.build("promptkd+dpc", tiny_clip, CLASS_NAMES)
    assert recipe.stages[1].sampler.scores == recipe.stages[0].objective.logits
    recipe.adapter.prompt.open()
    assert recipe.adapter.trainable()
    assert not [name for name in recipe.adapter.trainable() if "projector" in name]


@pytest.mark.parametrize("mode", ["paper", "converse"])
def test_a_fresh_start_keeps_the_maps_of_the_tuned_prompt(mode, tiny_clip):
    recipe = methods.build("maple+dpc", tiny_clip, CLASS_NAMES, depth=2, dpc_start="fresh", dpc_mode=mode)
    dual = recipe.adapter.prompt
    generator = torch.Generator().manual_seed(1)
    for p in dual.tuned.parameters():  # what the first stage learns
        p.data.add_(0.1 * torch.randn(p.shape, generator=generator))
    began = {name: value.clone() for name, value in dual.parallel.named_parameters()}
    dual.open()
    for name, value in dual.parallel.named_parameters():
        tuned = dual.tuned.get_parameter(name)
        if name.startswith("maps."):
            assert torch.equal(value, tuned)
            assert not value.requires_grad
        else:
            expected = began[name] if mode == "paper" else torch.lerp(tuned, began[name], dual.base_weight)
            torch.testing.assert_close(value, expected)
            assert value.requires_grad


def test_maps_are_trained_only_where_prompts_are_coupled(tiny_clip):
    for host in ("coop", "promptkd"):
        with pytest.raises(ValueError, match="dpc_train_maps is for hosts whose prompts are coupled by maps"):
            methods.build(f"{host}+dpc", tiny_clip, CLASS_NAMES, dpc_train_maps=True)
    recipe = methods.build("promptkd+dpc", tiny_clip, CLASS_NAMES)
    assert not any("maps" in words for words in recipe.remarks)


def test_any_of_the_trained_classes_are_trained_ones(tiny_clip):
    adapter = opened("coop+dpc", tiny_clip).adapter
    assert adapter.set_classes(CLASS_NAMES[::-1]).seen
    assert adapter.set_classes(CLASS_NAMES[1:3]).seen
    assert not adapter.set_classes((*CLASS_NAMES[:2], "lynx")).seen
    assert adapter.set_classes(("lynx",), seen=True).seen
    adapter.prompt.weight = 1.5
    with pytest.raises(ValueError, match="must be between 0 and 1, got 1.5"), torch.no_grad(), adapter.evaluating():
        adapter.prompt(seen=True)


def test_an_image_without_a_label_is_refused(tiny_clip, images):
    recipe = opened("coop+dpc", tiny_clip)
    with pytest.raises(ValueError, match="has no label"):
        recipe.stages[1].sampler(recipe.adapter, Batch.of(images), None)


def test_one_command_runs_both_stages_and_the_file_holds_both_prompts(tiny_clip, tmp_path, images):
    recipe = methods.build("coop+dpc", tiny_clip, NAMES, **SHORT)
    run = fit(recipe, squares(), tmp_path / "run", progress="silent")
    assert [line["stage"] for line in run.metrics] == ["train", "train", "dpc", "dpc"]
    saved = run.adapter.learnables()
    assert set(saved) == {"prompt.opened", "prompt.tuned.layers.0.value", "prompt.parallel.layers.0.value"}
    assert saved["prompt.opened"]
    again = methods.build("coop+dpc", tiny_clip, NAMES, **SHORT).adapter.load_learnables(saved)
    assert torch.equal(again.logits(images), run.adapter.logits(images))
    assert set(again.trainable()) == {"prompt.parallel.layers.0.value"}


@pytest.mark.parametrize(("host", "select"), [("coop", "last"), ("maple", "val"), ("promptsrc", "last")])
def test_the_first_stage_is_the_hosts_own_training(host, select, tiny_clip):
    """Bit for bit, also where epochs are averaged or chosen."""
    options = {"epochs": 3, "batch_size": 4, "seed": 3}
    alone = methods.build(host, tiny_clip, NAMES, **options)
    dual = methods.build(f"{host}+dpc", tiny_clip, NAMES, dpc_epochs=1, **options)
    for recipe in (alone, dual):
        fit(recipe, squares(), progress="silent", select=select)
    tuned = dual.adapter.prompt.tuned.state_dict()
    for name, value in alone.adapter.prompt.state_dict().items():
        assert torch.equal(tuned[name], value), name


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("method", ["coop+dpc", "coop+rlp+dpc"])
def test_a_run_resumed_anywhere_ends_in_the_same_bits(method, views, tiny_clip, tmp_path):
    build = lambda: methods.build(method, tiny_clip, NAMES, **SHORT)
    whole = fit(build(), squares(), progress="silent", views=views).adapter.learnables()
    # 18 images: 4 steps per epoch in the first stage, 6 in the second.
    for steps in (3, 8, 9, 14, 20):
        folder = tmp_path / f"{steps}"
        with pytest.raises(KeyboardInterrupt):
            fit(build(), squares(), folder, progress=StopAfter(steps), save_every=0, views=views)
        resumed = fit(build(), squares(), folder, progress="silent", views=views).adapter.learnables()
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items()), steps


def test_a_class_specific_prompt_speaks_of_trained_classes_only(tiny_clip):
    recipe = methods.build("coop+dpc", tiny_clip, CLASS_NAMES, class_specific=True)
    assert any("trained classes only" in remark for remark in recipe.remarks)
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        recipe.adapter.set_classes(["lynx", "puma"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dpc_base_weight": 1.2}, "must be between 0 and 1, got 1.2"),
        ({"dpc_new_weight": -0.1}, "must be between 0 and 1, got -0.1"),
        ({"dpc_negatives": 6}, "between 2 and the number of classes, 5, got 6"),
        ({"dpc_negatives": 1}, "between 2 and the number of classes, 5, got 1"),
        ({"dpc_mode": "simple"}, "dpc_mode must be one of paper"),
        ({"dpc_mode": "converse", "dpc_base_weight": 0.0}, "must be above 0"),
        ({"dpc_mix": "norm"}, "dpc_mix must be one of raw, ln"),
        ({"dpc_mix": "ln", "dpc_mode": "released"}, "Use dpc_mode='paper'"),
        ({"dpc_mix": "ln"}, "this host has none"),
        ({"dpc_factors": "old"}, "dpc_factors must be one of new, clone"),
    ],
)
def test_bad_options_are_explained(options, sentence, tiny_clip):
    with pytest.raises(ValueError, match=sentence):
        methods.build("coop+dpc", tiny_clip, CLASS_NAMES, **options)


def test_hosts_that_cannot_be_mixed_say_why(tiny_clip):
    for host in ("zeroshot", "linear_probe"):
        with pytest.raises(ValueError, match="trains no prompt"):
            methods.build(f"{host}+dpc", tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="mixes parameters"):
        methods.build("coop+rlp+dpc", tiny_clip, CLASS_NAMES, dpc_start="fresh", dpc_mode="converse")


@pytest.mark.parametrize("host", ["coop", "promptsrc"])
def test_the_controls_train_on_random_classes_and_by_cross_entropy(host, tiny_clip):
    learned = {}
    for options in ({}, {"dpc_sampler": "random"}, {"dpc_loss": "ce"}):
        run = fit(methods.build(f"{host}+dpc", tiny_clip, NAMES, **SHORT, **options), squares(), progress="silent")
        learned[str(options)] = torch.cat([p.flatten() for p in run.adapter.prompt.parallel.state_dict().values()])
    plain, random, ce = learned.values()
    assert not torch.equal(plain, ce)
    assert not torch.equal(random, ce)
    recipe = methods.build(f"{host}+dpc", tiny_clip, NAMES, **SHORT, dpc_loss="ce")
    assert recipe.stages[-1].objective.weights["plain"]
    with pytest.raises(ValueError, match="pairs of the contrast"):
        methods.build("coop+dpc", tiny_clip, NAMES, dpc_loss="ce", dpc_duplicates="mask")
    with pytest.raises(ValueError, match="dpc_loss must be one of contrast, ce"):
        methods.build("coop+dpc", tiny_clip, NAMES, dpc_loss="kl")

"""Adapters with add-ons, written as released checkpoints of their hosts and read from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cliptune.batch import Batch
from cliptune.interop import from_published, read_published, to_published
from cliptune.registry import build
from tests.conftest import CLASS_NAMES


def moved(method, clip, **options):
    """An adapter whose learnables are all off their start, DPC in its second stage."""
    adapter = build(method, clip, CLASS_NAMES, **options).adapter
    shift = lambda: [p.data.add_(0.1 * torch.randn_like(p)) for p in adapter.parameters() if p.requires_grad]
    shift()
    if "dpc" in method:
        adapter.prompt.open()
        shift()
    return adapter.eval()


@pytest.mark.parametrize(
    "method", ["coop+dpc", "coop+rlp", "ivlp+rlp+dpc", "maple+dpc", "kgcoop+dapt", "promptsrc+rlp"]
)
def test_the_host_alone_gives_the_same_answers(method, tiny_clip, images):
    adapter = moved(method, tiny_clip)
    host = method.split("+")[0]
    for seen in (True, False):
        tensors = to_published(method, adapter, seen=seen)
        plain = from_published(host, tensors, tiny_clip, CLASS_NAMES).adapter
        adapter.set_classes(CLASS_NAMES, seen=seen)
        torch.testing.assert_close(plain.logits(images), adapter.logits(images), rtol=1e-4, atol=1e-4)
    assert adapter.prompt is not plain.prompt


@pytest.mark.parametrize(("mode", "weight"), [("paper", 0.3), ("converse", 1 / 0.3), ("released", 1.0)])
def test_the_mixed_context_is_the_formulas(mode, weight, tiny_clip):
    adapter = moved("coop+dpc", tiny_clip, dpc_mode=mode, dpc_base_weight=0.3, dpc_new_weight=0.1)
    tuned, stored = (next(part.parameters()).detach() for part in (adapter.prompt.tuned, adapter.prompt.parallel))
    base = to_published("coop+dpc", adapter)["ctx"]
    torch.testing.assert_close(base, weight * stored + (1 - weight) * tuned)
    new = to_published("coop+dpc", adapter, seen=False)["ctx"]
    weight = 0.1 / 0.3 if mode == "converse" else 0.1
    torch.testing.assert_close(new, weight * stored + (1 - weight) * tuned)


STACKS = {
    "coop+rlp": {"rlp_rank": 2},
    "ivlp+rlp": {"rlp_shared": True},
    "maple+dapt": {"n_ctx": 3, "dapt_words": 3},
    "kgcoop+rlp+dapt": {},
    "cocoop+rlp": {},
    "maple+bias": {"bias_depth": 2},
    "vpt+bias": {"bias_sites": "mlp_out"},
    "promptkd+bias+rlp": {"bias_towers": "image"},
    "ar+rlp": {"inner": 25},
    "coop+dept": {"dept_fusion": "paper"},
    "maple+rlp+dept": {"dept_fusion": "paper"},
    "ivlp+bias+dept": {"dept_fusion": "paper"},
    "coop+atprompt": {"atprompt_attributes": ("function",), "atprompt_tokens": 3},
    "cocoop+atprompt": {"n_ctx": 3, "words": ""},
    "maple+atprompt": {"n_ctx": 3, "words": ""},
    "coop+textrefiner": {"textrefiner_slots": 7},
    "maple+textrefiner": {},
}


@pytest.mark.parametrize("method", STACKS)
def test_a_stack_reads_what_it_wrote_and_answers_the_same(method, tiny_clip, images):
    options = STACKS[method]
    adapter = moved(method, tiny_clip, **options)
    recipe = from_published(method, to_published(method, adapter), tiny_clip, CLASS_NAMES, **options)
    torch.testing.assert_close(recipe.adapter.logits(images), adapter.logits(images), rtol=1e-4, atol=1e-4)
    assert recipe.adapter.learnables().keys() == adapter.learnables().keys()
    assert recipe.adapter.trainable().keys() == adapter.trainable().keys()
    # It can be trained on: no matrix is stuck between two factors that are zero.
    batch = Batch.of(images, torch.tensor([0, 1, 2]))
    objective = recipe.stages[0].objective
    loss, _ = objective(recipe.adapter.train()(batch, needs=objective.needs), batch, 0.0)
    grads = torch.autograd.grad(loss, recipe.adapter.trainable().values(), allow_unused=True)
    assert any(grad is not None and grad.any() for grad in grads)


@pytest.mark.parametrize("mode", ["paper", "converse", "released", "mixed_forward"])
@pytest.mark.parametrize("host", ["coop", "maple", "ivlp+rlp", "vpt+bias", "cocoop"])
def test_dpc_is_read_from_its_two_files(host, mode, tiny_clip, images):
    method, options = f"{host}+dpc", {"dpc_mode": mode, "dpc_base_weight": 0.3, "dpc_new_weight": 0.1}
    adapter = moved(method, tiny_clip, **options)
    tuned, parallel = (to_published(method, adapter, part=part) for part in ("tuned", "parallel"))
    again = from_published(method, parallel, tiny_clip, CLASS_NAMES, tuned=tuned, **options).adapter
    for seen in (True, False):
        adapter.set_classes(CLASS_NAMES, seen=seen)
        again.set_classes(CLASS_NAMES, seen=seen)
        torch.testing.assert_close(again.logits(images), adapter.logits(images), rtol=1e-4, atol=1e-4)
    assert again.trainable().keys() == adapter.trainable().keys()


def test_dpc_from_the_release_scores_as_the_release_does(tiny_clip):
    tuned, stored = {"ctx": torch.randn(4, 24)}, {"ctx": torch.randn(4, 24)}
    recipe = from_published("coop+dpc", stored, tiny_clip, CLASS_NAMES, tuned=tuned, dpc_new_weight=0.2)
    assert recipe.config["dpc_mode"] == "released"
    dual = recipe.adapter.prompt.eval()
    assert torch.equal(dual(seen=True).text.tokens[0], stored["ctx"])
    torch.testing.assert_close(dual(seen=False).text.tokens[0], 0.2 * stored["ctx"] + 0.8 * tuned["ctx"])


def test_low_rank_starts_over_a_released_prompt(tiny_clip):
    ctx = torch.randn(4, 24)
    read = lambda: from_published("coop+rlp", {"ctx": ctx}, tiny_clip, CLASS_NAMES, rlp_rank=2).adapter
    matrix = read().prompt.layers[0]
    assert torch.equal(matrix.start, ctx)
    assert not matrix.right.any()
    assert torch.equal(matrix.left, read().prompt.layers[0].left), "the same seed draws the same factors"


def test_biases_of_a_checkpoint_are_what_its_towers_have_beyond_the_frozen_ones(tiny_clip):
    plain = to_published("ivlp", moved("ivlp", tiny_clip))
    name = "text_encoder.transformer.resblocks.1.attn.out_proj.bias"
    frozen = tiny_clip.text.transformer.resblocks[1].attn.out_proj.bias.detach()
    added = torch.randn(24)
    read = lambda state, **options: from_published("ivlp+bias", state, tiny_clip, CLASS_NAMES, **options).adapter
    bias = read(plain | {name: frozen + added}).prompt().text.bias
    torch.testing.assert_close(bias[1, "attn_out", "all"], added)
    assert not any(value.any() for key, value in bias.items() if key != (1, "attn_out", "all"))
    assert not any(value.any() for value in read(plain | {name: frozen}).prompt().text.bias.values())
    with pytest.raises(ValueError, match="does not tell what each group of tokens had"):
        read(plain | {name: frozen + added}, bias_groups="split")


def test_files_that_do_not_go_with_the_method_are_refused(tiny_clip):
    ctx = {"ctx": torch.randn(4, 24)}
    with pytest.raises(ValueError, match="keeps the tuned and the parallel prompt in two files"):
        from_published("coop+dpc", ctx, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="belongs to dpc, and the method is 'coop\\+rlp'"):
        from_published("coop+rlp", ctx, tiny_clip, CLASS_NAMES, tuned=ctx)
    with pytest.raises(ValueError, match="missing .*prompt_learner.proj.bias"):
        from_published("maple+rlp", ctx, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="only dpc has a tuned prompt"):
        to_published("coop", moved("coop", tiny_clip), part="tuned")
    unopened = build("coop+dpc", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match="has not begun"):
        to_published("coop+dpc", unopened, part="parallel")


def test_what_does_not_fold_is_refused(tiny_clip):
    with pytest.raises(ValueError, match="what bias learns has no place in a released checkpoint of coop"):
        to_published("coop+bias", moved("coop+bias", tiny_clip))
    with pytest.raises(ValueError, match="differ between groups of tokens"):
        to_published("vpt+bias", moved("vpt+bias", tiny_clip, bias_groups="split"))
    with pytest.raises(ValueError, match="maps cannot be mixed"):
        to_published("maple+dpc", moved("maple+dpc", tiny_clip, dpc_train_maps=True))
    with pytest.raises(ValueError, match="no prompt of the host is that mixture"):
        to_published("ivlp+dpc", moved("ivlp+dpc", tiny_clip, dpc_mix="ln"))


def test_a_second_head_is_read_from_its_release():
    from tests.golden.reference import golden, reference_batch, reference_clip

    stored = golden("dept")[1]
    tensors = {name.removeprefix("after/"): value for name, value in stored.items() if name.startswith("after/")}
    names = [f"class {i}" for i in range(7)]
    recipe = from_published(
        "coop+dept", {f"module.{k}": v for k, v in tensors.items()}, reference_clip("vit_small"), names
    )
    assert "dept_fusion was left out" in " ".join(recipe.notes)
    written = to_published("coop+dept", recipe.adapter)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in written.items())
    assert recipe.adapter(reference_batch()).logits.isfinite().all()
    with pytest.raises(ValueError, match="missing film_lp_img.bias"):
        from_published("coop+dept", {"ctx": tensors["prompt_learner.ctx"]}, recipe.adapter.clip, names)
    with pytest.raises(ValueError, match="must have shape"):
        from_published("coop+dept", tensors, recipe.adapter.clip, names[:3])


@pytest.mark.parametrize(
    ("add_on", "missing"), [("atprompt", "prompt_learner.ctx_att1"), ("textrefiner", "Memory.extractor.weight")]
)
def test_a_file_of_the_host_alone_is_refused(add_on, missing, tiny_clip):
    tensors = to_published("coop", moved("coop", tiny_clip))
    with pytest.raises(ValueError, match=rf"missing {missing}.* Read it as one of the host alone, coop"):
        from_published(f"coop+{add_on}", tensors, tiny_clip, CLASS_NAMES)


def test_a_released_atprompt_file_tells_its_words(tiny_clip, tmp_path):
    """As trainers/coop_atp.py writes it: three sets of tokens whatever their number, and embeddings of the words."""
    table = tiny_clip.text.token_embedding.weight.detach()
    rows = {word: table[tiny_clip.tokenize([word]).ids[0, 1]] for word in ("habitat", "color")}
    state = {f"ctx_att{i}": torch.randn(4, 24) for i in (1, 2, 3)} | {"ctx": torch.randn(4, 24)}
    state |= {"token_prefix": torch.zeros(5, 1, 24), "token_suffix": torch.zeros(5, 60, 24)}
    state |= {f"token_middle{i + 1}": rows[word].expand(5, 1, 24).clone() for i, word in enumerate(rows)}
    torch.save({"state_dict": state, "epoch": 10, "val_result": None}, tmp_path / "model-best.pth.tar")
    recipe = from_published("coop+atprompt", read_published(tmp_path / "model-best.pth.tar"), tiny_clip, CLASS_NAMES)
    assert recipe.config["atprompt_attributes"] == ("habitat", "color")
    tokens = recipe.adapter.prompt().text.tokens[0]
    assert torch.equal(tokens, torch.cat([state["ctx_att1"], state["ctx_att2"], state["ctx"]]))
    written = to_published("coop+atprompt", recipe.adapter)
    assert all(torch.equal(value, state[name]) for name, value in written.items())
    state["token_middle1"] = torch.randn(5, 1, 24)
    with pytest.raises(ValueError, match=r"no word of one token .* Give the words"):
        from_published("coop+atprompt", state, tiny_clip, CLASS_NAMES)
    given = from_published("coop+atprompt", state, tiny_clip, CLASS_NAMES, atprompt_attributes=("habitat", "color"))
    assert torch.equal(given.adapter.prompt().text.tokens[0], tokens)


def test_textrefiner_is_read_from_its_two_files(tiny_clip, images, tmp_path):
    """As trainers/textrefiner.py writes them; the answer is its formula."""
    ctx, cache, extractor = torch.randn(4, 24), F.normalize(torch.randn(7, 16), dim=-1), torch.randn(16, 32)
    maps = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1))
    model = {f"mid_image_trans.conv1.{name}": value for name, value in maps.state_dict().items()}
    model |= {"prompt_learner.ctx": ctx, "prompt_learner.tokenized_prompts": torch.zeros(5, 77, dtype=torch.int64)}
    torch.save({"state_dict": model, "epoch": 10}, tmp_path / "model")
    torch.save({"memory_item": cache, "state_dict": {"extractor.weight": extractor}, "epoch": 10}, tmp_path / "memory")
    tensors = read_published(tmp_path / "model") | read_published(tmp_path / "memory")
    adapter = from_published("coop+textrefiner", tensors, tiny_clip, CLASS_NAMES).adapter.eval()
    plain = from_published("coop", {"ctx": ctx}, tiny_clip, CLASS_NAMES).adapter.eval()
    text = plain.text_features()[0]
    read = (text @ cache.T).softmax(dim=-1) @ cache
    refined = text + 0.2 * torch.cat([text, read], dim=-1) @ extractor.T
    features = F.normalize(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0], dim=-1)
    torch.testing.assert_close(adapter.logits(images), tiny_clip.scale * features @ refined.T, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"missing Memory.*--memory"):
        from_published("coop+textrefiner", read_published(tmp_path / "model"), tiny_clip, CLASS_NAMES)


def test_what_a_release_writes_beside_the_host_is_joined_with_nothing_else(tiny_clip):
    adapter = build("coop+atprompt+dpc", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match=r"dpc joined to it is in no release. Use coop\+atprompt"):
        to_published("coop+atprompt+dpc", adapter)
    with pytest.raises(ValueError, match=r"rlp joined to it is in no release. Use coop\+textrefiner"):
        from_published("coop+rlp+textrefiner", {"ctx": torch.zeros(4, 24)}, tiny_clip, CLASS_NAMES)

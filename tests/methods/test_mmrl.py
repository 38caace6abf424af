"""MMRL and MMRL++ against their releases, and who answers for which classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import interop
from cliptune.analysis import record
from cliptune.clip import TowerPorts
from cliptune.registry import build
from cliptune.registry.building import find
from cliptune.runs import load_adapter
from cliptune.texts import ClassSet
from cliptune.training import fit
from cliptune.training.optim import build_optimiser, set_rate
from tests.golden.reference import assert_equals, golden, published_start, reference_batch, reference_clip
from tests.training.support import NAMES, few

METHODS = ("mmrl", "mmrl_plus_plus")


@pytest.mark.parametrize("method", METHODS)
def test_answers_loss_gradients_and_steps_are_the_releases(method):
    """The stored values are of the releases' own CustomCLIP and loss (trainers/mmrl.py, trainers/mmrlpp.py), run on the
    CPU in float32 on random weights, with two steps of AdamW."""
    meta, stored = golden(method)
    given = meta["cases"]["small"]
    classes = ClassSet(tuple(meta["classnames"]), given["template"])
    options = {"first": given["first"], "alpha": given["alpha"], "weight": given["weight"]}
    if method == "mmrl_plus_plus":
        options["beta"] = given["beta"]
    start, clip = published_start(method, "small"), reference_clip(given["arch"])
    # A released checkpoint also holds the frozen CLIP, and the word embeddings of its classes.
    start |= {"prompt_embeddings": torch.zeros(7, 77, 512), "image_encoder.proj": clip.image.proj.detach()}
    recipe = interop.from_published(method, start, clip, classes, **options)
    assert "2 tensors that are no learnables were left out" in recipe.notes[0]
    adapter, batch, stage = recipe.adapter, reference_batch(), recipe.stages[0]
    names = {name: find(method).published_name(name) for name in adapter.learnables()}
    optimiser = build_optimiser(stage.optimiser, adapter.trainable())
    set_rate(optimiser, given["lr"])
    for step in (1, 2):
        out = adapter(batch, needs=stage.objective.needs)
        loss, _ = stage.objective(out, batch, 0.0)
        assert_equals(loss, stored, "small/loss" if step == 1 else "small/loss_step2")
        optimiser.zero_grad()
        loss.backward()
        if step == 1:
            assert_equals(out.similarity[:, 0], stored, "small/logits")
            assert_equals(out.similarity[:, 1], stored, "small/logits_rep")
            assert_equals(out.logits, stored, "small/logits_fusion")
            for name, parameter in adapter.trainable().items():
                assert_equals(parameter.grad, stored, f"small/grad/{names[name]}")
        optimiser.step()
    for name, value in interop.to_published(method, adapter).items():
        # A first step of Adam is as long for a gradient that is all rounding.
        assert_equals(value, stored, f"small/step2/{name}", tolerance=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_fast_text_path_is_the_plain_one(method, tiny_clip, images):
    adapter = build(method, tiny_clip, NAMES, n_tokens=3, dim=6).adapter
    ports = adapter.prompt()
    texts = tiny_clip.tokenize(["a photo of a cat.", "a photo of a red panda in the snow.", "lynx"])
    fast, image = tiny_clip.encode_text(texts, ports.text), tiny_clip.encode_image(images[:, None], ports.image)
    tiny_clip.text.plain = tiny_clip.image.plain = True
    try:
        torch.testing.assert_close(tiny_clip.encode_text(texts, ports.text), fast, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tiny_clip.encode_image(images[:, None], ports.image), image, rtol=1e-4, atol=1e-5)
    finally:
        tiny_clip.text.plain = tiny_clip.image.plain = False
    assert image.shape == (3, 2, 16)
    assert not torch.equal(fast, tiny_clip.encode_text(texts))


def test_inserted_rows_stand_beside_tokens_and_per_class(tiny_clip, images):
    """Rows of one class, and tokens of a host that enter earlier: the plain path, block by block, says the same."""
    draw = torch.Generator().manual_seed(3)
    rows = {layer: torch.randn(2, 24, generator=draw) for layer in (1, 2)}
    alone = TowerPorts(inserted=rows, flow=0.3)
    each = TowerPorts(inserted={layer: value.expand(2, -1, -1) for layer, value in rows.items()}, flow=0.3)
    texts = tiny_clip.tokenize(["a cat", "a photo of a red panda"])
    torch.testing.assert_close(
        tiny_clip.encode_text(texts, each), tiny_clip.encode_text(texts, alone), rtol=1e-4, atol=1e-5
    )
    tokens = {layer: torch.randn(3, 40, generator=draw) for layer in (0, 1, 2)}
    both = TowerPorts(tokens, inserted={1: torch.randn(2, 40, generator=draw)})
    fast = tiny_clip.encode_image(images[:, None], both)
    tiny_clip.image.plain = True
    try:
        torch.testing.assert_close(tiny_clip.encode_image(images[:, None], both), fast, rtol=1e-4, atol=1e-5)
    finally:
        tiny_clip.image.plain = False
    other = TowerPorts(tokens, inserted={1: torch.zeros(2, 40)})
    assert not torch.allclose(tiny_clip.encode_image(images[:, None], other), fast)


@pytest.mark.parametrize("method", METHODS)
def test_trained_classes_are_answered_by_both_read_outs(method, tiny_clip, images):
    adapter = build(method, tiny_clip, NAMES, alpha=0.6).adapter
    ports = adapter.prompt()
    embedding = tiny_clip.encode_image(tiny_clip.normalise(images)[:, None], ports.image)
    for classes, alpha in ((NAMES, 0.6), (NAMES[:2], 0.6), (("lynx", NAMES[0]), 1.0)):
        asked = adapter.for_texts(classes)
        sentences = [asked.classes.template.format(name) for name in classes]
        text = tiny_clip.encode_text(tiny_clip.tokenize(sentences), ports.text)[0]
        expected = torch.zeros(3, len(classes))
        for b in range(3):
            for c in range(len(classes)):
                scores = [F.cosine_similarity(embedding[b, r], text[c], dim=0) for r in (0, 1)]
                expected[b, c] = tiny_clip.scale * (alpha * scores[0] + (1 - alpha) * scores[1])
        torch.testing.assert_close(asked.logits(images), expected.detach(), rtol=1e-3, atol=1e-3)
    unit = F.normalize(embedding, dim=-1)
    torch.testing.assert_close(adapter.fold()(unit), adapter.logits(images), rtol=1e-4, atol=1e-3)
    new = adapter.for_texts(("lynx", "puma"))
    torch.testing.assert_close(new.fold()(unit), new.logits(images), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_read_back(method, tiny_clip, tmp_path, images):
    recipe = build(method, tiny_clip, NAMES, epochs=2, dim=7, n_tokens=2)
    run = fit(recipe, few((2, 2, 2), 1), tmp_path / "run", progress="silent", log_prompts=True)
    opened = build(method, tiny_clip, NAMES, dim=7, n_tokens=2).adapter
    load_adapter(tmp_path / "run", opened)
    for classes in (NAMES, ("lynx", "puma")):
        assert torch.equal(opened.set_classes(classes).logits(images), run.adapter.set_classes(classes).logits(images))


def test_attention_is_recorded_by_name(tiny_clip, images):
    adapter = build("mmrl", tiny_clip, NAMES, first=1, n_tokens=2).adapter.eval()
    with torch.no_grad(), record(adapter, image=[0, 2], text=[0, 3]) as found:
        adapter.logits(images)
    assert found.attention["image", 2].query("cls").key("prompt").weights.shape[-1] == 2
    assert found.attention["text", 3].query("eot").key("prompt").weights.shape[-1] == 2
    assert found.attention["text", 0].mass("prompt").max() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_tokens": 0}, "n_tokens must be at least 1"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"alpha": 1.5}, "alpha must be between 0 and 1, got 1.5"),
        ({"weight": -1.0}, "weight must be a number of at least 0"),
        ({"first": 3}, "first must be a block from 0 to 2 of the image tower"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank_projection": 0}, "rank_projection must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_a_sentence(options, says, tiny_clip):
    with pytest.raises(ValueError, match=says):
        build("mmrl_plus_plus", tiny_clip, NAMES, **options)


def test_the_first_block_goes_with_the_depth(tiny_clip):
    recipe = build("mmrl", tiny_clip, NAMES)
    assert recipe.adapter.prompt.first == {"image": 1, "text": 1}
    assert "first was left out and is 1 of the 3 blocks of the image tower" in recipe.notes[0]


def test_a_resnet_has_no_place(tiny_resnet):
    with pytest.raises(ValueError, match="a ModifiedResNet, has no place for rows from a later block on. Use a ViT"):
        build("mmrl", tiny_resnet, NAMES)

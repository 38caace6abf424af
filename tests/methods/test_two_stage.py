"""2SFS against its release, and whom its classifier speaks of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.training import fit
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.schedules import learning_rate
from tests.golden.reference import golden, reference_batch, reference_clip
from tests.training.support import NAMES, few

KEYS = {
    "visual.transformer.resblocks.1.ln_2.weight": ("image", (1, "mlp", "scale")),
    "transformer.resblocks.0.ln_1.bias": ("text", (0, "attn", "shift")),
}
# In front of the first block and behind the last ones, which the release freezes.
STILL = {"visual.ln_pre.weight": "image.ln_pre.weight", "visual.ln_post.bias": "image.ln_post.bias"}


def test_both_stages_are_the_releases():
    """The stored values are of the release's own run_twostage (fs/twostage.py), run on the CPU in float32 on random
    weights: ten steps on two batches in turn, six of them for the LayerNorms, at a rate of 0.002."""
    stored, names = golden("two_stage")[1], golden("coop")[0]["classnames"]
    clip, batch = reference_clip("vit_small"), reference_batch()
    recipe = build("two_stage", clip, names, lr=2e-3, epochs=5)
    adapter, losses = recipe.adapter, iter(stored["losses"])
    assert [stage.epochs for stage in recipe.stages] == [3, 2]
    for stage in recipe.stages:
        for begin in stage.before:
            begin(adapter)
            torch.testing.assert_close(adapter.head.weight.detach(), stored["start"], rtol=1e-4, atol=1e-5)
        optimiser = build_optimiser(stage.optimiser, adapter.trainable())
        for epoch in range(stage.epochs):
            for step, part in enumerate((batch[:3], batch[3:])):
                set_rate(optimiser, learning_rate(stage.optimiser, epoch, stage.epochs, step, 2))
                loss, _ = stage.objective(adapter(part), part, 0.0)
                torch.testing.assert_close(loss.detach(), next(losses), rtol=1e-4, atol=1e-4)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    for key, (tower, place) in KEYS.items():
        value = adapter.prompt.towers[tower]()[adapter.prompt.places[tower].index(place)]
        torch.testing.assert_close(value.detach(), stored[key], rtol=1e-4, atol=2e-5)
    for key, name in STILL.items():
        assert torch.equal(clip.get_parameter(name), stored[key])
    torch.testing.assert_close(adapter.head.weight.detach(), stored["classifier"], rtol=1e-4, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(adapter(batch).logits, stored["logits"], rtol=1e-3, atol=5e-3)
        mixed = adapter.for_texts(["lynx", names[2], "puma"])
        torch.testing.assert_close(mixed(batch).logits, stored["mixed"], rtol=1e-3, atol=5e-3)


def test_moved_norms_are_other_weights(tiny_clip, images):
    """Every LayerNorm of both towers, on the fast and on the plain path, against the CLIP with other weights."""
    prompt = build("two_stage", tiny_clip, NAMES, ends=True).adapter.prompt
    assert {site for _, site, _ in prompt.places["image"]} == {"pre", "attn", "mlp", "post"}
    for matrix in prompt.towers.values():
        matrix.value.data.add_(0.1 * torch.randn_like(matrix.value))
    ports = prompt()
    texts, views = tiny_clip.tokenize([f"a photo of a {name}." for name in NAMES]), images[:, None]
    found = [tiny_clip.encode_image(views, ports.image), tiny_clip.encode_text(texts, ports.text)]
    kept = {name: value.clone() for name, value in tiny_clip.state_dict().items()}
    try:
        for tower in ("image", "text"):
            moved = getattr(ports, tower).norm
            for at, norm in getattr(tiny_clip, tower).norms.items():
                norm.weight.data.add_(moved[(*at, "scale")].detach())
                norm.bias.data.add_(moved[(*at, "shift")].detach())
        tiny_clip.text.plain = True
        expected = [tiny_clip.encode_image(views), tiny_clip.encode_text(texts)]
    finally:
        tiny_clip.text.plain = False
        tiny_clip.load_state_dict(kept)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_trained_classes_are_answered_by_the_classifier_in_any_company(tiny_clip, images):
    recipe = build("two_stage", tiny_clip, NAMES)
    adapter = recipe.adapter
    recipe.stages[1].before[0](adapter)
    adapter.head.weight.data.copy_(torch.randn_like(adapter.head.weight))
    embedding = adapter.clip.encode_image(adapter.clip.normalise(images)[:, None])[:, 0]
    own = adapter.logits(images)
    for b in range(3):
        for c in range(3):
            expected = tiny_clip.scale * F.cosine_similarity(embedding[b], adapter.head.weight[c].detach(), dim=0)
            assert own[b, c].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-2)
    torch.testing.assert_close(adapter.fold()(F.normalize(embedding, dim=-1)[:, None]), own, rtol=1e-4, atol=1e-3)
    zero_shot = build("zeroshot", tiny_clip, ("lynx", NAMES[1])).adapter.logits(images)
    mixed = adapter.for_texts(("lynx", NAMES[1])).logits(images)
    torch.testing.assert_close(mixed[:, 0], zero_shot[:, 0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(mixed[:, 1], own[:, 1], rtol=1e-4, atol=1e-3)


def test_the_second_stage_leaves_the_norms(tiny_clip, tmp_path, images):
    recipe = build("two_stage", tiny_clip, NAMES, epochs=3, lr=1e-2, batch_size=2)
    run = fit(recipe, few((2, 2, 2), 1), tmp_path / "run", progress="silent")
    adapter = run.adapter
    assert [line["stage"] for line in run.metrics] == ["norms", "norms", "classifier"]
    assert (
        run.result["learnables"] == sum(p.numel() for p in adapter.trainable().values()) > adapter.head.weight.numel()
    )
    assert adapter.head.opened
    assert adapter.prompt().image.norm[0, "attn", "scale"].abs().max() > 0
    opened = build("two_stage", tiny_clip, NAMES).adapter
    load_adapter(tmp_path / "run", opened)
    for classes in (NAMES, ("lynx", NAMES[0])):
        assert torch.equal(opened.set_classes(classes).logits(images), adapter.set_classes(classes).logits(images))


def test_steps_for_each_shot_become_epochs(tiny_clip):
    recipe = build("two_stage", tiny_clip, NAMES, steps_per_shot=300)
    assert [stage.epochs for stage in recipe.stages] == [1920, 1280]


def test_one_tower_alone(tiny_clip):
    assert set(build("two_stage", tiny_clip, NAMES, towers="image").adapter.prompt.towers) == {"image"}
    with pytest.raises(ValueError, match="two_stage: towers must be one of both, image, text, got 'all'"):
        build("two_stage", tiny_clip, NAMES, towers="all")
    with pytest.raises(ValueError, match="share must be above 0 and below 1, got 1.0"):
        build("two_stage", tiny_clip, NAMES, share=1.0)


def test_a_resnet_has_no_layer_norms(tiny_resnet):
    with pytest.raises(ValueError, match="a ModifiedResNet, has no place for changes of its LayerNorms. Use a ViT"):
        build("two_stage", tiny_resnet, NAMES)

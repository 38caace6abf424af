"""TextRefiner against its release, its cache written out with loops, and where it cannot be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.prompts.refiner import LocalCache
from cliptune.training.optim import build_optimiser, set_rate
from tests.conftest import CLASS_NAMES
from tests.golden import weights
from tests.golden.reference import golden, reference_batch, reference_clip

RELEASED = golden("textrefiner")[1]
NAMES = ("golden retriever", "forest", "Boeing 737-800", "red panda", "highway or road", "yawl", "lemon meringue pie")
LABELS = torch.tensor([0, 3, 1])
# In the order of the released names, conv1.0 to conv1.3 of its mid_image_trans.
DRAWN = [f"{layer}.{kind}" for layer in (0, 1, 3) for kind in ("bias", "weight")]


@pytest.fixture
def released():
    """CoOp with TextRefiner on the reference CLIP, with the values that its release was given."""
    recipe = methods.build("coop+textrefiner", reference_clip("vit_small"), NAMES, n_ctx=4, words="a photo of a")
    own = recipe.adapter.learnables()
    start = "prompt.parts.refiner."
    for i, name in enumerate(DRAWN):
        value = own[f"{start}local.{name}"]
        own[f"{start}local.{name}"] = weights.draw(value.shape, 0.04, 200 + i, 1.0 if name == "1.weight" else 0.0)
    own[f"{start}mix.weight"] = weights.draw((512, 1024), 0.03, 210)
    own[f"{start}cache"] = F.normalize(weights.draw((25, 512), 1.0, 211).abs(), dim=-1)
    recipe.adapter.load_learnables(own)
    return recipe


def near(actual, key, tolerance=3e-4):
    expected = RELEASED[key]
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max(), key


def test_training_and_answers_are_the_releases(released):
    """The stored values are of the release's own CustomCLIP and Memory (trainers/textrefiner.py): two steps of SGD."""
    adapter, stage, batch = released.adapter, released.stages[0], reference_batch()
    optimiser = build_optimiser(stage.optimiser, adapter.trainable())
    set_rate(optimiser, 2e-3)
    adapter.train()
    cache = adapter.prompt.parts["refiner"]
    for step, expected in enumerate(RELEASED["losses"]):
        loss, parts = stage.objective(adapter(batch, needs=stage.objective.needs), batch, 0.0)
        found = torch.stack([parts["ce"], parts["local"], parts["near"]]).detach()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            near(adapter.prompt.parts["host"].layers[0].value.grad, "grad/ctx", 1e-3)
            near(cache.local[1].weight.grad, "grad/bn", 1e-3)
            near(cache.mix.weight.grad[::24, ::16], "grad/extractor", 1e-3)
        optimiser.step()
    near(cache.cache, "memory", 1e-3)
    with adapter.evaluating(), torch.no_grad():
        near(adapter.text_features()[0], "text", 1e-3)
        near(adapter(batch).logits, "logits", 2e-3)


def test_the_cache_is_read_and_written_by_the_formulas():
    cache = LocalCache(4, slots=3, share=0.3, momentum=0.6)
    before, rows, text = cache.cache.clone(), torch.randn(5, 4), F.normalize(torch.randn(1, 2, 4), dim=-1)
    for c in range(2):
        share = torch.stack([text[0, c] @ slot for slot in before]).softmax(0)
        found = sum(share[m] * before[m] for m in range(3))
        expected = 0.3 * cache.mix.weight @ torch.cat([text[0, c], found]) + text[0, c]
        torch.testing.assert_close(cache.read(text)[0, c], expected)
    cache.write(rows)
    unit = [row / row.norm() for row in rows]
    for m in range(3):
        likeness = [float(x @ before[m]) for x in unit]
        mine = [x for x in range(5) if max(range(3), key=lambda s, x=x: float(unit[x] @ before[s])) == m]
        moved = before[m]
        if mine:
            pull = sum(torch.tensor(likeness[x] - max(likeness)).exp() * unit[x] for x in mine)
            moved = 0.6 * before[m] + 0.4 * pull
        torch.testing.assert_close(cache.cache[m], moved / moved.norm(), rtol=1e-4, atol=1e-5)


def test_the_tower_shows_what_recording_sees(tiny_clip, images):
    from cliptune.analysis import record

    adapter = methods.build("coop", tiny_clip, CLASS_NAMES).adapter.eval()
    kept = []
    with torch.no_grad():
        plain = adapter(Batch.of(images)).image_embedding
        with record(adapter, image=[2]) as recording:
            adapter(Batch.of(images))
        tiny_clip.image.show = lambda rows, attention: kept.append((rows, attention))
        try:
            shown = adapter(Batch.of(images)).image_embedding
        finally:
            tiny_clip.image.show = None
    torch.testing.assert_close(shown, plain)
    ((rows, attention),) = kept
    torch.testing.assert_close(rows[:, 0], plain[:, 0])
    assert rows.shape == (3, 17, 16)
    expected = recording.attention["image", 2].query("cls").key("patch").weights[:, 0].mean(dim=1)[:, 0]
    torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_leaves_the_cache_as_it_is(tiny_clip, images):
    recipe = methods.build("coop+textrefiner", tiny_clip, CLASS_NAMES)
    adapter, batch, needs = recipe.adapter, Batch.of(images, LABELS), recipe.stages[0].objective.needs
    cache = adapter.prompt.parts["refiner"]
    before = cache.cache
    with adapter.evaluating():
        adapter(batch, needs=needs)
        adapter.logits(images)
    assert cache.cache is before
    adapter.train()(batch, needs=needs)
    assert not torch.equal(cache.cache, before)


def test_a_known_embedding_is_looked_at_again(tiny_clip, images):
    recipe = methods.build("coop+textrefiner", tiny_clip, CLASS_NAMES)
    adapter, batch, objective = recipe.adapter.eval(), Batch.of(images, LABELS), recipe.stages[0].objective
    whole = adapter(batch, needs=objective.needs)
    known = adapter(batch, image_embedding=whole.image_embedding, needs=objective.needs)
    torch.testing.assert_close(known.extras["patches"].chosen, whole.extras["patches"].chosen)
    with pytest.raises(ValueError, match="keeps only their embeddings"):
        adapter(Batch.of(torch.zeros(3, 0), LABELS), image_embedding=whole.image_embedding, needs=objective.needs)


def test_counts_follow_the_formula():
    count = lambda method: methods.count_learnables(method, OPENAI_CONFIGS["ViT-B/16"])
    assert count("coop+textrefiner") - count("coop") == 2 * 512 * 512 + 2 * (512 * 512 + 512) + 2 * 512


@pytest.mark.filterwarnings("ignore:.*have no descriptions")
@pytest.mark.parametrize(
    ("method", "options", "why"),
    [
        ("zeroshot+textrefiner", {}, "takes no gradient steps"),
        ("taskres+textrefiner", {}, "changes text embeddings behind the text tower"),
        ("promptkd+textrefiner", {}, "keeps texts of another CLIP"),
        ("vp+textrefiner", {}, "draws on the pixels"),
        ("coop+textrefiner+dpc", {}, "learns behind the text tower"),
        ("coop+textrefiner", {"textrefiner_slots": 0}, "textrefiner_slots must be at least 1"),
        ("coop+textrefiner", {"textrefiner_momentum": 1.5}, "textrefiner_momentum must be between 0 and 1"),
        ("coop+textrefiner", {"textrefiner_patches": 17}, "between 1 and the 16 patches"),
        ("coop+textrefiner", {"textrefiner_local": -1.0}, "textrefiner_local must be a number of at least 0"),
    ],
)
def test_what_cannot_be_is_a_sentence(method, options, why, tiny_clip):
    with pytest.raises(ValueError, match=why):
        methods.build(method, tiny_clip, CLASS_NAMES, **options)


def test_a_resnet_has_no_patches(tiny_resnet):
    with pytest.raises(ValueError, match="needs the patches of a ViT"):
        methods.build("coop+textrefiner", tiny_resnet, CLASS_NAMES)

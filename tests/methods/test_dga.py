"""DGA as a whole: what it groups classes by, its loss, and runs from the first image to a loaded adapter."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cliptune import fit, load, methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.heads.granular import agglomerated
from cliptune.protocols.training import train
from cliptune.training.optim import build_optimiser, set_rate
from tests.conftest import CLASS_NAMES
from tests.training.support import NAMES, squares
from tests.training.test_fit import StopAfter, same

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
LABELS = torch.tensor([0, 3, 1])
SHORT = {"epochs": 2, "batch_size": 6, "crops": 2, "lr": 1.0}


def grouped(recipe, images):
    """The recipe's adapter behind its first stage."""
    adapter, (first, second) = recipe.adapter, recipe.stages
    for begin in first.before:
        begin(adapter)
    with adapter.evaluating(), torch.no_grad():
        adapter.head.observe(adapter(Batch.of(images, LABELS)), LABELS)
        adapter.head.refit()
    for begin in second.before:
        begin(adapter)
    return adapter


def test_classes_are_grouped_by_what_the_zero_shot_clip_sees(tiny_clip, images):
    recipe = methods.build("dga", tiny_clip, CLASS_NAMES)
    torch.nn.init.normal_(recipe.adapter.prompt.program.value)
    adapter = grouped(recipe, images)
    with torch.no_grad():
        features = F.normalize(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0], dim=-1)
    means = features.mean(dim=0).repeat(5, 1)
    means[LABELS] = features
    assert torch.equal(adapter.head.member, agglomerated(means, [3, 2]))


def test_the_loss_is_the_sum_written_out(tiny_clip, images):
    recipe = methods.build("dga", tiny_clip, CLASS_NAMES, crops=2)
    adapter, batch = grouped(recipe, images), Batch.of(images, LABELS)
    with adapter.evaluating(), torch.no_grad():
        out = adapter(batch)
    loss, parts = recipe.stages[1].objective(out, batch, 0.0)

    def ce(scores: list[float], own: int) -> float:
        return math.log(sum(math.exp(s - scores[own]) for s in scores))

    sub = sum(ce(out.logits[b].tolist(), int(y)) for b, y in enumerate(LABELS)) / 3
    above, member = 0.0, adapter.head.member
    for level in range(2):
        for b, y in enumerate(LABELS):
            texts = [
                F.normalize(out.text_features[0, adapter.texts.blocks[member[level] == s]].flatten(0, 1).sum(0), dim=0)
                for s in range(int(member[level].max()) + 1)
            ]
            scores = [float(tiny_clip.scale * out.image_features[b, 1 + level] @ text) for text in texts]
            above += ce(scores, int(member[level, y])) / 2 / 3
    assert float(loss) == pytest.approx(sub + above, rel=1e-4)
    assert float(parts["ce"]) == pytest.approx(sub, rel=1e-4)
    assert float(parts["hierarchy"]) == pytest.approx(above, rel=1e-4)


def test_one_step_is_plain_sgd_on_the_patterns(tiny_clip, images):
    recipe = methods.build("dga", tiny_clip, CLASS_NAMES, lr=40.0, epochs=200)
    adapter, batch, stage = grouped(recipe, images), Batch.of(images, LABELS), recipe.stages[1]
    (parameter,) = adapter.trainable().values()
    before = parameter.detach().clone()
    optimiser = build_optimiser(stage.optimiser, adapter.trainable())
    set_rate(optimiser, 40.0)
    with adapter.evaluating():
        stage.objective(adapter(batch), batch, 0.0)[0].backward()
    optimiser.step()
    torch.testing.assert_close(parameter.detach(), before - 40.0 * parameter.grad)
    assert stage.optimiser.momentum == 0.9
    assert (stage.optimiser.weight_decay, stage.optimiser.schedule) == (0.0, "cosine")


def test_values_that_learn_are_a_frame_for_each_level_and_scale():
    count = lambda **options: methods.count_learnables("dga", OPENAI_CONFIGS["ViT-B/16"], **options)
    assert count(crops=1) == count() == 5 * 39_936
    assert count(levels=0, scales=3) == 4 * 39_936
    assert count(levels=0, scales=0) == 39_936


def test_a_run_is_kept_and_loaded(tiny_clip, tmp_path):
    run = train("dga", tiny_clip, squares(), protocol="few_shot", out=tmp_path, options=SHORT, progress="silent")
    adapter = load(tmp_path, clip=tiny_clip)
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(adapter.logits(images), run.adapter.logits(images))
    assert torch.equal(adapter.logits(images), adapter.logits(images))  # crops are where they were
    assert torch.equal(adapter.head.member, run.adapter.head.member)
    assert sorted(set(adapter.head.member[0].tolist())) == [0, 1]
    assert any("3 classes are few for 2 levels" in note for note in run.result["notes"])
    assert all({"ce", "hierarchy"} == set(line["parts"]) for line in run.metrics if line["stage"] == "train")


@pytest.mark.parametrize("steps", [1, 4])
def test_a_cut_run_equals_a_whole_one(tiny_clip, tmp_path, steps):
    recipe = lambda: methods.build("dga", tiny_clip, NAMES, seed=3, **SHORT)
    whole = fit(recipe(), squares(), progress="silent")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(), squares(), tmp_path, progress=StopAfter(steps), save_every=0.0)
    cut = fit(recipe(), squares(), tmp_path, progress="silent", save_every=0.0)
    same(cut.adapter.learnables(), whole.adapter.learnables())


def test_pieces_of_a_batch_give_the_same_gradient(tiny_clip):
    recipe = lambda: methods.build("dga", tiny_clip, NAMES, seed=3, **{**SHORT, "epochs": 1})
    whole, pieces = (fit(recipe(), squares(), progress="silent", accumulate=n).adapter for n in (1, 3))
    torch.testing.assert_close(pieces.prompt.program.value, whole.prompt.program.value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tower", ["tiny_clip", "tiny_resnet"])
@pytest.mark.parametrize("options", [{}, {"levels": 0}, {"scales": 0}, {"levels": 0, "scales": 0}])
def test_two_classes_are_enough_for_either_tower(tower, options, request):
    clip = request.getfixturevalue(tower)
    recipe = methods.build("dga", clip, NAMES[:2], epochs=1, batch_size=2, crops=1, **options)
    side = clip.image.resolution
    images, labels = torch.rand(2, 3, side, side), torch.tensor([0, 1])
    for stage in recipe.stages:
        for begin in stage.before:
            begin(recipe.adapter)
        out = recipe.adapter(Batch.of(images, labels))
        recipe.adapter.head.observe(out, labels)
        recipe.adapter.head.refit()
        if stage.objective is not None:
            loss, _ = stage.objective(out, Batch.of(images, labels), 0.0)
            loss.backward()
    assert recipe.adapter.prompt.program.value.grad.abs().sum() > 0
    assert recipe.adapter.logits(images).shape == (2, 2)


def test_without_levels_new_classes_are_answered(tiny_clip, images):
    adapter = methods.build("dga", tiny_clip, CLASS_NAMES, levels=0).adapter
    assert adapter.set_classes(["lynx", "puma"]).logits(images).shape == (3, 2)
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        methods.build("dga", tiny_clip, CLASS_NAMES).adapter.set_classes(["lynx", "puma"])

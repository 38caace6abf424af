"""MMLoP's factors, its losses and its texts without a drift, each against the formula written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.prompts import DeepTokens, Together
from cliptune.registry import build, checks, count_learnables
from cliptune.runs import load_adapter
from cliptune.texts import ContextPhrasing, ensemble
from cliptune.training import fit
from cliptune.training.optim import build_optimiser
from tests.conftest import CLASS_NAMES
from tests.training.support import NAMES, squares

OPTIONS = {"templates": "selected7", "depth": 2}


@pytest.fixture
def recipe(tiny_clip):
    made = build("mmlop", tiny_clip, CLASS_NAMES, rank=2, **OPTIONS)
    with torch.no_grad():
        for p in made.adapter.trainable().values():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    return made


@pytest.fixture
def batch(images):
    return Batch.of(images, torch.tensor([0, 3, 1]))


def free(adapter):
    """The same tokens in both towers, each entry for itself."""
    ports = adapter.prompt()
    towers = {"text": ports.text.tokens, "image": ports.image.tokens}
    return Together(**{name: DeepTokens(name, list(tokens.values())) for name, tokens in towers.items()})


def frozen_text(clip, name, templates="selected7"):
    sentences = clip.tokenize([template.format(name) for template in ensemble(templates)])
    return F.normalize(clip.encode_text(sentences)[0].mean(dim=0), dim=0)


def corrected(adapter, names):
    """The texts less what moved them all, class by class; (C, D)."""
    plain = build("ivlp", adapter.clip, names, n_text=4, n_image=4).adapter.with_prompt(free(adapter))
    prompted = plain.text_features()[0]
    frozen = [frozen_text(adapter.clip, name) for name in names]
    drift = sum(prompted[c] - frozen[c] for c in range(len(names))) / len(names)
    return torch.stack([F.normalize(prompted[c] - drift, dim=0) for c in range(len(names))]).detach()


def test_learned_values_are_the_papers_count(tiny_clip):
    """At the paper's sizes, 11.5 K of them; here they also follow its formula where options change it."""
    assert count_learnables("mmlop", OPENAI_CONFIGS["ViT-B/16"]) == 9 * (4 * 1 + 1 * 768 + 1 * 512) == 11_556
    for rank, depth, factors in ((1, 2, 2), (2, 3, 1)):
        recipe = build("mmlop", tiny_clip, CLASS_NAMES, rank=rank, depth=depth, shared=factors == 1)
        count = sum(p.numel() for p in recipe.adapter.trainable().values())
        assert count == depth * rank * (4 * factors + 24 + 40)


def test_tokens_of_both_towers_are_products_with_one_factor(recipe):
    prompt = recipe.adapter.prompt
    ports = prompt()
    for layer in range(2):
        of_text, of_image = (prompt.parts[tower].layers[layer] for tower in ("text", "image"))
        assert of_text.left is of_image.left
        for tokens, matrix in ((ports.text.tokens[layer], of_text), (ports.image.tokens[layer], of_image)):
            for n in range(4):
                row = sum(of_text.left[n, r] * matrix.right[r] for r in range(2))
                torch.testing.assert_close(tokens[n], row)
    assert not {2, 3} & ports.text.tokens.keys()


def test_logits_are_cosines_with_texts_without_their_common_drift(recipe, images):
    adapter = recipe.adapter
    text = corrected(adapter, CLASS_NAMES)
    image = adapter.clip.encode_image(adapter.clip.normalise(images)[:, None], adapter.prompt().image)[:, 0]
    expected = torch.zeros(3, len(CLASS_NAMES))
    for b in range(3):
        for c in range(len(CLASS_NAMES)):
            expected[b, c] = adapter.clip.scale * F.cosine_similarity(image[b], text[c], dim=0)
    torch.testing.assert_close(adapter.logits(images), expected.detach(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(adapter.text_features()[0], text, rtol=1e-4, atol=1e-5)
    unit = F.normalize(image, dim=-1)
    torch.testing.assert_close(adapter.fold()(unit[:, None]), expected.detach(), rtol=1e-4, atol=1e-3)


def test_without_the_correction_texts_are_the_towers(tiny_clip, images):
    adapter = build("mmlop", tiny_clip, CLASS_NAMES, drift_correction=False, **OPTIONS).adapter
    plain = build("ivlp", tiny_clip, CLASS_NAMES, n_text=4, n_image=4).adapter.with_prompt(free(adapter))
    torch.testing.assert_close(adapter.logits(images), plain.logits(images))


def test_losses_are_the_distances_to_the_frozen_clip(recipe, batch):
    adapter, objective = recipe.adapter, recipe.stages[0].objective
    out = adapter(batch, needs=objective.needs)
    loss, parts = objective(out, batch, 0.0)
    scale = adapter.clip.scale
    text, frozen = corrected(adapter, CLASS_NAMES), [frozen_text(adapter.clip, name) for name in CLASS_NAMES]
    views = adapter.clip.normalise(batch.images)[:, None]
    image, bare = (
        F.normalize(adapter.clip.encode_image(views, *ports)[:, 0], dim=-1) for ports in ((adapter.prompt().image,), ())
    )
    expected = {"ce": 0.0, "text": 0.0, "image": 0.0, "logits": 0.0}
    classes, width = text.shape
    for b in range(3):
        answer = torch.stack([scale * image[b] @ text[c] for c in range(classes)]).softmax(0)
        zero_shot = torch.stack([scale * bare[b] @ frozen[c] for c in range(classes)]).softmax(0)
        expected["ce"] -= answer[batch.labels[b]].log() / 3
        expected["image"] += 10 * (image[b] - bare[b]).abs().sum() / (3 * width)
        expected["logits"] += (zero_shot * (zero_shot / answer).log()).sum() / (3 * classes)
    for c in range(classes):
        expected["text"] += 25 * (text[c] - frozen[c]).abs().sum() / (classes * width)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(loss, sum(expected.values()), rtol=1e-3, atol=1e-3)


def test_one_step_moves_the_shared_factor_by_both_towers(recipe, batch):
    adapter, stage = recipe.adapter, recipe.stages[0]
    loose = adapter.with_prompt(free(adapter))
    loss, _ = stage.objective(loose(batch, needs=stage.objective.needs), batch, 0.0)
    loss.backward()
    config = stage.optimiser
    expected = []
    for layer in range(2):
        moved = [loose.prompt.parts[tower].layers[layer].value.grad for tower in ("text", "image")]
        pair = [adapter.prompt.parts[tower].layers[layer] for tower in ("text", "image")]
        shared = pair[0].left.detach().clone()
        gradient = sum(g @ matrix.right.detach().T for g, matrix in zip(moved, pair, strict=True))
        expected.append((pair[0], "left", shared - config.lr * (gradient + config.weight_decay * shared)))
        for g, matrix in zip(moved, pair, strict=True):
            right = matrix.right.detach().clone()
            expected.append((matrix, "right", right - config.lr * (shared.T @ g + config.weight_decay * right)))
    optimiser = build_optimiser(config, adapter.trainable())
    loss, _ = stage.objective(adapter(batch, needs=stage.objective.needs), batch, 0.0)
    loss.backward()
    optimiser.step()
    for matrix, factor, value in expected:
        torch.testing.assert_close(getattr(matrix, factor).detach(), value, rtol=1e-4, atol=1e-5)


def test_new_classes_are_corrected_by_the_mean_over_those_asked_about(recipe, tiny_clip, images):
    """Nothing of the training is needed but what was learned: an adapter built for other classes answers the same."""
    adapter, others = recipe.adapter, ("lynx", "puma", "snow")
    elsewhere = build("mmlop", tiny_clip, others, rank=2, seed=9, **OPTIONS).adapter
    elsewhere.load_learnables(adapter.learnables())
    adapter.set_classes(others)
    torch.testing.assert_close(adapter.text_features()[0], corrected(adapter, others), rtol=1e-4, atol=1e-5)
    assert torch.equal(adapter.logits(images), elsewhere.logits(images))
    three = adapter.text_features()[0, 0]
    adapter.set_classes(others[:2])
    assert not torch.allclose(adapter.text_features()[0, 0], three, atol=1e-3)
    adapter.set_classes(others[:1])
    torch.testing.assert_close(adapter.text_features()[0, 0], frozen_text(tiny_clip, "lynx"), rtol=1e-4, atol=1e-5)


def test_texts_of_the_reference_are_encoded_once(recipe, batch, monkeypatch):
    adapter, calls = recipe.adapter, []
    encode = adapter.clip.encode_text
    monkeypatch.setattr(adapter.clip, "encode_text", lambda *given: calls.append(len(given[0])) or encode(*given))
    for _ in range(3):
        adapter(batch, needs=frozenset({"reference"}))
    assert sorted(calls) == [5, 5, 5, 5 * 7]


def test_the_first_text_tokens_start_near_the_words(tiny_clip):
    words = ContextPhrasing(4, "a photo of a").start(tiny_clip)
    values = torch.linalg.svdvals(words)
    for rank in (1, 2, 3):
        prompt = build("mmlop", tiny_clip, CLASS_NAMES, rank=rank, **OPTIONS).adapter.prompt
        start = prompt().text.tokens[0].detach()
        assert torch.linalg.matrix_rank(start) == rank
        torch.testing.assert_close((start - words).norm(), values[rank:].norm(), rtol=1e-3, atol=1e-4)
        factor = prompt.parts["text"].layers[0].left.detach()
        torch.testing.assert_close(factor.T @ factor, 4 / rank * torch.eye(rank), rtol=1e-4, atol=1e-4)


def test_random_tokens_are_as_large_as_elsewhere(tiny_clip):
    prompts = [build("mmlop", tiny_clip, CLASS_NAMES, words="", rank=2, seed=s).adapter.prompt for s in range(12)]
    tokens = torch.cat([torch.stack(list(prompt().image.tokens.values())).detach() for prompt in prompts])
    assert 0.016 < float(tokens.std()) < 0.024


def test_a_run_is_saved_and_read_back_with_one_factor(tiny_clip, tmp_path, images):
    options = {**OPTIONS, "epochs": 2}
    run = fit(build("mmlop", tiny_clip, NAMES, **options), squares(), tmp_path / "run", progress="silent")
    opened = build("mmlop", tiny_clip, NAMES, seed=5, **options).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))
    assert opened.prompt.parts["text"].layers[1].left is opened.prompt.parts["image"].layers[1].left


@pytest.mark.parametrize("add_on", ["bias", "dapt", "dpc", "dept", "atprompt"])
def test_add_ons_keep_the_common_rules(tiny_clip, batch, add_on):
    own = {"atprompt": {"atprompt_attributes": "color"}}.get(add_on, {})
    subject = checks.Subject(f"mmlop+{add_on}", tiny_clip, batch, CLASS_NAMES, {**OPTIONS, **own})
    for check in (checks.gradients, checks.round_trip, checks.new_classes):
        assert check(subject)
    prompts = [m.parts for m in subject.recipe().adapter.prompt.modules() if isinstance(m, Together)]
    pairs = [parts for parts in prompts if {"text", "image"} <= set(parts)]
    assert pairs
    assert all(pair["text"].layers[1].left is pair["image"].layers[1].left for pair in pairs)


def test_a_parallel_prompt_has_a_shared_factor_of_its_own(tiny_clip, images):
    recipe = build("mmlop+dpc", tiny_clip, NAMES, epochs=1, dpc_epochs=2, dpc_lr=0.5, **OPTIONS)
    run = fit(recipe, squares({"train": 2, "val": 1, "test": 1}), progress="silent")
    dual = run.adapter.prompt
    for tokens in ("text", "image"):
        tuned, parallel = (getattr(prompt(), tokens).tokens[1] for prompt in (dual.tuned, dual.parallel))
        moved = torch.linalg.svdvals((parallel - tuned).detach())
        assert moved[0] > 1e-3
        assert moved[1] < 1e-5
    factors = [dual.parallel.parts[tower].layers[1].left for tower in ("text", "image")]
    assert factors[0] is factors[1]


def test_what_does_not_go_together_says_so(tiny_clip):
    with pytest.raises(ValueError, match="no prompt matrix that could be of low rank"):
        build("mmlop+rlp", tiny_clip, NAMES)
    with pytest.raises(ValueError, match="what moved them all alike"):
        build("mmlop+textrefiner", tiny_clip, NAMES)
    with pytest.raises(ValueError, match="rank must be between 1 and"):
        build("mmlop", tiny_clip, NAMES, rank=5)

"""Every method on frozen embeddings, on images that make fitting hard: a finite answer, or a sentence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.adapter import Outputs
from cliptune.batch import Batch
from cliptune.registry import build, names
from cliptune.texts import ClassSet
from cliptune.training.optim import build_optimiser
from tests.conftest import random_clip

WIDTH = 16  # of the tiny CLIP's features
MANY = 20  # classes, more than features
CASES = {
    "one image of each class": (torch.arange(5), 5),
    "two identical images": (torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), 5),
    "one image of one class": (torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]), 5),
    "a class without images": (torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), 5),
    "more classes than features": (torch.arange(MANY).repeat(2), MANY),
    "a single image": (torch.tensor([2]), 5),
}


def heads(clip) -> list[str]:
    """Methods whose stages only observe: what they know, a head was fitted to."""
    recipes = {name: build(name, clip, ("circle", "star")) for name in names() if name not in _SLOW}
    return [n for n, r in recipes.items() if r.stages and all(s.optimiser is None for s in r.stages)]


# Their builders need descriptions or a teacher, and none of them is a head on embeddings.
_SLOW = {"attrvr", "dga", "dvp_cls", "dvp_cse", "dvplite", "rvp", "promptkd"}
METHODS = ("ape", "clap", "gda", "linear_probe", "lp_plus_plus", "proker", "ss_text", "tip_adapter", "zs_probe")


# These take gradient steps as well, but nothing that learns is in a tower.
TRAINED = ("ape_t", "taskres", "tip_adapter_f")


def test_every_such_method_is_tried(tiny_clip):
    assert set(heads(tiny_clip)) == set(METHODS)


SENTENCES = {
    ("linear_probe", "a single image"): "a linear probe separates at least two classes, got 1 images of class 2"
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_hard_cases_are_fitted(method, case, tiny_clip):
    embedding, labels, classes = _drawn(case)
    adapter = build(method, tiny_clip, ClassSet(tuple(f"class {i}" for i in range(classes)))).adapter.eval()
    text = adapter.text_features()
    show = lambda rows: _outputs(adapter, rows, text)
    with torch.no_grad():
        adapter.head.observe(show(embedding), labels, split="train")
        if (method, case) in SENTENCES:
            with pytest.raises(ValueError, match=SENTENCES[method, case]):
                adapter.head.refit()
            return
        adapter.head.refit()
        logits = _answers(adapter, embedding, text)
    assert logits.shape == (len(labels), classes)
    assert logits.isfinite().all()
    _assert_comes_back(method, adapter, embedding, logits)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", TRAINED)
def test_hard_cases_are_trained_on(method, case, tiny_clip):
    embedding, labels, classes = _drawn(case)
    recipe = build(method, tiny_clip, ClassSet(tuple(f"class {i}" for i in range(classes))))
    before, after = _trained(recipe, embedding, labels)
    assert after < before
    adapter = recipe.adapter.eval()
    with torch.no_grad():
        logits = _answers(adapter, embedding, adapter.text_features())
    assert logits.shape == (len(labels), classes)
    assert logits.isfinite().all()
    _assert_comes_back(method, adapter, embedding, logits)


@pytest.mark.parametrize("method", METHODS)
def test_one_shot_is_fitted_in_float64_as_in_float32(method, tiny_clip):
    """From one image of each class nothing is known about how images of a class differ: what is solved for is of no
    full rank, and float32 would show it."""
    embedding, labels, classes = _drawn("one image of each class")
    found = {}
    for dtype in (torch.float32, torch.float64):
        adapter = build(method, tiny_clip, ClassSet(tuple(f"class {i}" for i in range(classes)))).adapter.eval()
        adapter.head.to(dtype)
        text = adapter.text_features().to(dtype)
        with torch.no_grad():
            adapter.head.observe(_outputs(adapter, embedding.to(dtype), text), labels, split="train")
            adapter.head.refit()
            found[dtype] = _answers(adapter, embedding.to(dtype), text)
    assert found[torch.float64].dtype == torch.float64
    scale = found[torch.float64].abs().max()
    torch.testing.assert_close(found[torch.float32].double() / scale, found[torch.float64] / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", TRAINED)
def test_one_shot_is_trained_in_float64_as_in_float32(method):
    embedding, labels, classes = _drawn("one image of each class")
    found = {}
    for dtype in (torch.float32, torch.float64):
        recipe = build(method, random_clip().to(dtype), ClassSet(tuple(f"class {i}" for i in range(classes))))
        recipe.adapter.head.to(dtype)
        recipe.adapter.prompt.to(dtype)
        _trained(recipe, embedding.to(dtype), labels)
        recipe.adapter.eval()
        with torch.no_grad():
            found[dtype] = _shown(recipe.adapter, embedding.to(dtype), labels)[1].logits
    assert found[torch.float64].dtype == torch.float64
    torch.testing.assert_close(found[torch.float32].double(), found[torch.float64], rtol=1e-3, atol=1e-2)


def _assert_comes_back(method, adapter, embedding, logits):
    """What was learned is finite, and answers alike in an adapter that takes it over."""
    saved = adapter.learnables()
    assert all(value.isfinite().all() for value in saved.values())
    fresh = build(method, adapter.clip, adapter.classes).adapter.eval()
    fresh.load_learnables(saved)
    with torch.no_grad():
        torch.testing.assert_close(_answers(fresh, embedding, fresh.text_features()), logits)


def _drawn(case: str) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Embeddings (N, D) around a centre of each class, labels (N,), and the number of classes."""
    labels, classes = CASES[case]
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(classes, WIDTH, generator=generator)
    embedding = centres[labels] + 0.2 * torch.randn(len(labels), WIDTH, generator=generator)
    if "identical" in case:
        embedding[1::2] = embedding[::2]
    return embedding, labels, classes


def _trained(recipe, embedding, labels, steps: int = 3) -> tuple[float, float]:
    """The loss before and after some steps on all images in each stage that takes any."""
    adapter, losses = recipe.adapter, []
    for stage in recipe.stages:
        if stage.optimiser is None:
            adapter.eval()
            with torch.no_grad():
                adapter.head.observe(_shown(adapter, embedding, labels)[1], labels, split="train")
            adapter.head.refit()
            continue
        adapter.train()
        optimiser = build_optimiser(stage.optimiser, adapter.trainable())
        for _ in range(steps + 1):
            batch, out = _shown(adapter, embedding, labels)
            loss, _ = stage.objective(out, batch, 0.0)
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return losses[0], losses[-1]


def _shown(adapter, embedding, labels) -> tuple[Batch, Outputs]:
    batch = Batch.of(torch.zeros(len(labels), 0), labels)
    text = adapter.text_features().to(embedding.dtype) if adapter.text_is_frozen else None
    return batch, adapter(batch, text_features=text, image_embedding=embedding[:, None])


def _outputs(adapter, embedding, text) -> Outputs:
    feature = F.normalize(embedding, dim=-1)[:, None]
    similarity = adapter.clip.scale * feature @ text.mT
    head = adapter.head
    if not head.settled:
        head.settle(text, adapter.texts)
    logits = head(similarity, adapter.texts, embedding[:, None])
    return Outputs(logits, similarity, feature, text, embedding[:, None])


def _answers(adapter, embedding, text) -> torch.Tensor:
    return _outputs(adapter, embedding, text).logits

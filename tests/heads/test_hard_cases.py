"""Every method that fits a head to embeddings, on images that make fitting hard: a finite answer, or a sentence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.adapter import Outputs
from cliptune.registry import build, names
from cliptune.texts import ClassSet

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


def test_every_such_method_is_tried(tiny_clip):
    assert set(heads(tiny_clip)) == set(METHODS)


SENTENCES = {
    ("linear_probe", "a single image"): "a linear probe separates at least two classes, got 1 images of class 2"
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_hard_cases_are_fitted(method, case, tiny_clip):
    labels, classes = CASES[case]
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(classes, WIDTH, generator=generator)
    embedding = centres[labels] + 0.2 * torch.randn(len(labels), WIDTH, generator=generator)
    if "identical" in case:
        embedding[1::2] = embedding[::2]
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
    saved = adapter.learnables()
    assert all(value.isfinite().all() for value in saved.values())
    fresh = build(method, tiny_clip, adapter.classes).adapter.eval()
    fresh.load_learnables(saved)
    with torch.no_grad():
        torch.testing.assert_close(_answers(fresh, embedding, text), logits)


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

"""ω curves and linearity, against adapters whose prompt is mixed by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.analysis.mixing import linearity, mixing_curve, token_matrices, two_prompts
from cliptune.batch import Batch
from cliptune.registry import build
from tests.conftest import CLASS_NAMES

WEIGHTS = (0.0, 0.3, 1.0)


def two_of(clip, host, **options):
    """An adapter of two prompts that lie apart."""
    adapter = build(f"{host}+dpc", clip, CLASS_NAMES, **options).adapter.eval()
    adapter.prompt.open()
    with torch.no_grad():
        for parameter in adapter.prompt.parallel.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return adapter


@pytest.fixture
def batch(images):
    return Batch.of(images, torch.tensor([3, 0, 3]))


def test_ends_are_the_two_prompts(tiny_clip):
    adapter = two_of(tiny_clip, "coop")
    tuned, parallel = (token_matrices(ports)["text 0"] for ports in two_prompts(adapter))
    assert torch.equal(tuned, adapter.prompt.tuned(True).text.tokens[0])
    assert torch.equal(parallel, adapter.prompt.parallel(True).text.tokens[0])
    assert adapter.prompt.weight is None


@torch.no_grad()
def test_text_linearity_is_the_cosine_written_out(tiny_clip, batch):
    adapter = two_of(tiny_clip, "coop")
    found = linearity(adapter, lambda: [batch], WEIGHTS)
    a, b = (ports.text.tokens[0] for ports in two_prompts(adapter))
    encode = lambda p: tiny_clip.encode_text(adapter.texts, adapter.prompt(True).text.map(lambda _: p))[0]
    for w, cos in zip(WEIGHTS, found.text.tolist(), strict=True):
        at, line = encode(w * b + (1 - w) * a), w * encode(b) + (1 - w) * encode(a)
        expected = sum(float(F.cosine_similarity(x, y, dim=0)) for x, y in zip(at, line, strict=True)) / len(at)
        assert cos == pytest.approx(expected, abs=1e-6)
    assert found.image is None
    assert found.text[0] == pytest.approx(1)
    assert found.text[2] == pytest.approx(1)
    assert found.text[1] < 0.9999
    assert "ω = 0.3" in found.sentence()


@torch.no_grad()
def test_image_linearity_is_over_images(tiny_clip, batch):
    adapter = two_of(tiny_clip, "vpt", depth=2)
    found = linearity(adapter, lambda: [batch[:2], batch[2:]], WEIGHTS)
    ends = two_prompts(adapter)
    views = tiny_clip.normalise(batch.images)[:, None]
    start, end = (tiny_clip.encode_image(views, ports.image)[:, 0] for ports in ends)
    between = {i: torch.lerp(ends[0].image.tokens[i], ends[1].image.tokens[i], 0.3) for i in (0, 1)}
    at = tiny_clip.encode_image(views, type(ends[0].image)(between))[:, 0]
    expected = F.cosine_similarity(at, 0.3 * end + 0.7 * start, dim=-1).mean()
    assert found.text is None
    assert found.n == 3
    assert float(found.image[1]) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(("host", "frozen"), [("coop", True), ("maple", False), ("cocoop", True)])
@torch.no_grad()
def test_curve_is_the_accuracy_at_each_weight(tiny_clip, batch, host, frozen):
    adapter = two_of(tiny_clip, host, **({"depth": 2} if host == "maple" else {}))
    new = ("granite", "oak tree")
    labels = {"base": batch, "new": Batch.of(batch.images, torch.tensor([0, 1, 1]))}
    encoded = []
    hook = tiny_clip.image.register_forward_hook(lambda *_: encoded.append(1))
    parts = {"base": (CLASS_NAMES, lambda: [labels["base"]]), "new": (new, lambda: [labels["new"]])}
    found = mixing_curve(adapter, parts, WEIGHTS)
    hook.remove()
    assert len(encoded) == (2 if frozen else 6)  # once in all, or once per weight
    for name, classes in (("base", CLASS_NAMES), ("new", new)):
        own = adapter.for_texts(classes)
        for w, value in zip(WEIGHTS, found.accuracy[name].tolist(), strict=True):
            adapter.prompt.weight = w
            right = own(labels[name]).logits.argmax(-1) == labels[name].labels
            assert value == pytest.approx(100 * float(right.float().mean()))
        adapter.prompt.weight = None
    assert found.used == {"base": 0.2, "new": 0.0}
    assert adapter.class_names == CLASS_NAMES


@torch.no_grad()
def test_texts_are_encoded_once_per_weight(tiny_clip, batch):
    adapter = two_of(tiny_clip, "coop")
    adapter.for_texts(CLASS_NAMES[:2])
    encoded = []
    hook = tiny_clip.text.register_forward_hook(lambda *_: encoded.append(1))
    mixing_curve(adapter, {"base": (CLASS_NAMES, lambda: [batch, batch])}, WEIGHTS)
    hook.remove()
    assert len(encoded) == len(WEIGHTS)


def test_one_prompt_is_a_sentence(tiny_clip, batch):
    adapter = build("coop", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match=r"one prompt.*run of dpc"):
        mixing_curve(adapter, {"base": (CLASS_NAMES, lambda: [batch])})


def test_a_weight_out_of_range_is_a_sentence(tiny_clip, batch):
    with pytest.raises(ValueError, match="between 0 and 1"):
        linearity(two_of(tiny_clip, "coop"), lambda: [batch], (0.0, 2.0))

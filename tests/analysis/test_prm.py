"""What is read from a reweighting matrix, checked against the numbers written out."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.analysis import contributions, redundancy, remarks, weighing
from cliptune.batch import Batch
from cliptune.texts import ClassSet
from tests.conftest import CLASS_NAMES

C = len(CLASS_NAMES)


def adapter(clip, method="dvp_cse", **options):
    sizes = {"shape": 3, "colour": 2}
    sentences = {
        cause: {name: [f"The {cause} of the {name} is number {i}." for i in range(n)] for name in CLASS_NAMES}
        for cause, n in sizes.items()
    }
    built = methods.build(method, clip, ClassSet(CLASS_NAMES, descriptions=sentences), inner=24, **options).adapter
    torch.nn.init.normal_(built.prompt.program.value)
    return built


def test_mass_sums_the_weights_of_each_cause(tiny_clip):
    one = adapter(tiny_clip)
    one.head.weight.copy_(torch.tensor([[0.1, 0.2, 0.0, 0.3, 0.4]] * C))
    read = weighing(one)
    assert read.groups == ("shape", "colour")
    torch.testing.assert_close(read.mass, torch.tensor([[0.3, 0.7]] * C))
    torch.testing.assert_close(read.prior, torch.tensor([[0.6, 0.4]] * C))
    expected = 0.3 * torch.tensor(0.3 / 0.6).log() + 0.7 * torch.tensor(0.7 / 0.4).log()
    assert read.divergence == pytest.approx(float(expected), rel=1e-5)
    assert read.leading() == {name: ("colour", pytest.approx(0.7)) for name in CLASS_NAMES}
    entropy = -sum(w * torch.tensor(w).log() for w in (0.1, 0.2, 0.3, 0.4))
    torch.testing.assert_close(read.effective, entropy.exp().expand(C))


def test_heaviest_descriptions_come_with_their_words(tiny_clip):
    one = adapter(tiny_clip)
    one.head.weight[1] = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4])
    (first, cause, weight), second = weighing(one).top("forest", 2)
    assert first in {"The colour of the forest is number 0.", "The colour of the forest is number 1."}
    assert first == one.phrasing.sentences(one.classes)["colour"][1][1]
    assert (cause, weight) == ("colour", pytest.approx(0.4))
    assert second[2] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="no class 'lynx'"):
        weighing(one).top("lynx")


@pytest.mark.parametrize(
    ("method", "options"), [("dvp_cse", {}), ("dvp_cls", {"clusters": 2}), ("dvp_cse", {"decoupled": False})]
)
def test_contributions_add_up_to_the_logits(tiny_clip, images, method, options):
    one = adapter(tiny_clip, method, **options)
    one.head.weight.copy_(torch.rand_like(one.head.weight))
    batch = Batch.of(images)
    parts = contributions(one, batch)
    with torch.no_grad():
        out = one(batch)
    assert parts.shape == (3, 2, C)
    torch.testing.assert_close(parts.sum(dim=1), out.logits, rtol=1e-4, atol=1e-4)
    if method == "dvp_cse" and not options:
        expected = sum(one.head.weight[2, m] * out.similarity[1, 0, 5 * 2 + m] for m in range(3))
        torch.testing.assert_close(parts[1, 0, 2], expected, rtol=1e-4, atol=1e-4)


def test_redundancy_compares_patterns_views_and_answers(tiny_clip, images):
    one = adapter(tiny_clip)
    alike = redundancy(one, Batch.of(images))
    first, second = one.prompt.program.value.detach().view(2, -1)
    torch.testing.assert_close(alike.patterns[0, 1], torch.cosine_similarity(first, second, dim=0))
    torch.testing.assert_close(alike.patterns.diagonal(), torch.ones(2))
    torch.testing.assert_close(alike.views.diagonal(), torch.ones(2))
    assert 0 <= alike.predictions[0, 1] <= 1
    assert torch.equal(alike.predictions.diagonal(), torch.ones(2))
    assert redundancy(one).views is None


def test_weights_that_tell_nothing_are_remarked_on(tiny_clip):
    one = adapter(tiny_clip)
    assert len(remarks(weighing(one), redundancy(one))) == 2  # uniform: no group, no description stands out
    torch.nn.init.zeros_(one.prompt.program.value)
    assert "All patterns are alike" in remarks(weighing(one), redundancy(one))[-1]
    torch.nn.init.normal_(one.prompt.program.value)
    one.head.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0]] * C))
    assert remarks(weighing(one), redundancy(one)) == []


def test_other_adapters_are_refused(tiny_clip):
    coop = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match="no reweighting matrix, its head is a MeanHead"):
        weighing(coop)
    with pytest.raises(ValueError, match="no pattern on the pixels"):
        redundancy(coop)

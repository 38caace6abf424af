"""Prototypes of texts and images, against the release's values and written out."""

from __future__ import annotations

import pytest
import torch

from cliptune.heads import SSTextHead
from tests.golden.reference import golden
from tests.heads.test_probe import SCALE, C, D, show, unit

G = torch.Generator().manual_seed(4)
OPTIONS = {"plus": (True, True), "balance": (True, False), "plain": (False, False)}


def solved(text: torch.Tensor, embedding: torch.Tensor, labels: torch.Tensor, name: str = "plus") -> SSTextHead:
    """A head of unit texts (C, D) and images (N, D)."""
    head = SSTextHead(len(text), text.shape[1], SCALE, *OPTIONS[name])
    show(head, embedding[:, None], labels, text)
    head.refit()
    return head


# The release's solver, run once on these random unit features and texts at s = 20: six images of one class, three of
# another, none of a third, two that are equal, and one; or one of each.
@pytest.mark.parametrize("name", ["plus", "plain", "balance", "one_shot/plus", "one_shot/plain"])
def test_prototypes_are_those_of_the_release(name):
    stored = golden("ss_text")[1]
    start, _, form = name.rpartition("/")
    labels = torch.arange(C) if start else stored["labels"]
    head = solved(stored["texts"], stored["one_shot/features" if start else "features"], labels, form)
    torch.testing.assert_close(head.prototypes(stored["texts"]), stored[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_prototypes_written_out_and_their_answers(name):
    """1,200 images of one class, for which λ is no smaller than 0.001; of the others, one and none."""
    text = unit(torch.randn(3, D, generator=G).double())
    embedding = torch.randn(1201, D, generator=G).double()
    labels = torch.tensor([0] * 1200 + [1])
    head = solved(text, embedding, labels, name)
    balance, repel = OPTIONS[name]
    w = []
    for c in range(3):
        own = [unit(e) for e, label in zip(embedding, labels, strict=True) if label == c]
        share = max(1e-3, (1 / len(own) if own else float("inf")) if balance else 1 / 1201)
        w.append(text[c] + SCALE / (1201 * share) * sum(own) if own else text[c])
    mean = sum(w) / 3
    if repel:
        w = [v - (2 * v - mean) / (2 * v - mean).norm() for v in w]
    image = torch.randn(1, 1, D, generator=G)
    expected = [SCALE * float(torch.cosine_similarity(image[0, 0].double(), v, dim=0)) for v in w]
    torch.testing.assert_close(head(None, None, image)[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    rows = head.fold(text, None, 1).float()
    torch.testing.assert_close(SCALE * unit(image)[0] @ rows[0].T, head(None, None, image), rtol=1e-4, atol=1e-4)


def test_before_it_is_solved_the_texts_answer():
    text = torch.randn(C, D, generator=G)
    head = SSTextHead(C, D, SCALE)
    head.settle(unit(text)[None], None)
    image = torch.randn(2, 3, D, generator=G)
    expected = SCALE * torch.einsum("bvd,cd->bc", unit(image), unit(text)) / 3
    torch.testing.assert_close(head(None, None, image), expected)


def test_more_classes_than_features():
    text, embedding = unit(torch.randn(12, 3, generator=G)), torch.randn(12, 3, generator=G)
    head = solved(text, embedding, torch.arange(12), "balance")
    expected = torch.stack([text[c] + SCALE / 12 * embedding[c] / embedding[c].norm() for c in range(12)])
    torch.testing.assert_close(head.prototypes(text), expected)


def test_without_training_images_is_a_sentence():
    with pytest.raises(ValueError, match="SSTextHead: nothing to fit, because no training image was observed"):
        SSTextHead(C, D, SCALE).refit()

"""Kernel ridge regression around the texts: written out, against the release, and in awkward cases."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cliptune.heads import KernelHead
from cliptune.heads.kernel import Grid, _solved
from tests.golden.reference import golden

C, D, B, V = 3, 6, 4, 2
SCALE = torch.tensor(100.0)
G = torch.Generator().manual_seed(9)
TEXTS = F.normalize(torch.randn(C, D, generator=G), dim=-1)


def show(head: KernelHead, embedding: torch.Tensor, labels: torch.Tensor, split: str = "train", texts=TEXTS) -> None:
    similarity = SCALE * F.normalize(embedding, dim=-1) @ texts.T
    for part in (slice(0, 3), slice(3, None)):
        head.observe(SimpleNamespace(image_embedding=embedding[part], similarity=similarity[part]), labels[part], split)


def fitted(embedding: torch.Tensor, labels: torch.Tensor, **options) -> KernelHead:
    head = KernelHead(C, D, SCALE, **options)
    show(head, embedding, labels)
    head.refit()
    return head


def written_out(embedding: torch.Tensor, labels: torch.Tensor, image: torch.Tensor, beta: float, ridge: float):
    """Logits of one image (D,), from features (n, D), with loops, in float64."""
    unit = lambda v: v.double().numpy() / math.sqrt(sum(float(x) ** 2 for x in v.double()))
    features, image, texts = [unit(e) for e in embedding], unit(image), TEXTS.double().numpy()
    kernel = lambda x, y: math.exp(-beta * (1 - float(x @ y)))
    n = len(features)
    system = [[kernel(features[i], features[j]) / ridge + (i == j) for j in range(n)] for i in range(n)]
    rest = [[float(labels[i] == c) - float(features[i] @ texts[c]) for c in range(C)] for i in range(n)]
    coefficients = np.linalg.solve(np.array(system), np.array(rest))
    near = [kernel(image, f) for f in features]
    return [100 * (float(image @ texts[c]) + sum(near[i] * coefficients[i][c] for i in range(n))) for c in range(C)]


CASES = {
    "plain": torch.arange(7) % C,
    "one image each": torch.arange(C),
    "one image": torch.tensor([1]),
    "a class without images": torch.tensor([0, 2, 0, 2, 2]),
    "more images than values": torch.arange(40) % C,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("views", [1, 3])
def test_logits_are_texts_and_what_they_leave_unexplained(case, views):
    labels = CASES[case]
    embedding = torch.randn(len(labels), views, D, generator=G)
    head = fitted(embedding, labels, beta=1.3, ridge=0.2)
    images = torch.randn(B, V, D, generator=G)
    logits = head(SCALE * F.normalize(images, dim=-1) @ TEXTS.T, None, images)
    flat, owners = embedding.flatten(0, 1), labels.repeat_interleave(views)
    for b in range(B):
        said = [torch.tensor(written_out(flat, owners, images[b, v], 1.3, 0.2)) for v in range(V)]
        torch.testing.assert_close(logits[b], torch.stack(said).mean(dim=0).float(), rtol=1e-4, atol=1e-3)


def test_equal_images_are_as_good_as_any_others():
    embedding, labels = torch.randn(6, 1, D, generator=G), torch.arange(6) % C
    embedding[3:] = embedding[:3]
    head = fitted(embedding, labels, beta=2.0, ridge=0.05)
    image = torch.randn(1, 1, D, generator=G)
    logits = head(SCALE * F.normalize(image, dim=-1) @ TEXTS.T, None, image)
    expected = torch.tensor(written_out(embedding[:, 0], labels, image[0, 0], 2.0, 0.05)).float()
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(head.coefficients[3:], head.coefficients[:3])


def released(**options) -> tuple[KernelHead, dict[str, torch.Tensor]]:
    _, stored = golden("proker")
    head = KernelHead(4, 6, SCALE, **options)
    show(head, stored["features"][:, None], stored["labels"], texts=stored["texts"])
    return head, stored


@pytest.mark.parametrize("search", [False, True])
def test_logits_are_the_releases(search):
    """The stored values are of the release's own ProKeR (trainers/proker.py), run on 17 random features of 4 classes,
    with its values of ImageNet at four shots, and searched on 40 random validation features."""
    head, stored = released(grid=Grid(0.5, 3.0, 6, 0.01, 1.0, 5) if search else None)
    if search:
        show(head, stored["val_features"][:, None], stored["val_labels"], "val", stored["texts"])
    head.refit()
    images = stored["test_features"][:, None]
    logits = head(SCALE * images @ stored["texts"].T, None, images)
    torch.testing.assert_close(logits / 100, stored["searched_logits" if search else "logits"], rtol=1e-4, atol=1e-5)
    expected = stored["found"].tolist() if search else [1.5, 0.05]
    assert [float(head.beta), float(head.ridge)] == pytest.approx(expected)


def test_the_first_of_the_best_pairs_is_found_as_by_solving_anew():
    means, labels, truth = torch.randn(C, 1, D, generator=G), torch.arange(9) % C, torch.arange(30) % C
    embedding = means[labels] + 0.9 * torch.randn(9, 1, D, generator=G)
    held = means[truth] + 0.9 * torch.randn(30, 1, D, generator=G)
    counts = {}
    for beta in (0.5, 1.25, 2.0):
        for ridge in (0.1, 0.7, 1.3, 1.9):
            head = fitted(embedding, labels, beta=beta, ridge=ridge)
            logits = head(SCALE * F.normalize(held, dim=-1) @ TEXTS.T, None, held)
            counts[beta, ridge] = int((logits.argmax(dim=-1) == truth).sum())
    head = KernelHead(C, D, SCALE, grid=Grid(0.5, 2.0, 3, 0.1, 1.9, 4))
    show(head, embedding, labels)
    show(head, held, truth, "val")
    head.refit()
    assert (float(head.beta), float(head.ridge)) == pytest.approx(max(counts, key=counts.__getitem__))
    assert len(set(counts.values())) > 1


def test_the_system_is_solved_in_its_own_memory():
    features = F.normalize(torch.randn(60, D, generator=G, dtype=torch.float64), dim=-1)
    system = (features @ features.T - 1).exp() / 0.1 + torch.eye(60)
    wanted = torch.randn(60, C, generator=G, dtype=torch.float64)
    expected, factor = torch.linalg.solve(system, wanted), torch.linalg.cholesky(system)
    torch.testing.assert_close(_solved(system, wanted), expected)
    torch.testing.assert_close(system.mT.tril(), factor)  # no other matrix of this size was made for it


@pytest.mark.parametrize(("shots", "expected"), [(1, (3, 0.05)), (3, (2.6, 0.05)), (8, (1.66, 0.07)), (40, (1.7, 0.1))])
def test_without_a_choice_the_values_of_imagenet_at_these_shots_are_taken(shots, expected):
    labels = torch.arange(2).repeat(shots)  # the third class has no images
    head = fitted(torch.randn(2 * shots, 2, D, generator=G), labels)
    assert (float(head.beta), float(head.ridge)) == pytest.approx(expected)
    assert float(fitted(torch.randn(2 * shots, 1, D, generator=G), labels, ridge=0.3).ridge) == pytest.approx(0.3)


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="no training image was observed"):
        KernelHead(C, D, SCALE).refit()
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        KernelHead(C, D, SCALE, beta=0)
    with pytest.raises(ValueError, match="ridge is 0.5 and cannot be searched as well"):
        KernelHead(C, D, SCALE, ridge=0.5, grid=Grid())
    with pytest.raises(ValueError, match="searched above 0 and upwards"):
        Grid(beta_min=0)
    with pytest.raises(ValueError, match="at least one β"):
        Grid(betas=0)
    with pytest.raises(ValueError, match="damaged"):
        KernelHead(C, D, SCALE).grow({"keys": torch.Size([3, D]), "coefficients": torch.Size([2, C])})

"""Gaussian discriminant analysis, written out, and against scikit-learn's where the two are the same."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cliptune.heads import GaussianHead
from cliptune.heads.gaussian import ALPHAS
from tests.golden.reference import golden

C, D, B, V = 3, 6, 4, 2
G = torch.Generator().manual_seed(9)


def show(head: GaussianHead, embedding: torch.Tensor, labels: torch.Tensor, votes=None, split: str = "train") -> None:
    votes = torch.zeros(len(labels), 1, C) if votes is None else votes
    for part in (slice(0, 3), slice(3, None)):
        out = SimpleNamespace(image_embedding=embedding[part], similarity=votes[part])
        head.observe(out, labels[part], split)


def spoken(head: GaussianHead, images: torch.Tensor) -> torch.Tensor:
    """What the Gaussians say, where the texts say nothing."""
    return head(torch.zeros(len(images), images.shape[1], C), None, images)


def written_out(embedding: np.ndarray, labels: np.ndarray, image: np.ndarray) -> list[float]:
    """Logits of one image from features (n, D), with loops, in float64."""
    features = [e / math.sqrt(sum(v * v for v in e)) for e in embedding]
    image = image / math.sqrt(sum(v * v for v in image))
    means = []
    for c in range(C):
        own = [f for f, label in zip(features, labels, strict=True) if label == c]
        means.append(sum(own) / len(own) if own else sum(features) / len(features))
    scatter = np.zeros((D, D))
    for f, label in zip(features, labels, strict=True):
        scatter += np.outer(f - means[label], f - means[label])
    covariance = scatter / (len(features) - 1)
    inverse = D * np.linalg.inv((len(features) - 1) * covariance + np.trace(covariance) * np.eye(D))
    return [float(image @ inverse @ m - m @ inverse @ m / 2 + math.log(1 / C)) for m in means]


@pytest.mark.parametrize(("n", "views"), [(30, 1), (4, 1), (5, 3)])
def test_logits_are_texts_and_gaussians_with_all_views_as_features(n, views):
    embedding, labels = torch.randn(n, views, D, generator=G), torch.arange(n) % C
    head = GaussianHead(C, D, alpha=0.7)
    show(head, embedding, labels)
    head.refit()
    flat, owners = embedding.flatten(0, 1).double().numpy(), labels.repeat_interleave(views).numpy()
    images, similarity = torch.randn(B, V, D, generator=G), torch.randn(B, V, C, generator=G)
    logits = head(similarity, None, images)
    for b in range(B):
        said = [torch.tensor(written_out(flat, owners, images[b, v].double().numpy())).float() for v in range(V)]
        expected = torch.stack([similarity[b, v] + 0.7 * said[v] for v in range(V)]).mean(dim=0)
        torch.testing.assert_close(logits[b], expected, rtol=1e-4, atol=1e-4)


def test_of_many_images_it_decides_as_scikit_learns_discriminants():
    means = torch.randn(C, D, generator=G)
    labels = torch.arange(3000) % C
    embedding = means[labels] + 0.5 * torch.randn(3000, D, generator=G)
    features = F.normalize(embedding, dim=-1)
    head = GaussianHead(C, D, alpha=1.0)
    show(head, embedding[:, None], labels)
    head.refit()
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / C] * C).fit(features.numpy(), labels.numpy())
    ours = spoken(head, embedding[:, None]).argmax(dim=-1).numpy()
    assert (ours == theirs.predict(features.numpy())).mean() > 0.99
    assert (ours == labels.numpy()).mean() > 0.9


@pytest.mark.parametrize("times", [1, 2])
def test_of_one_image_per_class_the_covariance_of_all_stands_in(times):
    embedding, labels = torch.randn(C, 1, D, generator=G).repeat(times, 1, 1), torch.arange(times * C) % C
    head = GaussianHead(C, D)
    show(head, embedding, labels)
    head.refit()
    image = torch.randn(1, 1, D, generator=G)
    features = F.normalize(embedding[:, 0].double(), dim=-1).numpy()
    means, covariance, n = features[:C], np.cov(features.T), len(features)
    inverse = D * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(D))
    f = F.normalize(image[0, 0].double(), dim=0).numpy()
    expected = [float(f @ inverse @ m - m @ inverse @ m / 2 + math.log(1 / C)) for m in means]
    torch.testing.assert_close(spoken(head, image)[0] / head.alpha, torch.tensor(expected).float())
    assert times > 1 or float(head.alpha) == 1.0


def test_images_that_are_all_one_leave_the_answer_to_the_texts():
    head = GaussianHead(C, D)
    show(head, torch.ones(2 * C, 1, D), torch.arange(2 * C) % C)
    head.refit()
    similarity = torch.randn(B, V, C, generator=G)
    logits = head(similarity, None, torch.randn(B, V, D, generator=G))
    torch.testing.assert_close(logits.log_softmax(-1), similarity.mean(dim=1).log_softmax(-1))


def test_the_weight_is_cross_validated_on_training_images():
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0])  # eight, three, two: five parts
    embedding = torch.randn(C, 1, D, generator=G)[labels] + 0.8 * torch.randn(13, 1, D, generator=G)
    votes = torch.randn(13, 1, C, generator=G)
    head = GaussianHead(C, D)
    show(head, embedding, labels, votes)
    head.refit()
    place = [labels[:i].tolist().count(int(labels[i])) % 5 for i in range(13)]
    right = dict.fromkeys(ALPHAS, 0)
    for i in range(13):
        rest = [j for j in range(13) if place[j] != place[i]]
        pair = embedding[rest, 0].double().numpy(), labels[rest].numpy()
        said = torch.tensor(written_out(*pair, embedding[i, 0].double().numpy()))
        for a in ALPHAS:
            right[a] += int((votes[i, 0] + a * said).argmax() == labels[i])
    assert float(head.alpha) == pytest.approx(max(ALPHAS, key=right.__getitem__))
    assert len(set(right.values())) > 1


def as_written_out(embedding: torch.Tensor, labels: torch.Tensor) -> tuple[GaussianHead, torch.Tensor]:
    """A head of these images (N, 1, D), and a new image that it answers as the loops do."""
    head = GaussianHead(C, D, alpha=1.0)
    show(head, embedding, labels)
    head.refit()
    image = torch.randn(1, 1, D, generator=G)
    expected = written_out(embedding[:, 0].double().numpy(), labels.numpy(), image[0, 0].double().numpy())
    torch.testing.assert_close(spoken(head, image)[0], torch.tensor(expected).float(), rtol=1e-4, atol=1e-4)
    return head, image


def test_two_equal_images_among_others_are_as_good_as_any():
    embedding, labels = torch.randn(7, 1, D, generator=G), torch.arange(7) % C
    embedding[3] = embedding[0]
    as_written_out(embedding, labels)


def test_a_class_without_images_is_spoken_of_by_the_texts():
    embedding, labels = torch.randn(8, 1, D, generator=G), torch.arange(8) % 2
    head, image = as_written_out(embedding, labels)
    loud = head(torch.tensor([[[0.0, 0.0, 1e3]]]), None, image)
    assert loud.argmax() == 2


def test_the_first_best_weight_on_validation_images_is_taken_if_asked():
    means, labels, truth = torch.randn(C, 1, D, generator=G), torch.arange(12) % C, torch.arange(20) % C
    embedding = means[labels] + 0.7 * torch.randn(12, 1, D, generator=G)
    held = means[truth] + 0.7 * torch.randn(20, 1, D, generator=G)
    votes = torch.randn(20, 1, C, generator=G)
    head = GaussianHead(C, D, search=True)
    show(head, embedding, labels)
    show(head, held, truth, votes, "val")
    head.refit()
    said = spoken(head, held)
    said = (said / head.alpha).detach()
    counts = [int(((votes[:, 0] + a * said).argmax(-1) == truth).sum()) for a in ALPHAS]
    assert float(head.alpha) == pytest.approx(ALPHAS[counts.index(max(counts))])
    assert len(set(counts)) > 1


def test_without_training_images_and_without_weight_is_a_sentence():
    with pytest.raises(ValueError, match="no training image was observed"):
        GaussianHead(C, D).refit()
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        GaussianHead(C, D, alpha=0)
    with pytest.raises(ValueError, match="cannot be searched as well"):
        GaussianHead(C, D, alpha=3.0, search=True)


# -- other classes -----------------------------------------------------------------------------------------------------


def test_weights_and_those_of_new_classes_are_the_releases():
    """The stored values are of the release's own lines, main_few_shots.py and main_base2new.py, run in float64 on 90
    random features of four classes and five random texts, with 6 in place of its 512."""
    _, stored = golden("gda")
    head = GaussianHead(4, 6, alpha=0.1)
    show(head, stored["features"][:, None], stored["labels"], torch.zeros(90, 1, 4))
    head.refit()
    torch.testing.assert_close(head.weight.double(), stored["weight"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(head.bias.double(), stored["bias"], rtol=1e-5, atol=1e-5)
    other = head.for_classes(stored["new_texts"][None], (-1,) * 5)
    torch.testing.assert_close(other.weight.double(), stored["new_weight"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.bias.double(), stored["new_bias"], rtol=1e-5, atol=1e-5)
    assert float(other.alpha) == pytest.approx(0.1)


@pytest.mark.parametrize("n", [1, 2, 5, 70])
def test_new_classes_are_made_of_the_features_nearest_to_their_texts(n):
    embedding, texts = torch.randn(n, 1, D, generator=G), F.normalize(torch.randn(4, D, generator=G), dim=-1)
    head = GaussianHead(C, D, alpha=1.0)
    show(head, embedding, torch.arange(n) % C)
    head.refit()
    features = list(F.normalize(embedding[:, 0].double(), dim=-1).numpy())
    k, inverse, means = min(n, 64), np.zeros((D, D)), []
    for t in texts.double().numpy():
        near = sorted(features, key=lambda f: -float(f @ t))[:k]
        scatter = sum(np.outer(f - t, f - t) for f in near)
        inverse += D * np.linalg.inv(scatter + np.trace(scatter) / max(k - 1, 1) * np.eye(D)) / 4
        means.append((sum(near) + 16 * t) / (k + 16))
    image = torch.randn(1, 1, D, generator=G)
    f = F.normalize(image[0, 0].double(), dim=0).numpy()
    expected = [float(f @ inverse @ m - m @ inverse @ m / 2 + math.log(1 / 4)) for m in means]
    said = head.for_classes(texts[None], (0, -1, -1, 1))(torch.zeros(1, 1, 4), None, image)
    torch.testing.assert_close(said[0], torch.tensor(expected).float(), rtol=1e-4, atol=1e-4)


def test_trained_classes_in_another_order_keep_their_gaussians():
    head = GaussianHead(C, D)
    show(head, torch.randn(9, 1, D, generator=G), torch.arange(9) % C)
    head.refit()
    other = head.for_classes(torch.zeros(1, 2, D), (2, 0))
    assert torch.equal(other.weight, head.weight[[2, 0]])
    assert torch.equal(other.bias, head.bias[[2, 0]])


def test_other_classes_are_made_once_and_are_no_part_of_the_head():
    texts, other_texts = torch.randn(1, 2, D, generator=G), torch.randn(1, 2, D, generator=G)
    head = GaussianHead(C, D)
    show(head, torch.randn(9, 1, D, generator=G), torch.arange(9) % C)
    head.refit()
    names = set(head.state_dict())
    first = head.for_classes(texts, (-1, -1))
    assert head.for_classes(texts, (-1, -1)) is first
    assert head.for_classes(other_texts, (-1, -1)) is not first
    assert set(head.state_dict()) == names == {"weight", "bias", "alpha", "features"}
    show(head, torch.randn(9, 1, D, generator=G), torch.arange(9) % C)
    head.refit()
    assert not torch.equal(head.for_classes(texts, (-1, -1)).weight, first.weight)


def test_texts_that_depend_on_the_image_make_no_new_classes():
    with pytest.raises(ValueError, match="do not depend on the image"):
        GaussianHead(C, D).for_classes(torch.randn(2, 2, D), (-1, -1))

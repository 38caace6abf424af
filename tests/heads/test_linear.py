"""The linear probe against scikit-learn run to convergence, at one strength and in the search of it."""

from __future__ import annotations

import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Oracle

from cliptune.clip.weights.load import load_clip
from cliptune.data import load_data
from cliptune.data.loader import gather
from cliptune.data.transforms import test_transform as centred
from cliptune.heads import LinearHead, curvature, logistic
from cliptune.heads.logistic import LogisticRegression

Features = tuple[np.ndarray, np.ndarray]


def unit(n: int, width: int, classes: int, seed: int, noise: float = 1.5) -> Features:
    """Unit vectors like CLIP's: around one mean, with a spectrum that decays; images of a class around its centre."""
    world, own = np.random.default_rng(3), np.random.default_rng(seed)
    spectrum = np.arange(1, width + 1) ** -0.7
    centres = world.normal(size=(classes, width)) * spectrum
    mean, turn = world.normal(size=width), np.linalg.qr(world.normal(size=(width, width)))[0]
    y = np.arange(n) % classes
    x = mean / np.linalg.norm(mean) + 0.3 * (centres[y] + noise * own.normal(size=(n, width)) * spectrum) @ turn
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def observed(head: LinearHead, features: Features, split: str = "train") -> None:
    embedding = torch.tensor(features[0])[:, None]
    head.observe(SimpleNamespace(image_embedding=embedding), torch.tensor(features[1]), split)


def fitted(train: Features, val: Features | None = None, classes: int | None = None, **options) -> LinearHead:
    head = LinearHead(classes or int(train[1].max()) + 1, train[0].shape[1], **options)
    observed(head, train)
    if val is not None:
        observed(head, val, "val")
    head.refit()
    return head


def accuracy(head: LinearHead, features: Features) -> float:
    answer = head(None, None, torch.tensor(features[0])[:, None]).argmax(-1).numpy()
    return 100 * (answer == features[1]).mean()


def oracle(features: Features, c: float, tol: float = 1e-10) -> Oracle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounding, where no step can be better
        return Oracle(C=c, max_iter=20_000, tol=tol, solver="newton-cg").fit(
            features[0].astype(np.float64), features[1]
        )


def searched(train: Features, val: Features) -> tuple[float, Oracle]:
    """The search as it is published, one fit from cold for every value."""

    @cache
    def model(power: float) -> Oracle:
        return oracle(train, 10.0**power)

    def score(power: float) -> float:
        return model(power).score(*val)

    best, step = max((-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0), key=score), 1.0
    for _ in range(8):
        best = max((best, best - step, best + step), key=score)
        step /= 2
    return 10.0**best, model(best)


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("classes", [3, 7])
def test_coefficients_are_scikit_learns(classes, c):
    x, y = unit(90, 12, classes, 1)
    expected = oracle((x, y), c)
    found = LogisticRegression(torch.tensor(x), torch.tensor(y), classes).fit(c, 1e-7)
    size = np.abs(expected.coef_).max()
    np.testing.assert_allclose(found.weight.numpy(), expected.coef_, atol=1e-5 * size)
    np.testing.assert_allclose(found.bias.numpy(), expected.intercept_, atol=1e-5 * max(1, size))


def test_two_classes_are_scikit_learns_as_well():
    x, y = unit(60, 12, 2, 1)
    head, expected = fitted((x, y), c=5.0), oracle((x, y), 5.0)
    weight = head.weight.numpy()
    np.testing.assert_allclose(weight[1:] - weight[:1], expected.coef_, atol=1e-3 * np.abs(expected.coef_).max())


def test_the_stated_error_bounds_the_true_one():
    x, y = (torch.tensor(v) for v in unit(200, 16, 5, 1))
    for c in (1.0, 1e3, 1e6):
        true = LogisticRegression(x, y, 5).fit(c, 1e-9)
        for passes in (2, 5, 20):
            rough = LogisticRegression(x, y, 5, passes=passes).fit(c, 1e-9)
            assert (rough.weight - true.weight).norm() <= 1.001 * rough.error * rough.weight.norm() + 1e-12
            assert rough.passes <= passes + 1


def test_a_start_from_other_strengths_ends_at_the_same_minimum():
    x, y = (torch.tensor(v) for v in unit(300, 16, 10, 1))
    regression = LogisticRegression(x, y, 10)
    near = {c: regression.fit(c, 1e-6) for c in (1.0, 10.0, 1e3)}
    cold, warm = regression.fit(100.0, 1e-6), regression.fit(100.0, 1e-6, near)
    assert (warm.weight - cold.weight).norm() <= 2e-6 * cold.weight.norm()
    assert warm.passes < cold.passes


def test_where_classes_overlap_a_fit_may_end_where_steps_are_short():
    x, y = (torch.tensor(v) for v in unit(600, 16, 5, 1, noise=6.0))
    regression = LogisticRegression(x, y, 5)
    for c in (1e2, 1e4, 1e6):
        true = LogisticRegression(x, y, 5).fit(c, 1e-8)
        bound, settled = regression.fit(c, 1e-3), regression.fit(c, 1e-3, settled=1e-2)
        assert (settled.weight - true.weight).norm() <= 3e-3 * true.weight.norm()
        assert settled.passes <= bound.passes
    assert settled.passes < bound.passes
    assert settled.error > 1e-3  # what the gradient promises is told as it is


@pytest.mark.parametrize(
    "limits",
    [{"CHUNK": 70}, {"KEPT": 0}, {"WIDE": 0}, {"CHUNK": 70, "KEPT": 0}, {"MIXED": 1}, {"SAMPLED": 70}, {"STALE": 0},
     {"MANY": 1}, {"MANY": 1, "IMAGES": 10, "CHUNK": 70}, {"MANY": 1, "OWN": 0}],
)  # fmt: skip
def test_limits_of_memory_change_nothing_but_rounding(monkeypatch, limits):
    x, y = (torch.tensor(v) for v in unit(100, 12, 7, 1))
    near = {c: LogisticRegression(x, y, 7).fit(c, 1e-2) for c in (1e1, 1e2)}
    expected = LogisticRegression(x, y, 7).fit(1e3, 1e-6, near)
    for name, value in limits.items():
        monkeypatch.setattr(logistic if hasattr(logistic, name) else curvature, name, value)
    found = LogisticRegression(x, y, 7).fit(1e3, 1e-6, near)
    assert (found.weight - expected.weight).norm() <= 3e-6 * expected.weight.norm()


def mislabelled(share: float, cells: int = 50, each: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """One-hot features of as many classes, of which a share has labels at random."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(cells * each) % cells
    x = torch.eye(cells)[y]
    chance = torch.rand(len(y), generator=draw) < share
    y = torch.where(chance, torch.randint(0, cells, (len(y),), generator=draw), y)
    y[:cells] = torch.arange(cells)
    return x, y


@pytest.mark.parametrize(("share", "c"), [(0.5, 100.0), (0.05, 100.0), (0.1, 1e4)])
def test_images_that_are_wrong_with_near_certainty_do_not_stop_a_fit(share, c):
    x, y = mislabelled(share)
    assert LogisticRegression(x, y, 50).fit(c, 1e-5).error <= 1e-5


@pytest.mark.parametrize("c", [1e5, 1e6, 3e6])
def test_where_rounding_hides_what_is_gained_a_fit_goes_on_to_the_minimum(c):
    x, y = mislabelled(0.5, 3, 20)
    found = LogisticRegression(x + 0.05 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1)), y, 3).fit(
        c, 1e-5
    )
    assert found.error <= 1e-5
    assert found.passes < 200


def test_passes_are_not_more_than_asked_for_but_by_one():
    x, y = mislabelled(0.3)
    for passes in (1, 2, 3, 5, 10, 50):
        assert LogisticRegression(x, y, 50, passes).fit(1e4, 1e-6).passes <= passes + 1


def test_where_all_images_are_right_the_weakest_penalties_still_converge():
    x, y = (torch.tensor(v) for v in unit(120, 40, 6, 1, noise=0.3))
    for c in (1e6, 1e9, 1e12):
        found = LogisticRegression(x, y, 6).fit(c, 1e-4)
        assert found.error <= 1e-4
        assert ((x.double() @ found.weight.T + found.bias).argmax(1) == y).all()


@pytest.mark.parametrize(("noise", "shots"), [(0.8, 8), (1.5, 16), (2.5, 4)])
def test_the_search_chooses_as_scikit_learn_on_features_like_clips(noise, shots):
    train, val, test = (unit(20 * n, 48, 20, seed, noise) for seed, n in enumerate((shots, 4, 25)))
    c, expected = searched(train, val)
    head = fitted(train, val)
    assert head.chosen == {"images": len(val[1]), "chose": {"C": c}}
    assert accuracy(head, test) == pytest.approx(100 * expected.score(*test), abs=0.1)


def test_the_search_chooses_as_scikit_learn_on_tinyworld():
    clip, data = load_clip("mini"), load_data("tinyworld/aquarium").few_shot(4, seed=1)
    splits = {}
    for name in ("train", "val", "test"):
        split = data[name].subset(range(0, len(data[name]), 5 if name == "test" else 1))
        images = gather(split, list(range(len(split))), centred(clip.image.resolution)).images
        with torch.no_grad():
            embedding = clip.encode_image(clip.normalise(images)[:, None])[:, 0]
        splits[name] = embedding.numpy(), split.labels.numpy()
    c, expected = searched(splits["train"], splits["val"])
    head = fitted(splits["train"], splits["val"])
    assert head.chosen["chose"]["C"] == c
    assert accuracy(head, splits["test"]) == pytest.approx(100 * expected.score(*splits["test"]), abs=0.1)


def test_progress_and_what_was_chosen_are_told():
    train, val = unit(60, 12, 6, 1), unit(24, 12, 6, 2)
    head, lines = LinearHead(6, 12), []
    head.listener = lambda line, minor: lines.append(line)
    observed(head, train)
    observed(head, val, "val")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head.refit()
    scored = [line for line in lines if "of 24 validation images right" in line]
    assert len(scored) == 23
    assert scored[0].startswith("C = 1e-06, value 1 of 23: ")
    assert any(line.startswith("C = 1e+06: error of the weights at most ") for line in lines)


def test_a_given_strength_and_missing_validation_images_choose_nothing():
    train = unit(60, 12, 6, 1)
    assert fitted(train, unit(24, 12, 6, 2), c=2.0).chosen is None
    head, given = fitted(train), fitted(train, c=1.0)
    assert head.chosen is None
    torch.testing.assert_close(head.weight, given.weight)


def test_fewer_validation_images_than_classes_are_searched_on_and_it_is_said():
    lines: list[str] = []
    head = LinearHead(6, 12)
    head.listener = lambda line, minor: None if minor else lines.append(line)
    observed(head, unit(60, 12, 6, 1))
    observed(head, unit(4, 12, 6, 2), "val")
    head.refit()
    assert head.chosen["images"] == 4
    assert any("on 4 validation images, fewer than the 6 classes" in line for line in lines)


def test_validation_images_of_a_class_without_training_images_are_wrong_whatever_c_is():
    x, y = unit(80, 12, 4, 1)
    train, val = (x[y > 0], y[y > 0]), unit(40, 12, 4, 2)
    head, without = fitted(train, val, classes=4), fitted(train, (val[0][val[1] > 0], val[1][val[1] > 0]), classes=4)
    assert head.chosen["chose"] == without.chosen["chose"]
    assert accuracy(head, (x[y == 0], y[y == 0])) == 0


def test_what_stops_before_the_minimum_says_so():
    lines: list[str] = []
    head = LinearHead(6, 12, c=1e6, max_iter=3)
    head.listener = lambda line, minor: None if minor else lines.append(line)
    observed(head, unit(60, 12, 6, 1))
    head.refit()
    assert lines[-1].startswith("Not converged: the weights may be off by ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused(value):
    train, val = unit(60, 12, 6, 1), unit(24, 12, 6, 2)
    broken = val[0].copy()
    broken[5, 3] = value
    with pytest.raises(ValueError, match="1 of 24 validation images have others, the first at position 5"):
        fitted(train, (broken, val[1]))
    with pytest.raises(ValueError, match="1 of 24 training images have others"):
        fitted((broken, val[1]))


@pytest.mark.parametrize("options", [{"c": 0.0}, {"c": float("nan")}, {"c": float("inf")}, {"max_iter": 0}])
def test_bad_options_get_a_sentence(options):
    with pytest.raises(ValueError, match="must be"):
        LinearHead(3, 4, **options)


def test_a_class_without_images_is_told_of_and_never_predicted():
    x, y = unit(80, 12, 4, 1)
    lines: list[str] = []
    head = LinearHead(4, 12, c=1.0)
    head.listener = lambda line, minor: None if minor else lines.append(line)
    observed(head, (x[y != 2], y[y != 2]))
    head.refit()
    assert lines == ["1 of 4 classes have no training images and are never predicted"]
    assert accuracy(head, (x[y == 2], y[y == 2])) == 0

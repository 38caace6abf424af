"""Singular values and their measures, against numpy and the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cliptune.analysis.spectrum import accuracy_of_each, correlated, rank_history, spectrum
from cliptune.batch import Batch
from cliptune.registry import build
from tests.conftest import CLASS_NAMES


@pytest.mark.parametrize("k", [1, 2])
def test_measures_are_those_written_out(k):
    matrix = torch.randn(4, 24)
    found = spectrum(matrix, k)
    sigma = sorted(np.sqrt(np.linalg.eigvalsh((matrix @ matrix.T).double().numpy())), reverse=True)
    total = sum(sigma)
    shares = [s / total for s in sigma]
    assert found.values.tolist() == pytest.approx(sigma, rel=1e-4)
    assert found.density == pytest.approx(sum(sigma[:k]) / total, rel=1e-5)
    assert found.density_squared == pytest.approx(sum(s**2 for s in sigma[:k]) / sum(s**2 for s in sigma), rel=1e-5)
    assert found.effective == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-5)
    assert found.stable == pytest.approx(float(matrix.square().sum()) / sigma[0] ** 2, rel=1e-5)
    assert found.numerical == 4


def test_a_product_of_rank_one_says_so():
    found = spectrum(torch.randn(4, 1) @ torch.randn(1, 16))
    assert found.density == pytest.approx(1, abs=1e-6)
    assert found.effective == pytest.approx(1, abs=1e-4)
    assert found.numerical == 1


def test_equal_values_fill_all_directions():
    found = spectrum(torch.eye(4, 10))
    assert found.density == pytest.approx(0.25)
    assert found.effective == found.stable == pytest.approx(4)


def test_nothing_has_no_rank():
    found = spectrum(torch.zeros(3, 5))
    assert all(math.isnan(getattr(found, name)) for name in ("density", "effective", "stable", "numerical"))


def test_class_specific_matrices_are_averaged():
    both = torch.randn(2, 3, 8)
    single = [spectrum(matrix).effective for matrix in both]
    assert spectrum(both).effective == pytest.approx(sum(single) / 2)


def test_correlation_is_scipys_and_its_interval_holds_it():
    x = torch.linspace(0, 1, 12)
    y = x + 0.3 * torch.randn(12)
    found = correlated(x, y, draws=400)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low <= found.rho <= found.high <= 1
    again = correlated(x, y, draws=400)
    assert again == found


def test_the_bootstrap_covers_nothing_where_nothing_varies():
    assert math.isnan(correlated(torch.ones(5), torch.arange(5.0)).rho)
    assert math.isnan(correlated(torch.arange(2.0), torch.arange(2.0)).rho)


def test_history_counts_changes_from_the_first_epoch():
    start, way = torch.randn(3, 10), torch.randn(3, 1) @ torch.randn(1, 10)
    prompts = [{"text 0": start + i * way} for i in range(5)]
    new = torch.tensor([50.0, 52.0, 51.0, 55.0, 60.0])
    found = rank_history([f"coop {i}" for i in range(5)], prompts, {"new": new}, {"new": 40}, draws=50)
    density = found.over_epochs("ΔP", "density")
    assert math.isnan(float(density[0]))
    assert density[1:].tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    expected = stats.spearmanr([spectrum(p["text 0"]).density for p in prompts], new).statistic
    assert found.correlations["P"]["density"]["new"].rho == pytest.approx(expected)
    assert found.correlations["P"]["density"]["new"].n == 5
    assert found.correlations["ΔP"]["density"]["new"].n == 4
    assert "Spearman's ρ" in found.sentence()
    assert found.to_json()["spectra"]["ΔP"][0][0]["density"] is None


def test_one_epoch_says_what_is_missing():
    found = rank_history(["last"], [{"text 0": torch.randn(3, 10)}], {}, {})
    assert "--log-prompts" in found.sentence()
    assert found.correlations == {}


@torch.no_grad()
@pytest.mark.parametrize(("method", "passes"), [("coop", 1), ("vpt", 3)])
def test_images_are_encoded_once_where_nothing_reaches_them(tiny_clip, images, method, passes):
    adapters = [build(method, tiny_clip, CLASS_NAMES, seed=i).adapter.eval() for i in range(3)]
    batch, encoded = Batch.of(images, torch.tensor([3, 0, 3])), []
    hook = tiny_clip.image.register_forward_hook(lambda *_: encoded.append(1))
    accuracy, n = accuracy_of_each(adapters, [batch])
    hook.remove()
    assert len(encoded) == passes
    expected = [100 * float((a(batch).logits.argmax(-1) == batch.labels).float().mean()) for a in adapters]
    assert accuracy.tolist() == pytest.approx(expected)
    assert n == 3


@pytest.mark.parametrize(("shape", "k"), [((4,), 1), ((2, 4), 3), ((2, 4), 0)])
def test_what_is_no_matrix_is_a_sentence(shape, k):
    with pytest.raises(ValueError, match="expected a matrix"):
        spectrum(torch.ones(shape), k)

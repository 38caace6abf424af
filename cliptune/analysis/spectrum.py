"""How many directions a prompt uses: singular values and measures of them, epoch by epoch, beside accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch

TOLERANCE = 1e-3
MATRICES = ("P", "ΔP")
MEASURES = ("density", "density_squared", "effective", "stable", "numerical")
DRAWS = 2000


@dataclass(frozen=True)
class Spectrum:
    """Of a matrix X with singular values σ_1 ≥ … ≥ σ_m; of several (…, n, d), the means over them.

    Args:
        values: (m,) float64, the mean σ_i.
        density: information density Σ_{i≤k} σ_i / Σ σ_i, in [0, 1]. (arXiv:2312.10813)
        density_squared: the same of σ².
        effective: exp(−Σ p log p) with p_i = σ_i / Σ σ, in [1, m].
        stable: ‖X‖_F² / σ_1², in [1, m].
        numerical: how many σ_i are above 1e-3 σ_1.
    All but `values` are NaN for a matrix of zeros.
    """

    values: Tensor
    density: float
    density_squared: float
    effective: float
    stable: float
    numerical: float


@dataclass(frozen=True)
class Correlated:
    """Spearman's ρ over epochs, with the 95 % percentile interval of a bootstrap over them.

    Args:
        rho, low, high: NaN where either row is constant. Epochs that follow each other are alike, so that the interval
            is rather too narrow.
        n: epochs.
    """

    rho: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RankHistory(Finding):
    """Singular values of a run's prompts over its epochs, and their correlation with accuracy.

    Args:
        epochs: (E,) such as "coop 3"; 0 is the start of a stage.
        places: L, such as "text 0".
        k: of the information density.
        spectra: "P" and, where the start is known, "ΔP" = P − P of the first epoch → E lists of L spectra.
        accuracy: "base" and so on → (E,) in %; empty where it cannot be had.
        n: the same names → images.
        correlations: "P" or "ΔP" → measure, mean over places → name of the accuracy → over the epochs.
    """

    epochs: tuple[str, ...]
    places: tuple[str, ...]
    k: int
    spectra: Mapping[str, Sequence[Sequence[Spectrum]]]
    accuracy: Mapping[str, Tensor]
    n: Mapping[str, int]
    correlations: Mapping[str, Mapping[str, Mapping[str, Correlated]]]

    def over_epochs(self, matrix: str, measure: str) -> Tensor:
        """(E,) mean over places."""
        means = [[getattr(spectrum, measure) for spectrum in places] for places in self.spectra[matrix]]
        return torch.tensor(means, dtype=torch.float64).mean(dim=1)

    def sentence(self) -> str:
        density = 100 * self.over_epochs("P", "density")
        effective = self.over_epochs("P", "effective")
        most = len(self.spectra["P"][0][0].values)
        if len(self.epochs) == 1:
            return (
                f"The largest of {most} singular values of the prompt holds {float(density[0]):.0f} % of their sum "
                f"(effective rank {float(effective[0]):.2f}, mean over {len(self.places)} places); earlier epochs were "
                "not kept, train with --log-prompts to see them."
            )
        held = "largest singular value holds" if self.k == 1 else f"{self.k} largest singular values hold"
        said = (
            f"Over {len(self.epochs)} epochs the {held} {float(density[0]):.1f} % of their sum at first and "
            f"{float(density[-1]):.1f} % at last (effective rank {float(effective[0]):.2f} to "
            f"{float(effective[-1]):.2f})"
        )
        found = self.correlations.get("P", {}).get("density", {})
        name = next((name for name in ("new", "base", "all") if name in found), None)
        if name is None:
            return f"{said}."
        rho = found[name]
        if not np.isfinite(rho.rho):
            return f"{said}; it cannot be correlated with the accuracy on {name} classes, one of them is constant."
        within = " The interval has 0 in it." if rho.low <= 0 <= rho.high else ""
        return (
            f"{said}; Spearman's ρ of it with the accuracy on {name} classes is {rho.rho:+.2f} "
            f"(95 % interval {rho.low:+.2f} to {rho.high:+.2f}, over epochs).{within}"
        )


def spectrum(matrix: Tensor, k: int = 1) -> Spectrum:
    """Singular values and measures of (n, d), or the means over (…, n, d).

    Args:
        k: of the information density, 1 ≤ k ≤ min(n, d).
    Raises: ValueError for another k, or a vector.
    """
    if matrix.ndim < 2 or not 1 <= k <= min(matrix.shape[-2:]):
        raise ValueError(
            f"spectrum: expected a matrix (n, d) and 1 ≤ k ≤ min(n, d), got shape {tuple(matrix.shape)} and k = {k}."
        )
    sigma = torch.linalg.svdvals(matrix.detach().double().cpu()).reshape(-1, min(matrix.shape[-2:]))
    squared, share = sigma.square(), sigma / sigma.sum(dim=-1, keepdim=True)
    measures = {
        "density": share[:, :k].sum(dim=-1),
        "density_squared": squared[:, :k].sum(dim=-1) / squared.sum(dim=-1),
        "effective": torch.special.entr(share).sum(dim=-1).exp(),
        "stable": squared.sum(dim=-1) / squared[:, 0],
        "numerical": torch.where(sigma[:, 0] > 0, (sigma > TOLERANCE * sigma[:, :1]).sum(dim=-1).double(), torch.nan),
    }
    return Spectrum(sigma.mean(dim=0), **{name: float(value.mean()) for name, value in measures.items()})


def correlated(first: Tensor, second: Tensor, *, draws: int = DRAWS, seed: int = 0) -> Correlated:
    """Spearman's ρ of two rows (E,), with a bootstrap over their pairs; draws where a row is constant are left out."""
    pairs = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)], axis=1)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not _varied(pairs):
        return Correlated(float("nan"), float("nan"), float("nan"), len(pairs))
    random = np.random.default_rng(seed)
    drawn = [
        _rho(sample)
        for sample in (pairs[random.integers(len(pairs), size=len(pairs))] for _ in range(draws))
        if _varied(sample)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Correlated(_rho(pairs), float(low), float(high), len(pairs))


def rank_history(
    epochs: Sequence[str],
    prompts: Sequence[Mapping[str, Tensor]],
    accuracy: Mapping[str, Tensor],
    n: Mapping[str, int],
    *,
    k: int = 1,
    draws: int = DRAWS,
) -> RankHistory:
    """Spectra over epochs, and their correlations with accuracies.

    Args:
        epochs: names. prompts: of each epoch, place → (…, n, d); ΔP counts from the first.
        accuracy: name → (E,) in %. n: images of each.
        k: of the information density.
        draws: of the bootstrap.
    Raises: ValueError if there is no prompt matrix, or the epochs have different ones.
    """
    if not prompts or not prompts[0] or any(p.keys() != prompts[0].keys() for p in prompts):
        raise ValueError("rank_history: every epoch must have the same prompt matrices, at least one.")
    places = tuple(prompts[0])
    spectra = {"P": [[spectrum(p[place], k) for place in places] for p in prompts]}
    if len(prompts) > 1:
        moved = [[p[place] - prompts[0][place] for place in places] for p in prompts]
        spectra["ΔP"] = [[spectrum(matrix, k) for matrix in of_epoch] for of_epoch in moved]
    plain = RankHistory(tuple(epochs), places, k, spectra, accuracy, n, {})
    correlations = {
        matrix: {
            measure: {
                name: correlated(plain.over_epochs(matrix, measure), values, draws=draws)
                for name, values in accuracy.items()
            }
            for measure in MEASURES
        }
        for matrix in spectra
        if len(prompts) > 1
    }
    return RankHistory(tuple(epochs), places, k, spectra, accuracy, n, correlations)


@torch.no_grad()
def accuracy_of_each(adapters: Sequence[Adapter], batches: Iterable[Batch]) -> tuple[Tensor, int]:
    """Accuracies (A,) in % of adapters over one CLIP and the same classes, and how many images there were.

    Images are encoded once where no adapter reaches them, and each adapter's texts once.
    """
    frozen = all(adapter.image_is_frozen for adapter in adapters)
    texts = [adapter.text_features() for adapter in adapters]
    right, n = torch.zeros(len(adapters), dtype=torch.float64), 0
    for batch in batches:
        known = None
        for i, (adapter, text) in enumerate(zip(adapters, texts, strict=True)):
            with adapter.evaluating():
                out = adapter(batch, text_features=text, image_embedding=known)
            known = out.image_embedding if frozen else None
            right[i] += (out.logits.argmax(dim=-1) == batch.labels).sum().cpu()
        n += len(batch)
    return 100 * right / max(1, n), n


def _varied(pairs: np.ndarray) -> bool:
    return len(pairs) > 2 and bool((np.ptp(pairs, axis=0) > 0).all())


def _rho(pairs: np.ndarray) -> float:
    return float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)

"""Whether what an adapter looks at is the object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.analysis.frozen import frozen
from cliptune.analysis.looking import look, maps_of
from cliptune.batch import Batch
from cliptune.saliency import iou, saliency

GROUPS = ("all", "right", "wrong")
WHO = ("before", "after")


@dataclass(frozen=True)
class Look:
    """Mean over images; NaN without any.

    Args:
        on_foreground: Σ m w / Σ w, in [0, 1], for a mask m and a map w ≥ 0.
        chance: mean of m, what an even map would have.
        lift: on_foreground / chance.
        hit: m where w is largest, the pointing game.
        n: images. empty: those left out because their map is 0 everywhere.
    """

    on_foreground: float
    chance: float
    lift: float
    hit: float
    n: int
    empty: int


@dataclass(frozen=True)
class Foreground(Finding):
    """How much of what the frozen CLIP ("before") and the adapter ("after") look at is foreground.

    Args:
        looks: map → before or after → "all", "right" or "wrong" (as the adapter names them) → `Look`.
        iou: before or after → mean intersection over union of the Grad-CAM map, cut at half of its maximum, and mask.
        accuracy: of the adapter in %.
    Source: the question is DAPT's (arXiv:2508.00395); its score is not published, this one is ours.
    """

    looks: Mapping[str, Mapping[str, Mapping[str, Look]]]
    iou: Mapping[str, float]
    accuracy: float

    def sentence(self) -> str:
        said = []
        for name, of in self.looks.items():
            before, after = of["before"]["all"], of["after"]["all"]
            said.append(
                f"{name} lies to {100 * before.on_foreground:.0f} % on the object before and to "
                f"{100 * after.on_foreground:.0f} % after training ({after.lift:.2f} times chance)"
            )
        first = next(iter(self.looks.values()))["after"]
        apart = ""
        if first["wrong"].n and first["right"].n:
            apart = (
                f" Of images named rightly {100 * first['right'].on_foreground:.0f} %, of the {first['wrong'].n} named "
                f"wrongly {100 * first['wrong'].on_foreground:.0f} %."
            )
        return f"Over {first['all'].n + first['all'].empty} images, {'; '.join(said)}.{apart}"


def on_foreground(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ m w / Σ w, the mean of m, and m where w is largest, each (B,); NaN first and last for a map of zeros.

    Args:
        maps: (B, G, G) ≥ 0.
        masks: (B, 1, h, w) in [0, 1], averaged down to the grid.
    """
    m = F.adaptive_avg_pool2d(masks.double(), (maps.shape[-2], maps.shape[-1])).flatten(1)
    w = maps.double().flatten(1)
    total = w.sum(dim=1)
    there = torch.where(total > 0, 1.0, torch.nan)
    peak = m.gather(1, w.argmax(dim=1, keepdim=True)).squeeze(1)
    return (m * w).sum(dim=1) / total, m.mean(dim=1), peak * there


def foreground(adapter: Adapter, batches: Iterable[Batch], maps: Sequence[str] | None = None) -> Foreground:
    """Compare maps of the frozen CLIP and of the adapter with masks.

    Args:
        adapter: one that draws nothing on the pixels, since masks are those of the pictures.
        batches: labelled images with masks.
        maps: see `maps_of`; None for all.
    Raises: ValueError if there are no masks, no images, or the adapter draws on the pixels.
    """
    if adapter.prompt(seen=adapter.seen).pixels is not None:
        raise ValueError("foreground: this method draws on the pixels, so that masks of the pictures do not fit.")
    names, who = tuple(maps or maps_of(adapter)), dict(zip(WHO, (frozen(adapter), adapter), strict=True))
    measured: dict[tuple[str, str], list[Tensor]] = {(name, one): [] for name in names for one in who}
    overlap: dict[str, list[Tensor]] = {one: [] for one in who}
    right = []
    for batch in batches:
        if batch.masks is None:
            raise ValueError(
                "foreground: it is not known where the objects are in these pictures. Give a folder of masks: --masks."
            )
        with torch.no_grad(), adapter.evaluating():
            right.append((adapter(batch).logits.argmax(dim=-1) == batch.labels).cpu())
        for (name, one), rows in measured.items():
            found = look(who[one], batch, name)
            rows.append(torch.stack(on_foreground(found, batch.masks), dim=1).cpu())
            if name == "grad-cam":
                cut = saliency(found, batch.masks.shape[-1])[:, 0] >= 0.5
                overlap[one].append(iou(cut, batch.masks[:, 0]).cpu())
    if not right:
        raise ValueError("foreground: there is no image to look at. Give batches of at least one image.")
    named = torch.cat(right)
    chosen = {"all": torch.ones_like(named), "right": named, "wrong": ~named}
    looks = {
        name: {
            one: {group: _mean(torch.cat(measured[name, one])[rows]) for group, rows in chosen.items()} for one in who
        }
        for name in names
    }
    overlaps = {one: float(torch.cat(parts).mean()) for one, parts in overlap.items() if parts}
    return Foreground(looks, overlaps, 100 * float(named.double().mean()))


def _mean(rows: Tensor) -> Look:
    """Of (N, 3) rows of `on_foreground`."""
    whole = rows[rows.isfinite().all(dim=1)]
    on, chance, hit = (float(whole[:, i].mean()) if len(whole) else float("nan") for i in range(3))
    lift = float((whole[:, 0] / whole[:, 1]).mean()) if len(whole) else float("nan")
    return Look(on, chance, lift, hit, len(whole), len(rows) - len(whole))

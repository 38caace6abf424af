"""Labels that a cross-validated classifier on frozen features does not believe."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.data.fewshot import groups
from cliptune.data.items import Dataset
from cliptune.doctor.duplicates import Place
from cliptune.doctor.findings import HINT, Finding
from cliptune.doctor.pictures import Progress
from cliptune.features import FeatureStore, View, embedded, opened
from cliptune.heads.logistic import LogisticRegression

FOLDS = 5
MOST = 20_000
"""Pictures that are looked at; of more, so many are drawn, each class in its share."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""C of the logistic regression on unit features, of which the one with the smallest cross-validated loss is taken."""
MARGIN = 0.3
"""By how much another class must be likelier than the label. Without it many more are doubted and hardly more found."""
SURE = 0.9
"""From this probability on another class is believed, though its own pictures may be surer still."""
POOR = 70
"""Agreement in % below which the features tell the classes apart too badly to judge labels by them."""


@dataclass(frozen=True)
class Doubts:
    """What cross-validation says of labels.

    Args:
        finding: pictures whose label is doubted, the most doubtful first; None if there is none.
        looked: sentences on how it was found.
    """

    finding: Finding | None
    looked: tuple[str, ...]


def doubted(
    data: Dataset,
    places: Sequence[Place],
    clip: CLIP,
    *,
    progress: Progress | None = None,
    store: FeatureStore | bool = True,
) -> Doubts:
    """Pictures that probably belong to another class.

    A logistic regression on the frozen image features answers for each picture after learning from four fifths of the
    others. A label is doubted if another class is the likeliest, and likelier than that class is on average for its own
    pictures: confident learning (arXiv:1911.00068, Eq. 1), with the likeliest class. Ours are `SURE`, which always
    suffices, and `MARGIN`, by which it must be likelier than the label.

    Args:
        places: pictures that can be decoded, one of each group of equal ones.
        clip: its image tower makes the features.
        store: where they are looked up and added, as in `fit`.
    Returns: doubts; of classes with fewer than two pictures none.
    """
    counts = groups([_label(data, place) for place in places])
    usable = [place for place in places if len(counts[_label(data, place)]) > 1]
    if len({_label(data, place) for place in usable}) < 2:
        return Doubts(None, ("Labels were not looked at, because fewer than two classes have two pictures.",))
    drawn = _drawn(data, usable)
    features = _features(data, drawn, clip, progress, opened(store))
    present, labels = torch.tensor([_label(data, place) for place in drawn]).unique(return_inverse=True)
    chances = cross_validated(features, labels, len(present))
    answers = chances.argmax(dim=1)
    right = 100 * float((answers == labels).double().mean())
    looked = [
        f"Labels: a classifier on the features of {clip.name}, cross-validated, agrees with {right:.0f} % of "
        f"{len(drawn):,} labels{'' if len(drawn) == len(usable) else f' drawn of {len(usable):,}'}."
    ]
    if right < POOR:
        looked.append(
            "These features tell the classes apart badly, so most of the labels that they doubt will be right after "
            "all: give a backbone that knows such pictures, --backbone ViT-B/16."
        )
    cases = [
        f"{data[drawn[k][0]][drawn[k][1]].path} looks like {data.class_names[int(present[answers[k]])]!r} "
        f"({float(chances[k, answers[k]]):.2f}; as labelled {float(chances[k, labels[k]]):.2f})"
        for k in confident(chances, labels)
    ]
    text = "Labels may be wrong, the most doubtful first. Look at these pictures."
    return Doubts(Finding("mislabel", HINT, text, tuple(cases)) if cases else None, tuple(looked))


def confident(chances: Tensor, labels: Tensor) -> list[int]:
    """Rows whose label is doubted, by how much likelier the other class is.

    Args:
        chances: (N, C) out-of-fold probabilities. labels: (N,) in 0 … C−1, each there.
    """
    own = chances.gather(1, labels[:, None])[:, 0]
    usual = torch.zeros(chances.shape[1], dtype=chances.dtype).scatter_reduce(
        0, labels, own, "mean", include_self=False
    )
    best, answers = chances.max(dim=1)
    rows = ((answers != labels) & (best >= usual[answers].clamp_max(SURE)) & (best - own >= MARGIN)).nonzero()[:, 0]
    return rows[(best - own)[rows].argsort(descending=True, stable=True)].tolist()


def cross_validated(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(N, C) float64, probabilities of each picture from a classifier that did not learn from it.

    Args:
        features: (N, D). labels: (N,), each class at least twice.
    """
    fold = folds(labels.tolist())
    x = F.normalize(features.double(), dim=1)
    every = [_out_of_fold(x, labels, fold, classes, c) for c in STRENGTHS]
    losses = [float(-chances.gather(1, labels[:, None]).clamp_min(1e-12).log().mean()) for chances in every]
    return every[losses.index(min(losses))]


def _out_of_fold(x: Tensor, labels: Tensor, fold: Tensor, classes: int, c: float) -> Tensor:
    chances = torch.zeros(len(x), classes, dtype=torch.float64)
    for k in fold.unique().tolist():
        others, held = fold != k, fold == k
        present, own = labels[others].unique(return_inverse=True)
        fit = LogisticRegression(x[others], own, len(present), 200, lambda *_, **__: None).fit(c, 1e-2)
        answer = (x[held] @ fit.weight.T + fit.bias).softmax(dim=1)
        chances[held.nonzero(), present[None]] = answer
    return chances


def folds(labels: Sequence[int], seed: int = 1) -> Tensor:
    """(N,) fold of each picture, 0 … 4: every class is dealt out in turn, after a shuffle."""
    generator = random.Random(seed)
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for members in groups(labels).values():
        generator.shuffle(members)
        fold[members] = torch.arange(len(members)) % FOLDS
    return fold


def _label(data: Dataset, place: Place) -> int:
    return data[place[0]][place[1]].label


def _drawn(data: Dataset, places: Sequence[Place]) -> list[Place]:
    """At most `MOST` pictures, of each class its share, but two; the same at every call."""
    if len(places) <= MOST:
        return list(places)
    generator = random.Random(1)
    chosen: list[int] = []
    for members in groups([_label(data, place) for place in places]).values():
        chosen += generator.sample(members, max(2, len(members) * MOST // len(places)))
    return [places[k] for k in sorted(chosen)]


def _features(
    data: Dataset, places: Sequence[Place], clip: CLIP, progress: Progress | None, store: FeatureStore | None
) -> Tensor:
    """(N, D) float32, on the CPU; a batch of pictures is in memory at a time."""
    done, parts = 0, []

    def watched(ordered: Iterable[Batch], _: int) -> Iterator[Batch]:
        nonlocal done
        for batch in ordered:
            yield batch
            done += len(batch)
            if progress is not None and done < len(places):
                progress("features", done, len(places))

    view = View(clip.config.resolution, clip.preprocessing)
    order: list[int] = []
    for name in dict.fromkeys(split for split, _ in places):
        at = [k for k, place in enumerate(places) if place[0] == name]
        part = data[name].subset([places[k][1] for k in at])
        parts.append(embedded(clip, part, view, store=store, watch=watched)[:, 0].cpu())
        order += at
        done = len(order)
    if progress is not None:
        progress("features", len(places), len(places))
    return torch.cat(parts)[torch.tensor(order).argsort()]

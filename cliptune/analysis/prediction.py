"""One prediction: the answer and its runners-up, the descriptions and causes that spoke for it, and where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import PICTURES, Finding
from cliptune.analysis.overlays import Overlay, overlays
from cliptune.analysis.prm import contributions, weighing
from cliptune.batch import Batch
from cliptune.heads import PRMHead
from cliptune.heads.descriptions import own_scores
from cliptune.texts import DescriptionPhrasing

RUNNERS_UP = 2


@dataclass(frozen=True)
class Prediction(Finding):
    """Why one image is named as it is.

    Args:
        image: its name.
        answers: (class, probability in [0, 1]) of the answer and its two runners-up.
        frozen: the same of the frozen CLIP's answer.
        descriptions: class of `answers` → the descriptions of it nearest to the image, each with its cosine; empty
            where classes have none.
        causes: group of descriptions → what it adds to the logit of the answer and of each runner-up, in the order of
            `answers`; empty without a reweighting matrix.
        overlay: maps for the answer; None where the method draws on the pixels.
        picture: (3, R, R) in [0, 1], as it is shown to the adapter.
    """

    image: str
    answers: tuple[tuple[str, float], ...]
    frozen: tuple[str, float]
    descriptions: Mapping[str, tuple[tuple[str, float], ...]]
    causes: Mapping[str, tuple[float, ...]]
    overlay: Overlay | None
    picture: Tensor = field(metadata=PICTURES)

    def sentence(self) -> str:
        (named, sure), *others = self.answers
        said = f"{self.image} is named {named!r} ({sure:.0%})"
        if others:
            said += " before " + " and ".join(f"{name!r} ({p:.0%})" for name, p in others)
        said += f"; the frozen CLIP says {self.frozen[0]!r} ({self.frozen[1]:.0%})."
        if self.causes and others:
            gain = {cause: added[0] - added[1] for cause, added in self.causes.items()}
            best = max(gain, key=lambda cause: gain[cause])
            against = [cause for cause, value in gain.items() if value < 0]
            said += f" {best!r} speaks most for it against {others[0][0]!r} ({gain[best]:+.2f} of the logit)"
            said += f", {', '.join(map(repr, against))} against it." if against else ", nothing against it."
        if self.descriptions.get(named):
            text, cosine = self.descriptions[named][0]
            said += f" Nearest of its descriptions: {text!r} (cosine {cosine:.2f})."
        return said


def explain_prediction(adapter: Adapter, image: Tensor, name: str = "the image", nearest: int = 3) -> Prediction:
    """Explain the answer to one image.

    Args:
        image: (1, 3, R, R) in [0, 1], as `as_batch` gives it.
        name: of the image, for the sentence.
        nearest: descriptions of each class to show.
    """
    batch = Batch.of(image.to(adapter.clip.device))
    with torch.no_grad(), adapter.evaluating():
        out = adapter(batch, needs=frozenset({"reference"}))
    assert out.reference is not None
    sure = out.logits[0].softmax(dim=-1)
    best = sure.topk(min(1 + RUNNERS_UP, len(sure)))
    classes, names = best.indices.tolist(), adapter.class_names
    before = out.reference.logits[0].softmax(dim=-1)
    causes: dict[str, tuple[float, ...]] = {}
    if isinstance(adapter.head, PRMHead):
        added = contributions(adapter, batch)[0]  # (v, C)
        groups = weighing(adapter).groups
        causes = {group: tuple(row[classes].tolist()) for group, row in zip(groups, added, strict=True)}
    seen = adapter.prompt(seen=adapter.seen).pixels is None
    return Prediction(
        name,
        tuple((names[c], float(p)) for c, p in zip(classes, best.values, strict=True)),
        (names[int(before.argmax())], float(before.max())),
        _descriptions(adapter, out.similarity, classes, nearest),
        causes,
        overlays(adapter, batch, [name]).shown[0] if seen else None,
        image[0].cpu(),
    )


def _descriptions(
    adapter: Adapter, similarity: Tensor, classes: list[int], nearest: int
) -> dict[str, tuple[tuple[str, float], ...]]:
    phrasing, texts = adapter.phrasing, adapter.texts
    if not isinstance(phrasing, DescriptionPhrasing):
        return {}
    drawn = phrasing.sentences(adapter.classes)
    view_of = adapter.head.view_of(texts) if isinstance(adapter.head, PRMHead) else None
    cosines = own_scores(similarity, texts, view_of)[0] / adapter.clip.scale  # (C, M)
    found = {}
    for c in classes:
        words = [sentence for name in phrasing.sets for sentence in drawn[name][c]]
        best = cosines[c].topk(min(nearest, len(words)))
        found[adapter.class_names[c]] = tuple(
            (words[i], float(value)) for i, value in zip(best.indices.tolist(), best.values, strict=True)
        )
    return found

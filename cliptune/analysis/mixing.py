"""What the weight ω of a parallel prompt does: how straight the encoders are between two prompts, and accuracies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch
from cliptune.clip.ports import Ports
from cliptune.prompts.base import MixedPrompt

WEIGHTS = tuple(i / 10 for i in range(11))
Batches = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Linearity(Finding):
    """How straight the encoders are between P and P': cos(t(ω P' + (1 − ω) P), ω t(P') + (1 − ω) t(P)).

    Args:
        weights: (W,) ω.
        text: (W,) float64, mean over texts; None where texts are the same for all ω or depend on the image.
        image: (W,) float64, mean over images and views; None where images are the same for all ω.
        n: images that were looked at.
    Source: arXiv:2503.13443, whose claim this measures; the measure is ours.
    """

    weights: tuple[float, ...]
    text: Tensor | None
    image: Tensor | None
    n: int

    def sentence(self) -> str:
        said = [
            f"the {tower} encoder departs most at ω = {self.weights[int(cos.argmin())]:g}, by 1 − cos = "
            f"{1 - float(cos.min()):.1e}"
            for tower, cos in (("text", self.text), ("image", self.image))
            if cos is not None
        ]
        if not said:
            return "No encoder could be followed between the two prompts."
        return f"Between the two prompts, {' and '.join(said)} from the straight line."


@dataclass(frozen=True)
class MixingCurve(Finding):
    """Accuracy over the weight of the parallel prompt.  (arXiv:2503.13443, ablation of ω)

    Args:
        weights: (W,) ω.
        accuracy: name of the classes, such as "base" → (W,) in %.
        n: the same names → images.
        used: the same names → ω that the adapter itself uses there.
    """

    weights: tuple[float, ...]
    accuracy: Mapping[str, Tensor]
    n: Mapping[str, int]
    used: Mapping[str, float]

    def best(self, name: str) -> tuple[float, float]:
        """ω of the best accuracy, the smallest of equals, and that accuracy."""
        at = int(self.accuracy[name].argmax())
        return self.weights[at], float(self.accuracy[name][at])

    def sentence(self) -> str:
        said = []
        for name, values in self.accuracy.items():
            weight, best = self.best(name)
            if float(values.min()) == best:
                said.append(f"{name} classes are named alike at every ω ({best:.1f} % of {self.n[name]:,} images)")
                continue
            said.append(
                f"{name} classes are named best at ω = {weight:g} ({best:.1f} % of {self.n[name]:,} images; "
                f"{float(values[0]):.1f} % at {self.weights[0]:g}, {float(values[-1]):.1f} % at {self.weights[-1]:g})"
            )
        return f"Over ω, {'; '.join(said)}. Looking for the best on test images flatters it."


def mixed_prompt(adapter: Adapter) -> MixedPrompt | None:
    """The part of the adapter's prompt that mixes two; None if there is none."""
    return next((part for part in adapter.prompt.modules() if isinstance(part, MixedPrompt)), None)


@contextmanager
def weighing_at(adapter: Adapter) -> Iterator[Callable[[float | None], None]]:
    """Choose ω as often as wanted, in evaluation mode; afterwards the adapter mixes as before.

    Raises: ValueError if the adapter has one prompt.
    """
    prompt = mixed_prompt(adapter)
    if prompt is None:
        raise ValueError("mixing: this adapter has one prompt, so there is no ω. Use a run of dpc.")
    before = prompt.weight

    def choose(weight: float | None) -> None:
        assert prompt is not None
        prompt.weight = weight

    try:
        with adapter.evaluating(), torch.no_grad():
            yield choose
    finally:
        prompt.weight = before


def two_prompts(adapter: Adapter) -> tuple[Ports, Ports]:
    """What enters the towers at ω = 0, the tuned prompt, and at ω = 1, the parallel one."""
    with weighing_at(adapter) as choose:
        choose(0.0)
        tuned = adapter.prompt(seen=adapter.seen)
        choose(1.0)
        return tuned, adapter.prompt(seen=adapter.seen)


def token_matrices(ports: Ports) -> dict[str, Tensor]:
    """Place, such as "text 0" → prompt tokens (…, n, d) that enter there."""
    towers = (("text", ports.text), ("image", ports.image))
    return {f"{name} {layer}": value for name, tower in towers for layer, value in sorted(tower.tokens.items())}


def linearity(adapter: Adapter, batches: Batches, weights: Sequence[float] = WEIGHTS) -> Linearity:
    """Follow the encoders along the segment. Texts are encoded once per ω, images once per ω where a prompt reaches
    them, else not at all.

    Args:
        adapter: of two prompts.
        batches: gives the images; asked once.
        weights: ω in [0, 1].
    Raises: ValueError if the adapter has one prompt, or a weight is out of range.
    """
    _check(weights)
    with weighing_at(adapter) as choose:
        image = text = None
        n = 0
        if not adapter.text_is_frozen and adapter.prompt(seen=adapter.seen).condition is None:
            start, end = _texts(adapter, choose, 0.0), _texts(adapter, choose, 1.0)
            text = torch.stack([_straight(_texts(adapter, choose, w), start, end, w).mean() for w in weights])
        if not adapter.prompt(seen=adapter.seen).image.empty:
            sums = torch.zeros(len(weights), dtype=torch.float64)
            for batch in batches():
                start, end = _embedding(adapter, choose, batch, 0.0), _embedding(adapter, choose, batch, 1.0)
                for i, w in enumerate(weights):
                    cosine = _straight(_embedding(adapter, choose, batch, w), start, end, w)
                    sums[i] += cosine.mean(dim=-1).sum().cpu()
                n += len(batch)
            image = sums / max(1, n)
    return Linearity(tuple(weights), None if text is None else text.cpu(), image, n)


def mixing_curve(
    adapter: Adapter, parts: Mapping[str, tuple[Sequence[str], Batches]], weights: Sequence[float] = WEIGHTS
) -> MixingCurve:
    """Accuracy over ω, for several sets of classes in one call. Texts are encoded once per ω; images once in all where
    no prompt reaches them, else once per ω.

    Args:
        adapter: of two prompts; afterwards it speaks of the same classes and mixes as before.
        parts: name → class names and what gives labelled images of them, asked once.
        weights: ω in [0, 1].
    Raises: ValueError if the adapter has one prompt or cannot speak of these classes, or a weight is out of range.
    """
    _check(weights)
    accuracy, n, used = {}, {}, {}
    frozen = adapter.image_is_frozen
    for name, (classes, batches) in parts.items():
        own = adapter.for_texts(classes)
        right, seen = torch.zeros(len(weights), dtype=torch.float64), 0
        with weighing_at(own) as choose:
            mixed = mixed_prompt(own)
            assert mixed is not None
            choose(None)
            used[name] = mixed.evaluation_weight(own.seen)
            texts = []
            for w in weights:
                choose(w)
                texts.append(own.text_features())
            for batch in batches():
                known = None
                for i, (w, text) in enumerate(zip(weights, texts, strict=True)):
                    choose(w)
                    out = own(batch, text_features=text, image_embedding=known)
                    known = out.image_embedding if frozen else None
                    right[i] += (out.logits.argmax(dim=-1) == batch.labels).sum().cpu()
                seen += len(batch)
        accuracy[name], n[name] = 100 * right / max(1, seen), seen
    return MixingCurve(tuple(weights), accuracy, n, used)


def _texts(adapter: Adapter, choose: Callable[[float], None], weight: float) -> Tensor:
    choose(weight)
    embedding = adapter.clip.encode_text(adapter.texts, adapter.prompt(seen=adapter.seen).text)
    return embedding[:, adapter.texts.class_of >= 0]


def _embedding(adapter: Adapter, choose: Callable[[float], None], batch: Batch, weight: float) -> Tensor:
    """(B, V, D)."""
    choose(weight)
    ports = adapter.prompt(seen=adapter.seen)
    return adapter.clip.encode_image(adapter.views(batch, ports.pixels), ports.image)


def _straight(at: Tensor, start: Tensor, end: Tensor, weight: float) -> Tensor:
    return F.cosine_similarity(at.double(), torch.lerp(start.double(), end.double(), weight), dim=-1)


def _check(weights: Sequence[float]) -> None:
    if not weights or not all(0 <= weight <= 1 for weight in weights):
        raise ValueError(f"mixing: the weights ω must be between 0 and 1, at least one, got {list(weights)}.")

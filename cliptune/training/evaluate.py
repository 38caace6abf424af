"""How good an adapter is on a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cliptune.batch import Batch
from cliptune.data.cache import ImageCache
from cliptune.data.items import Split
from cliptune.data.metrics import evaluate_logits
from cliptune.features import FeatureStore, View, opened
from cliptune.features.passes import Embed, in_order
from cliptune.runs.predictions import Predictions
from cliptune.training.precision import towers_in
from cliptune.training.progress import Progress, open_progress
from cliptune.training.shared import SharedImages

if TYPE_CHECKING:
    from cliptune.adapter import Adapter


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one split, all in %.

    Args:
        accuracy: correct / total over images.
        macro_f1: mean F1 over the classes that occur.
        mean_per_class: mean recall over the classes that occur.
        per_class: class name → recall, None for a class without images. Of equal names (ImageNet has two pairs), the
            later ones get their number: "crane (517)".
        ece: expected calibration error, 15 bins.
        n: images.
        logits: (n, C) float32 on the CPU, in the split's order, if asked for.
        predictions: the answer to every image, in the split's order, unless it was not wanted.
    """

    accuracy: float
    macro_f1: float
    mean_per_class: float
    per_class: dict[str, float | None]
    ece: float
    n: int
    logits: Tensor | None = None
    predictions: Predictions | None = field(default=None, compare=False)

    def summary(self) -> dict[str, Any]:
        """Plain values for a result file, without what is kept image by image."""
        names = ("accuracy", "macro_f1", "mean_per_class", "ece", "n", "per_class")
        return {name: getattr(self, name) for name in names}


def evaluate(
    adapter: Adapter,
    split: Split,
    *,
    batch_size: int = 100,
    device: torch.device | str | None = None,
    precision: str | None = None,
    workers: int = 0,
    images: ImageCache | None = None,
    embeddings: Tensor | None = None,
    shared: SharedImages | None = None,
    store: FeatureStore | bool = True,
    progress: str | Progress | None = "silent",
    order: int | None = None,
    keep_logits: bool = False,
    keep_predictions: bool = True,
) -> Evaluation:
    """Score an adapter on a split with the test transform; the class texts are encoded once.

    Args:
        adapter: its classes must be those of the split's labels (see `Adapter.set_classes`).
        split: labelled images.
        batch_size: images at a time; does not change the numbers beyond rounding.
        device: None leaves the adapter where it is.
        precision: of the frozen towers: "fp32", "bf16", "fp16", "auto"; None leaves them as they are.
        workers: processes that decode images.
        images: decoded images to share with other passes.
        embeddings: (N, V, D) image embeddings of the split, computed before; the images are then not read.
        shared: what other runs on these images decoded and, where no learnable reaches it, embedded before.
        store: where embeddings that no learnable reaches are looked up and added: True for that of this machine
            (`cliptune.features.usual_store`), False for none. It changes no number.
        progress: as in `fit`.
        order: for a head whose answers depend on images that came before, seed of the order in which they come; None
            for the head's own. What is returned is in the split's order.
        keep_logits: return them as well.
        keep_predictions: return what was answered to every image, with hashes of the images and class names.
    Raises: ValueError if the split is empty, has unknown labels, or labels that the adapter has no class for.
    """
    if len(split) == 0:
        raise ValueError("evaluate: the split is empty, so there is nothing to score. Choose another split.")
    if device is not None:
        adapter.to(device)
    given, place = split, _shuffled(adapter, len(split), order)
    if place is not None:
        split = split.subset(place.tolist())
        embeddings = None if embeddings is None else embeddings[place]
    with (
        adapter.evaluating(),
        torch.no_grad(),
        adapter.head.stream(),
        towers_in(adapter.clip, precision) if precision else nullcontext(),
    ):
        # None: the text depends on the image and is encoded with each batch.
        text = adapter.text_features()
        shown = open_progress(progress)
        cache = shared.pictures if images is None and shared is not None else images

        def watched(ordered: Iterable[Batch], steps: int) -> Iterator[Batch]:
            shown.start(steps, 0)
            for batch in ordered:
                yield batch
                shown.advance("scoring")

        def kept(part: Split, embed: Embed) -> Tensor:
            if embeddings is not None:
                return embeddings
            return embed(part) if shared is None else shared.embeddings(adapter, part, embed)

        parts = []
        try:
            for batch, known in in_order(
                adapter.clip,
                split,
                View(adapter.resolution, adapter.clip.preprocessing),
                batch_size,
                frozen=embeddings is not None or adapter.image_is_frozen,
                store=opened(store),
                kept=kept,
                workers=workers,
                cache=cache,
                watch=watched,
            ):
                out = adapter(batch, text_features=text, image_embedding=known)
                parts.append(out.logits.float().cpu())
        finally:
            shown.close()
    logits = torch.cat(parts)
    if place is not None:
        logits, split = logits[place.argsort()], given
    numbers = evaluate_logits(logits, split.labels)
    numbers["per_class"] = _named(adapter.classes.names, numbers["per_class"])
    answers = Predictions.of(logits, split, adapter.classes.names) if keep_predictions else None
    return Evaluation(**numbers, logits=logits if keep_logits else None, predictions=answers)


def _shuffled(adapter: Adapter, n: int, order: int | None) -> Tensor | None:
    """The positions (N,) in the order in which a head that wants one is shown the images."""
    own = adapter.head.order
    if own is None:
        return None
    seed = own if order is None else order
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _named(names: tuple[str, ...] | list[str], values: list[float | None]) -> dict[str, float | None]:
    named: dict[str, float | None] = {}
    for label, (name, value) in enumerate(zip(names, values, strict=True)):
        named[f"{name} ({label})" if name in named else name] = value
    return named

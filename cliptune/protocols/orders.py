"""How much answers depend on the order in which images come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from cliptune.adapter import Adapter
from cliptune.data.items import Split
from cliptune.protocols.scoring import own_images
from cliptune.protocols.training import class_set
from cliptune.training import SharedImages, evaluate


@dataclass(frozen=True)
class OverOrders:
    """One adapter's answers to the same images in several orders.

    Args:
        accuracies: in %, one per order.
        changed: share in % of images that are not answered alike in every order.
        n: images.
    """

    accuracies: tuple[float, ...]
    changed: float
    n: int

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Standard deviation over the orders, in points."""
        return stdev(self.accuracies)


def over_orders(
    folder: str | Path,
    adapter: Adapter,
    orders: int,
    *,
    split: str = "test",
    root: str | None = None,
    workers: int = 0,
    precision: str | None = None,
) -> OverOrders:
    """Answer a run's own images in orders drawn by the seeds 1, 2, …

    Args:
        folder: of the finished run. adapter: of it.
        orders: how many, at least 2.
        split: "test", "val", or "train", the images that it was trained on.
        root: where the data lie now, if they were moved.
        workers: processes that read images. precision: of the frozen towers.
    Raises: ValueError if no answer depends on the order, or for fewer than two.
    """
    if adapter.head.order is None:
        raise ValueError(
            f"orders: no answer of the run in {folder} depends on images that came before, so that one order is like "
            "another. Leave it out."
        )
    own, known = own_images(folder, split, root=root), adapter.trained_classes
    adapter.set_classes(class_set(own.dataset, known).with_template(known.template))
    return answered_in_orders(adapter, own.images, orders, workers=workers, precision=precision)


def answered_in_orders(
    adapter: Adapter, images: Split, orders: int, *, shared: SharedImages | None = None, **scoring: Any
) -> OverOrders:
    """Answer images in orders drawn by the seeds 1, 2, …

    Args:
        adapter: asked about the classes of the images.
        orders: how many, at least 2.
        shared: images that were seen before.
        scoring: further arguments of `evaluate`.
    Raises: ValueError for fewer than two orders.
    """
    if orders < 2:
        raise ValueError(f"orders: at least 2 are needed to compare them, got {orders}.")
    shared = shared or SharedImages()
    answers = []
    for seed in range(1, orders + 1):
        found = evaluate(adapter, images, order=seed, shared=shared, **scoring)
        assert found.predictions is not None
        answers.append(found.predictions)
    right = tuple(100 * float(one.right.double().mean()) for one in answers)
    predicted = torch.stack([one.predicted for one in answers])
    changed = (predicted != predicted[0]).any(dim=0)
    return OverOrders(right, 100 * float(changed.double().mean()), len(images))

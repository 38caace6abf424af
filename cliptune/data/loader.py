"""Batches of a split: an order that depends only on (seed, epoch), from any step on, on any number of workers
or ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.data import DataLoader

from cliptune.batch import Batch
from cliptune.data.cache import ImageCache
from cliptune.data.items import Split
from cliptune.data.masks import Masks
from cliptune.data.transforms import Transform, mixed, sample_randomness

DropLast = bool | Literal["field"]


@dataclass(frozen=True)
class Masking:
    """Masks that follow their pictures.

    Args:
        masks: where they come from.
        transform: as that of the pictures, with nearest interpolation.
    """

    masks: Masks
    transform: Transform


def batches(
    split: Split,
    transform: Transform,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    epoch: int = 0,
    drop_last: DropLast = "field",
    workers: int = 0,
    device: torch.device | str = "cpu",
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    cache: ImageCache | None = None,
    masking: Masking | None = None,
    only: Sequence[int] | None = None,
    view: int | None = None,
    passes: int = 1,
) -> Iterator[Batch]:
    """One pass over a split, or in order several.

    Args:
        split: N pictures.
        transform: see `transforms`; image i is augmented by (seed, epoch, i) alone.
        batch_size: images per step over all ranks.
        shuffle: a new order for each (seed, epoch); otherwise the split's own.
        seed, epoch: integers.
        drop_last: "field": a shuffled pass drops a last partial batch unless it is the only one (N <
            batch_size), a pass in order keeps it; True and False as they say.
        workers: processes that decode and transform; 0 works in this one. The batches are the same.
        device: where the batches go.
        start_step: the first step to yield; the steps from there are those of a pass from 0, bit for bit.
        rank, world_size: every batch is cut into `world_size` contiguous slices whose sizes differ by at most
            one; this rank gets slice `rank`. In an ordered pass a rank whose slice is empty skips that step.
        cache: kept pictures. With workers it is filled here first, and forked workers share it.
        masking: adds masks to the batches.
        only: of a pass in order, the positions to show; of several they count on, i + N for picture i in the second.
        view: stands for the epoch in the augmentation, so that views come again in another order; None for the epoch.
        passes: in order, how often, augmented as in this epoch and those that follow. A batch may hold pictures of two.
    Raises: ValueError if the split is empty, a number is out of range, or a shuffled pass has fewer images in
        a batch than ranks; ImageError or FileNotFoundError for a picture, also out of a worker.
    """
    if shuffle and (only is not None or passes != 1):
        raise ValueError(
            "Batches: `only` and `passes` are for a pass in order, this one is shuffled. Take a subset of the split."
        )
    n = passes * len(split) if only is None else len(only)
    if n == 0:
        raise ValueError("Batches: the split is empty. Add images to it, or leave this pass out.")
    steps = steps_per_epoch(n, batch_size, shuffle=shuffle, drop_last=drop_last)
    if workers < 0 or not 0 <= start_step <= steps or not 0 <= rank < world_size:
        raise ValueError(
            f"Batches: expected workers ≥ 0, start_step in 0 … {steps} (steps of this pass) and rank in 0 … "
            f"world_size − 1, got workers {workers}, start_step {start_step}, rank {rank}, world_size "
            f"{world_size}."
        )
    positions = order(n, seed, epoch) if shuffle else list(range(n) if only is None else only)
    plan = []
    for step in range(start_step, steps):
        whole = positions[step * batch_size : (step + 1) * batch_size]
        part = _slice(whole, rank, world_size)
        if shuffle and len(whole) < world_size:
            raise ValueError(
                f"Batches: a batch of {len(whole)} images cannot be shared by {world_size} ranks. "
                "Start fewer processes or raise the batch size."
            )
        if part:
            plan.append(part)
    return _run(_Steps(split, transform, plan, seed, epoch if view is None else view, cache, masking), workers, device)


def steps_per_epoch(n: int, batch_size: int, *, shuffle: bool = True, drop_last: DropLast = "field") -> int:
    """Steps of one pass over n images; `drop_last` as in `batches`. 0 only if everything would be dropped."""
    if batch_size < 1:
        raise ValueError(f"Batches: batch_size must be at least 1, got {batch_size}.")
    if drop_last == "field":
        drop_last = shuffle and n >= batch_size
    return n // batch_size if drop_last else -(-n // batch_size)


def order(n: int, seed: int, epoch: int) -> list[int]:
    """The shuffled positions 0 … n−1 of an epoch."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed(seed, epoch))).tolist()


def gather(
    split: Split,
    indices: Sequence[int],
    transform: Transform,
    *,
    seed: int = 0,
    epoch: int = 0,
    cache: ImageCache | None = None,
    masking: Masking | None = None,
) -> Batch:
    """The pictures at these positions as one batch on the CPU, augmented by (seed, epoch, position); masks alike.

    Of N pictures, position i + N is picture i as in the next epoch, and so on.
    """
    images, masks = [], []
    for place in indices:
        later, i = divmod(place, len(split))
        picture = split.image(i) if cache is None else cache.image(split, i)
        with sample_randomness(seed, epoch + later, i):
            images.append(transform(picture))
        if masking is not None:
            mask = masking.masks.mask(split, i, picture.size)
            with sample_randomness(seed, epoch + later, i):
                masks.append(masking.transform(mask))
    positions = torch.tensor(indices, dtype=torch.int64) % len(split)
    return Batch(torch.stack(images), split.labels[positions], positions, torch.stack(masks) if masks else None)


def _slice(positions: list[int], rank: int, world_size: int) -> list[int]:
    n = len(positions)
    return positions[rank * n // world_size : (rank + 1) * n // world_size]


def _run(steps: _Steps, workers: int, device: torch.device | str) -> Iterator[Batch]:
    plan = steps.plan
    if workers == 0 or len(plan) == 0:
        for step in range(len(plan)):
            yield steps.load(step).to(device)
        return
    if steps.cache is not None:
        steps.cache.fill(steps.split, workers, [i for part in plan for i in part])
    # Its own generator: the loader draws a base seed, which must not move the generator that dropout uses.
    generator = torch.Generator().manual_seed(mixed(steps.seed, steps.epoch))
    loader = DataLoader(
        steps,
        batch_size=None,
        shuffle=False,
        num_workers=min(workers, len(plan)),
        collate_fn=_as_it_is,
        generator=generator,
    )
    for loaded in loader:
        if isinstance(loaded, Exception):
            raise loaded
        yield loaded.to(device)


class _Steps(torch.utils.data.Dataset):
    """Step → its batch, or the error of reading it: raised in a worker it would be buried in a traceback as
    text.
    """

    def __init__(
        self,
        split: Split,
        transform: Transform,
        plan: list[list[int]],
        seed: int,
        epoch: int,
        cache: ImageCache | None,
        masking: Masking | None,
    ) -> None:
        self.split, self.transform, self.plan, self.cache = split, transform, plan, cache
        self.masking = masking
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Batch | Exception:
        if step >= len(self.plan):
            raise IndexError(step)
        try:
            return self.load(step)
        except (ValueError, OSError) as error:
            return error

    def load(self, step: int) -> Batch:
        return gather(
            self.split,
            self.plan[step],
            self.transform,
            seed=self.seed,
            epoch=self.epoch,
            cache=self.cache,
            masking=self.masking,
        )


def _as_it_is(value: object) -> object:
    return value

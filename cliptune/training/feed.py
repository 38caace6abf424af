"""Batches for an adapter, with image embeddings computed once in place of images where no learnable can reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cliptune.batch import Batch
from cliptune.data.cache import ImageCache
from cliptune.data.items import Dataset, Split
from cliptune.data.loader import DropLast, Masking, batches, gather, order, steps_per_epoch
from cliptune.data.masks import Masks, open_masks
from cliptune.data.transforms import Transform, mixed, test_transform, train_transform
from cliptune.features import FeatureStore, View, embedded
from cliptune.features.passes import in_order_without_images, without_images
from cliptune.recipe import Stage
from cliptune.timing import counted
from cliptune.training.distributed import Processes
from cliptune.training.shared import SharedImages

if TYPE_CHECKING:
    from cliptune.adapter import Adapter

EVALUATION_BATCH = 100
TOGETHER = 2048
"""Pictures of several views that are embedded as one list: a list's last group is filled up, and of 10 pictures in 10
views of their own a third of the tower's work would be that."""


class Feed:
    """What a run's steps see.

    Args:
        adapter: its tower's resolution and whether its images are frozen decide how images are fed.
        data: the splits.
        seed: of orders and augmentation, together with stage and epoch.
        workers: processes that decode and transform images.
        cache_images: keep decoded images (up to 1 GiB).
        cache_features: "auto" computes the embeddings of images once, where no learnable reaches them and the same
            view comes again; False never does.
        views: None draws a new augmented view for every image and epoch. A number draws that many per image, encodes
            each once and takes them in turn, epoch by epoch: much faster for learners of text alone, with less
            variety in the views. Where a learnable reaches the image, it spares the pass of the frozen CLIP that
            some losses ask for.
        shared: what other runs on these images decoded and embedded before, and will look up after this one.
        store: embeddings on disk, looked up and added to.
        say: told now and then how far the embedding of images is.
    Raises: ValueError if `views` cannot be had.
    """

    def __init__(
        self,
        adapter: Adapter,
        data: Dataset,
        processes: Processes,
        *,
        seed: int,
        workers: int = 0,
        cache_images: bool = True,
        cache_features: str | bool = "auto",
        views: int | None = None,
        shared: SharedImages | None = None,
        store: FeatureStore | None = None,
        say: Callable[[str], None] | None = None,
    ):
        if cache_features not in ("auto", False):
            raise ValueError(f"cache_features must be 'auto' or False, got {cache_features!r}.")
        if views is not None:
            if views < 1:
                raise ValueError(f"views must be at least 1, or None for new views in every epoch, got {views}.")
            if cache_features is False:
                raise ValueError("views keeps the embeddings of drawn views, but cache_features is False. Drop one.")
        self.adapter, self.data, self.processes = adapter, data, processes
        self.seed, self.workers, self.views = seed, workers, views
        self.cache_features = cache_features == "auto"
        self.images = None if not cache_images else ImageCache() if shared is None else shared.pictures
        self.shared, self.store, self.say = shared, store, say
        how = adapter.clip.preprocessing
        self._test_view = self._training_view = View(adapter.resolution, how)
        self.train_transform: Transform = self._view(seed, 0).transform
        self.test_transform: Transform = self._test_view.transform
        self.masks: Masks | None = None
        self._tables: dict[tuple[str, int | None, int], Tensor] = {}
        self._bare: dict[tuple[str, int | None, int], Tensor] = {}
        self._views_to_come = 1

    def begin(self, stage: Stage) -> None:
        """Forget embeddings that an earlier stage's learnables may have changed; do and check what the stage asks."""
        self._training_view = replace(
            self._test_view, scale=stage.crop, resize_first=stage.resize_first, trivial=stage.trivial
        )
        self.train_transform = self._view(self.seed, 0).transform
        self._views_to_come = min(self.views or 1, stage.epochs)
        self.masks = None if stage.masks is None else open_masks(stage.masks)
        if self.masks is not None:
            self.masks.check(self.data.train)
        if not self.adapter.image_is_frozen:
            self._tables.clear()
        useless = not (self.adapter.image_is_frozen or self._asks_for_reference(stage))
        if self.views is not None and stage.optimiser is not None and useless:
            raise ValueError(
                f"views={self.views} encodes the images once, but stage {stage.name!r} learns something that changes "
                "image embeddings. Leave views out for this method."
            )
        if stage.sampler is not None and self.processes.world > 1:
            raise ValueError(
                f"Stage {stage.name!r} adds images to its batches, which one process must see whole. "
                "Start it without torchrun."
            )
        if stage.observe_views > 1 and not self.adapter.image_is_frozen:
            raise ValueError(
                f"Stage {stage.name!r} shows {stage.observe_views} views of an image, but learnables reach "
                "its embedding. Use one view."
            )
        if stage.whole_batch and self.processes.world > 1:
            raise ValueError(
                f"Stage {stage.name!r} takes statistics over its batches, which one process must see whole. "
                "Start it without torchrun."
            )

    def notes(self, stages: Sequence[Stage]) -> list[str]:
        """What of the images these stages leave out, and what is not kept though it might be, as sentences."""
        said = []
        n = len(self.data.train)
        for stage in stages:
            rest = n - self.steps(stage) * stage.batch_size
            if stage.optimiser is not None and rest > 0 and not stage.keep_last:
                said.append(
                    f"{stage.name}: every epoch leaves out {rest} of the {n} training images, others each time, which "
                    f"do not fill a batch of {stage.batch_size}."
                )
        if stages and self.cache_features and not self.adapter.image_is_frozen:
            once = ""
            if any(self._asks_for_reference(s) and (self.views is not None or not s.augment) for s in stages):
                once = " Those of the frozen CLIP, which the loss asks for, are computed once for each view."
            said.append(
                f"Image embeddings are computed anew at every step, because something learned reaches them.{once}"
            )
        return said

    def steps(self, stage: Stage) -> int:
        """Optimiser steps per epoch; a last partial batch is dropped, unless it is the only one or to be kept."""
        return steps_per_epoch(len(self.data.train), stage.batch_size, drop_last=drop_last(stage))

    def batch_size(self, stage: Stage, share: Batch, step: int) -> int:
        """Images of a step's batch on all processes together; `share` is this process's part of it."""
        if stage.sampler is not None:
            return len(share)
        return min(stage.batch_size, len(self.data.train) - step * stage.batch_size)

    def training(self, stage: Stage, number: int, epoch: int, start: int) -> Iterator[tuple[Batch, Tensor | None]]:
        """This process's share of each batch of an epoch, from step `start` on, with embeddings (b, V, D) or None."""
        split, seed = self.data.train, mixed(self.seed, number)
        view = None if not stage.augment else epoch if self.views is None else epoch % self.views
        table = None
        if view is None or self.views is not None:
            table = self._table("train", view, seed)
        bare = self._bare_table(stage, view, seed)
        transform = self.test_transform if view is None else self.train_transform
        masking = self._masking(stage)

        def draw(positions: list[int]) -> Batch:
            if table is not None:
                return without_images(split, positions, self.processes.device)
            batch = gather(split, positions, transform, seed=seed, epoch=view or 0, cache=self.images, masking=masking)
            return batch.to(self.processes.device)

        shares = self._shares(split, stage, seed, epoch, start) if table is not None else None
        loaded = (
            map(draw, shares)
            if shares is not None
            else batches(
                split,
                transform,
                stage.batch_size,
                shuffle=True,
                seed=seed,
                epoch=epoch,
                drop_last=drop_last(stage),
                workers=self.workers,
                device=self.processes.device,
                start_step=start,
                rank=self.processes.rank,
                world_size=self.processes.world,
                cache=self.images,
                masking=masking,
                view=view,
            )
        )
        for step, batch in enumerate(loaded, start):
            if stage.sampler is not None:
                pool = StepPool(draw, split.labels, table, Random(mixed(seed, epoch, step)))
                batch = stage.sampler(self.adapter, batch, pool)
            if bare is not None:
                batch = replace(batch, bare=bare[batch.index])
            yield batch, None if table is None else table[batch.index]

    def _asks_for_reference(self, stage: Stage) -> bool:
        """Whether the loss compares with the frozen CLIP on the pictures that the prompted one sees."""
        asks = stage.objective is not None and "reference" in stage.objective.needs
        return asks and self.cache_features and self.adapter.prompt.resolution is None

    def _bare_table(self, stage: Stage, view: int | None, seed: int) -> Tensor | None:
        """(N, 1, D) of the training images by the frozen CLIP, where the loss asks for it and the view comes again."""
        again = view is None or self.views is not None
        if not again or self.adapter.image_is_frozen or not self._asks_for_reference(stage):
            return None
        key = ("train", view, 0 if view is None else seed)
        if key not in self._bare:
            if view is None:
                self._bare[key] = self._embedded(self.data.train, self._test_view)
            else:
                self._draw(self._bare, "train", view, seed)
        return self._bare[key]

    def _masking(self, stage: Stage) -> Masking | None:
        """Masks with the crop and flip of the stage's images."""
        if self.masks is None:
            return None
        side, how = self.adapter.resolution, self.adapter.clip.preprocessing.of_labels
        if not stage.augment:
            return Masking(self.masks, test_transform(side, preprocessing=how))
        return Masking(
            self.masks,
            train_transform(side, scale=stage.crop, resize_first=stage.resize_first, preprocessing=how),
        )

    def in_order(
        self, name: str, number: int | None = None, views: int = 1, average: bool = True
    ) -> Iterator[tuple[Batch, Tensor | None]]:
        """A split once, in its own order; every process sees all of it.

        Args:
            number: of the stage to augment for; None for no augmentation.
            views: augmented views per image.
            average: of the views' embeddings, (B, V, D); else they lie side by side, (B, views · V, D).
        """
        seed = 0 if number is None else mixed(self.seed, number)
        table: Tensor | None
        if number is not None and views > 1:
            shown = self._drawn(name, seed, 0, views)
            table = reduce(torch.add, (one / views for one in shown)) if average else torch.cat(list(shown), dim=1)
        else:
            table = self._table(name, None if number is None else 0, seed)
        transform = self.test_transform if number is None else self.train_transform
        for batch in self._ordered(self.data[name], transform, seed, 0, images=table is None):
            yield batch, None if table is None else table[batch.index]

    def embeddings(self, name: str) -> Tensor | None:
        """(N, V, D) of a split's unaugmented images, computed once; None if learnables reach them."""
        return self._table(name, None, 0)

    def _table(self, name: str, view: int | None, seed: int) -> Tensor | None:
        if not (self.cache_features and self.adapter.image_is_frozen):
            return None
        key = (name, view, 0 if view is None else seed)
        if key not in self._tables:
            if view is not None:
                self._draw(self._tables, name, view, seed)
            elif self.shared is None:
                self._tables[key] = self._embedded(self.data[name], self._test_view)
            else:
                compute = partial(self._embedded, view=self._test_view)
                self._tables[key] = self.shared.embeddings(self.adapter, self.data[name], compute)
        return self._tables[key]

    def _draw(self, tables: dict[tuple[str, int | None, int], Tensor], name: str, view: int, seed: int) -> None:
        """Keep the embeddings of this view and, where few make a list, of those that the stage asks for later."""
        last = max(view + 1, min(view + self._together(name), self._views_to_come))
        for number, table in enumerate(self._drawn(name, seed, view, last), view):
            tables[name, number, seed] = table.contiguous()

    def _drawn(self, name: str, seed: int, first: int, last: int) -> Iterator[Tensor]:
        """(N, 1, D) of the augmented views from `first` to before `last`, one after the other."""
        together = self._together(name)
        for view in range(first, last, together):
            rows = self._embedded(self.data[name], self._view(seed, view), min(together, last - view))
            yield from rows.split(1, dim=1)

    def _together(self, name: str) -> int:
        """Views of a split that are embedded as one list."""
        return max(1, TOGETHER // len(self.data[name]))

    def _embedded(self, split: Split, view: View, views: int = 1) -> Tensor:
        """(N, V, D) of a view of a split's images and those that follow it, stored or computed."""

        def watched(ordered: Iterable[Batch], steps: int) -> Iterable[Batch]:
            return counted(ordered, steps, f"Embedding {views * len(split):,} images", self.say)

        return embedded(
            self.adapter.clip,
            split,
            view,
            store=self.store,
            workers=self.workers,
            cache=self.images,
            watch=watched,
            views=views,
        )

    def _view(self, seed: int, number: int) -> View:
        """One of the augmented views that the stage draws."""
        return replace(self._training_view, augmented=(seed, number))

    def _ordered(
        self, split: Split, transform: Transform, seed: int, epoch: int, images: bool = True
    ) -> Iterator[Batch]:
        if not images:
            yield from in_order_without_images(split, EVALUATION_BATCH, self.processes.device)
            return
        yield from batches(
            split,
            transform,
            EVALUATION_BATCH,
            shuffle=False,
            seed=seed,
            epoch=epoch,
            workers=self.workers,
            device=self.processes.device,
            cache=self.images,
        )

    def _shares(self, split: Split, stage: Stage, seed: int, epoch: int, start: int) -> Iterator[list[int]]:
        positions, size = order(len(split), seed, epoch), stage.batch_size
        for step in range(start, self.steps(stage)):
            whole = positions[step * size : (step + 1) * size]
            yield whole[self.processes.share(len(whole))]


@dataclass(frozen=True)
class StepPool:
    """The training images that one step's sampler may draw from; see `recipe.Pool`."""

    draw: Callable[[list[int]], Batch]
    labels: Tensor
    table: Tensor | None
    random: Random

    def __call__(self, positions: list[int]) -> Batch:
        return self.draw(positions)

    def embedding(self, batch: Batch) -> Tensor | None:
        return None if self.table is None else self.table[batch.index]


def drop_last(stage: Stage) -> DropLast:
    """What becomes of an epoch's last batch if it is not full; see `batches`."""
    return False if stage.keep_last else "field"

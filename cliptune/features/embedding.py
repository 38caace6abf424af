"""Embeddings of a split's pictures, from the store where they are in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cliptune.batch import Batch
from cliptune.data.cache import ImageCache
from cliptune.data.items import Split
from cliptune.data.loader import batches, steps_per_epoch
from cliptune.data.own.stored import Encoded, StoredSource
from cliptune.data.sources import FileSource
from cliptune.data.threads import mapped
from cliptune.data.transforms import Transform, test_transform, train_transform
from cliptune.features.shard import KEY, Keys, Rows
from cliptune.features.store import FeatureStore
from cliptune.features.tower import encoded, group_of, identity
from cliptune.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cliptune.clip.model import CLIP

READ = 96
"""Pictures that are read at a time, on the CPU; elsewhere as many as pass together."""
HANDED_OVER = 2048
"""Embeddings after which they are stored, so that what ends a long pass costs little of it."""
_HASHING = 4

Watch = Callable[[Iterable[Batch], int], Iterable[Batch]]
"""(batches, how many there will be) → the same batches; sees them pass."""


@dataclass(frozen=True)
class View:
    """Which pixels of a picture are meant: those of testing, or one augmented view.

    Args:
        resolution: R in pixels.
        preprocessing: of the CLIP.
        augmented: (seed, epoch) of a random crop and flip, which the picture's position in its split completes; None
            for the test transform.
        scale, resize_first, trivial: of `train_transform`.
    """

    resolution: int
    preprocessing: Preprocessing
    augmented: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    resize_first: bool = False
    trivial: bool = False

    @property
    def transform(self) -> Transform:
        if self.augmented is None:
            return test_transform(self.resolution, preprocessing=self.preprocessing)
        return train_transform(
            self.resolution,
            self.scale,
            resize_first=self.resize_first,
            trivial=self.trivial,
            preprocessing=self.preprocessing,
        )

    def later(self, epochs: int) -> View:
        """So many epochs later."""
        if self.augmented is None:
            return self
        seed, epoch = self.augmented
        return replace(self, augmented=(seed, epoch + epochs))

    def told(self) -> list[Any]:
        """Plain values; equal ones give equal pixels of equal files at equal positions."""
        how = asdict(self.preprocessing)
        if self.augmented is None:
            return ["test", self.resolution, how]
        drawn = [list(self.augmented), list(self.scale), self.resize_first, self.trivial]
        return ["train", self.resolution, how, *drawn]


def embedded(
    clip: CLIP,
    split: Split,
    view: View,
    *,
    store: FeatureStore | None = None,
    workers: int = 0,
    cache: ImageCache | None = None,
    watch: Watch | None = None,
    views: int = 1,
) -> Tensor:
    """Embeddings (N, V, D) float32 of a split's pictures by the bare image tower, on its device.

    They are the same, bit for bit, with and without a store, in whatever split and order (see `features.tower`).

    Args:
        view: of every picture.
        store: where they are looked up, and added.
        workers: processes that read pictures.
        cache: decoded pictures.
        watch: sees what has to be computed pass by.
        views: V, augmented views of each picture: of `view`'s epoch and those that follow. They pass the tower as one
            list, so that of few pictures no group of each view is filled up.
    Raises: ValueError for an empty split; ImageError, FileNotFoundError for a picture.
    """
    if not len(split):
        raise ValueError("Embeddings: the split is empty. Add images to it, or leave this pass out.")
    if view.augmented is None and views != 1:
        raise ValueError(f"Embeddings: a picture has one test view, and {views} were asked for. Augment the view.")
    reading = _Reading(clip, split, view, workers, cache, watch, views)
    if store is None:
        rows = torch.cat([rows for _, rows in reading.computed(range(views * len(split)), group_of(clip))])
    else:
        passing = _Passing(clip, split, view, store, views)
        try:
            for positions, some in reading.computed(passing.missing, passing.group):
                passing.take(positions, some)
        finally:
            passing.hand_over()
        rows = torch.from_numpy(passing.rows()).to(clip.device)
    return rows.unflatten(0, (views, len(split))).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class _Reading:
    """How pictures come to the tower."""

    clip: CLIP
    split: Split
    view: View
    workers: int
    cache: ImageCache | None
    watch: Watch | None
    views: int

    def computed(self, positions: Sequence[int], group: int) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Positions and their embeddings (b, D), batch by batch."""
        if not positions:
            return
        device = self.clip.device
        size = max(group, READ // group * group) if device.type == "cpu" else group
        seed, epoch = self.view.augmented or (0, 0)
        read: Iterable[Batch] = batches(
            self.split,
            self.view.transform,
            size,
            shuffle=False,
            seed=seed,
            epoch=epoch,
            workers=self.workers,
            device=device,
            cache=self.cache,
            only=positions,
            passes=self.views,
        )
        if self.watch is not None:
            read = self.watch(read, steps_per_epoch(len(positions), size, drop_last=False))
        starts = range(0, len(positions), size)
        passed = encoded(self.clip, (batch.images for batch in read), group)
        for start, rows in zip(starts, passed, strict=True):
            yield positions[start : start + size], rows


class _Passing:
    """Some views of a split, one after the other, with a store.

    Attributes:
        group: pictures that pass the tower together.
        missing: positions to compute, which count on through the views; of equal pictures one.
    """

    def __init__(self, clip: CLIP, split: Split, view: View, store: FeatureStore, views: int) -> None:
        self._split, self._store = split, store
        fingerprint, described = identity(clip)
        self._space = store.space(fingerprint)
        self.group = int(self._space.described.get("group") or group_of(clip))
        if not self._space.described:
            self._space.described = {**described, "group": self.group}
        self._digests = list(mapped(self._digest, range(len(split)), _HASHING))
        self._keys = np.concatenate([self._named(view.later(further)) for further in range(views)])
        found, rows = self._space.read(self._keys)
        self._rows = rows
        first: dict[bytes, int] = {}
        self._twin = [first.setdefault(key.tobytes(), i) for i, key in enumerate(self._keys)]
        self.missing = [i for i, twin in enumerate(self._twin) if twin == i and not found[i]]
        self._waiting: list[int] = []

    def take(self, positions: Sequence[int], rows: Tensor) -> None:
        """What was computed, (b, D)."""
        if self._rows is None:
            self._rows = np.zeros((len(self._keys), rows.shape[1]), np.float32)
        self._rows[list(positions)] = rows.cpu().numpy()
        self._waiting += positions
        if len(self._waiting) >= HANDED_OVER:
            self.hand_over()

    def hand_over(self) -> None:
        """Store what was taken, but for pictures that have changed since they were looked up."""
        pictures = {i % len(self._split) for i in self._waiting}
        known = {i for i in pictures if self._digests[i] is not None and self._digest(i) == self._digests[i]}
        same = [i for i in self._waiting if i % len(self._split) in known]
        self._waiting = []
        if same and self._rows is not None:
            self._store.add(self._space, self._keys[same], self._rows[same])

    def rows(self) -> Rows:
        """(V N, D), of every view of every picture."""
        assert self._rows is not None
        alone = all(i == twin for i, twin in enumerate(self._twin))
        return self._rows if alone else self._rows[self._twin]

    def _digest(self, i: int) -> str | None:
        """None for a picture that cannot be read; whoever reads it says why."""
        try:
            return self._split.digest(i)
        except (ValueError, OSError):
            return None

    def _named(self, view: View) -> Keys:
        """(N, 32), of one view."""
        told, names = json.dumps([self.group, view.told()]), bytearray()
        for i, digest in enumerate(self._digests):
            place = i if view.augmented is not None or digest is None else None
            content = digest or f"unread {i}"
            named = f"{told} {place} {_decoding(self._split, i)} {content}"
            names += hashlib.sha256(named.encode()).digest()
        return np.frombuffer(bytes(names), np.uint8).reshape(-1, KEY)


def _decoding(split: Split, i: int) -> str:
    """How the content of a picture becomes pixels: what decodes it, and whether it is turned by its tag."""
    source, row = split.key(i)
    exif = source.exif if isinstance(source, (FileSource, StoredSource)) else None  # in memory they are turned already
    if isinstance(source, FileSource):
        return f"encoded {exif}"
    of: Any = source.pictures[row] if isinstance(source, StoredSource) else source
    kind = "encoded" if isinstance(of, Encoded) else f"{type(of).__module__}.{type(of).__qualname__}"
    return f"{kind} {exif}"

"""Data sets: named classes and three splits of labelled pictures, from files or from memory alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from cliptune.data.fewshot import MAX_VAL_SHOTS, few_shot_indices, groups
from cliptune.data.images import ImageError
from cliptune.data.sources import FileSource, ImageSource, MemorySource
from cliptune.data.splits import base_or_new
from cliptune.data.threads import mapped
from cliptune.noted import few, once, warn

if TYPE_CHECKING:
    from torch import Tensor  # what is written of predictions without torch comes by here

DEFAULT_TEMPLATE = "a photo of a {}."

SPLITS = ("train", "val", "test")

HASHED_PICTURES = 50_000
"""Up to this many chosen pictures, `Dataset.descriptor` lists the hash of each one's content."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture: path relative to the root (POSIX; in memory a made-up id), label, class name."""

    path: str
    label: int
    class_name: str


class Split:
    """A sequence of labelled pictures; the order is part of it.

    Args:
        items: one per picture.
        source: where the pixels lie.
        rows: row of `source` for each item; by default 0 … N−1.
    """

    def __init__(self, items: Sequence[Item], source: ImageSource, rows: Sequence[int] | None = None) -> None:
        self.items = tuple(items)
        self.source = source
        self.rows = tuple(range(len(self.items))) if rows is None else tuple(rows)
        if len(self.rows) != len(self.items):
            raise ValueError(f"Split: expected one row per item, got {len(self.rows)} rows, {len(self.items)} items.")

    @classmethod
    def of_files(cls, root: str | Path, items: Sequence[Item], *, exif: bool = False) -> Split:
        """Pictures in files below `root`; `exif` as in `read_image`."""
        return cls(items, FileSource(root, [item.path for item in items], exif=exif))

    @classmethod
    def of_images(
        cls,
        images: Tensor | Sequence[Any],
        labels: Tensor | Sequence[int],
        class_names: Sequence[str],
        *,
        prefix: str = "images",
        exif: bool = False,
    ) -> Split:
        """Pictures in memory (see `MemorySource`), labels in 0 … C−1; ids are `prefix/000000` and so on."""
        values = [int(label) for label in labels]
        if len(images) != len(values):
            raise ValueError(
                f"Pictures in memory: expected one label per picture, got {len(images)} pictures and "
                f"{len(values)} labels."
            )
        wrong = next((value for value in values if not 0 <= value < len(class_names)), None)
        if wrong is not None:
            raise ValueError(
                f"Pictures in memory: labels must lie between 0 and {len(class_names) - 1} for "
                f"{len(class_names)} class names, got {wrong}. Labels count from 0."
            )
        items = [Item(f"{prefix}/{i:06d}", value, class_names[value]) for i, value in enumerate(values)]
        return cls(items, MemorySource(images, exif=exif))

    @classmethod
    def empty(cls) -> Split:
        return cls((), MemorySource(()))

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Split({len(self)} pictures {'in memory' if self.in_memory else 'in files'})"

    def __getitem__(self, i: int) -> Item:
        return self.items[i]

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64."""
        import torch

        return torch.tensor([item.label for item in self.items], dtype=torch.int64)

    @property
    def ids(self) -> tuple[str, ...]:
        """Relative paths, or the made-up ids of pictures in memory."""
        return tuple(item.path for item in self.items)

    @property
    def in_memory(self) -> bool:
        return self.source.in_memory

    def image(self, i: int) -> Image.Image:
        """Picture i as 8-bit RGB, in its own size."""
        return self.source.image(self.rows[i])

    def digest(self, i: int) -> str:
        """Hex SHA-256 of the content of picture i, read when asked."""
        return self.source.digest(self.rows[i])

    def key(self, i: int) -> tuple[ImageSource, int]:
        """What identifies picture i in this split and in every subset of it."""
        return self.source, self.rows[i]

    def count(self) -> dict[int, int]:
        """Label → number of pictures, in order of first appearance."""
        return {label: len(group) for label, group in groups([item.label for item in self.items]).items()}

    def subset(self, indices: Sequence[int]) -> Split:
        """The pictures at these positions, in this order; a position may repeat."""
        return Split([self.items[i] for i in indices], self.source, [self.rows[i] for i in indices])

    def relabelled(self, labels: Sequence[int]) -> Split:
        """Only the pictures of these labels, in their order, renumbered by position in `labels`."""
        new_label = {old: new for new, old in enumerate(labels)}
        kept = [i for i, item in enumerate(self.items) if item.label in new_label]
        items = [replace(self.items[i], label=new_label[self.items[i].label]) for i in kept]
        return Split(items, self.source, [self.rows[i] for i in kept])

    def sha256(self) -> str:
        """Hex hash over (path, label) of all items in order; in memory over the pixels as well."""
        sha256 = hashlib.sha256()
        for i, item in enumerate(self.items):
            content = self.digest(i) if self.in_memory else ""
            sha256.update(f"{item.path}\0{item.label}\0{content}\n".encode())
        return sha256.hexdigest()

    def unreadable(self, threads: int = 1, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Decode every picture once; a sentence for each that cannot be read.

        Args:
            progress: called with (so many done, of how many).
        """
        sentences = []
        for done, sentence in enumerate(mapped(self._complaint, range(len(self)), threads), start=1):
            if sentence:
                sentences.append(sentence)
            if progress is not None:
                progress(done, len(self))
        return sentences

    def _complaint(self, i: int) -> str | None:
        try:
            self.image(i)
        except (ImageError, OSError) as error:
            return str(error)
        return None


@dataclass(frozen=True)
class Dataset:
    """Class names with train, val and test pictures; each split may be empty.

    Args:
        name: what tables call it.
        class_names: C names, position = label; underscores already turned to spaces. They may repeat
            (ImageNet has two pairs of equal names), so nothing is keyed by name.
        train, val, test: the splits.
        template: hand-written text with one "{}" for the class name.
        root: folder of the files; None in memory.
        classes: "all", or "base" / "new" after `subset`.
        sampling: shots, seed and rule after `few_shot`; None for all training images.
        notes: sentences for the user about what was found or decided while reading.
        whole_sha256: `split_sha256` of the data set that this one was sampled or cut from.
        whole_names: class names of the data set that this one was cut from; () if it is whole.
        own_split: a published data set in another split than the published one.
        unread: files in class folders that are in no split, because their names or kinds are none of a picture that
            can be decoded here; paths relative to the root.
        nested: "leaf" or "top" if it was said which of folders in folders are the classes, see `read_folder`.
        read_with: what was said of a list that it does not say itself: "columns", "delimiter".
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    template: str = DEFAULT_TEMPLATE
    root: Path | None = None
    classes: str = "all"
    sampling: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    whole_sha256: str | None = None
    whole_names: tuple[str, ...] = ()
    own_split: bool = False
    unread: tuple[str, ...] = ()
    nested: str | None = None
    read_with: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1:
            raise ValueError(
                f"Dataset {self.name}: the template needs exactly one {{}} for the class name, got "
                f"{self.template!r}. For example {DEFAULT_TEMPLATE!r}."
            )
        for split in SPLITS:
            wrong = next((item for item in self[split].items if not 0 <= item.label < len(self.class_names)), None)
            if wrong is not None:
                raise ValueError(
                    f"Dataset {self.name}: {split} holds {wrong.path} with label {wrong.label}; labels must "
                    f"lie between 0 and {len(self.class_names) - 1} for {len(self.class_names)} class names."
                )

    def __getitem__(self, split: str) -> Split:
        """The split called "train", "val" or "test"."""
        if split not in SPLITS:
            raise ValueError(f"Dataset {self.name}: splits are {', '.join(SPLITS)}, got {split!r}.")
        return getattr(self, split)

    @cached_property
    def split_sha256(self) -> str:
        """Hex hash over the `Split.sha256` of train, val and test, before any sampling or class cut."""
        if self.whole_sha256 is not None:
            return self.whole_sha256
        return hashlib.sha256(":".join(self[split].sha256() for split in SPLITS).encode()).hexdigest()

    def few_shot(self, shots: int, seed: int, *, repeat: bool = False, strict: bool = False) -> Dataset:
        """`shots` training and at most 4 validation images per class, the field's picks; test stays whole.

        Args:
            shots: images per class; below 1 means all (the field's convention).
            seed: of the sampling alone.
            repeat: draw a class with fewer images than shots with replacement.
            strict: refuse such a class; otherwise all its images are used (the field's rule) and a note says
                so.
        Raises: ValueError if sampled already, or after a base/new cut, which must follow the sampling.
        """
        if shots < 1:
            return self
        if self.classes != "all" or self.sampling is not None:
            state = f"cut to its {self.classes} classes" if self.classes != "all" else "sampled"
            raise ValueError(
                f"Dataset {self.name} is already {state}; few-shot images are drawn from the whole data set, "
                "so that the picks equal the field's. Call few_shot first, then subset."
            )
        train, val = few_shot_indices(self.train.labels.tolist(), self.val.labels.tolist(), shots, seed, repeat=repeat)
        small = {label: n for label, n in self.train.count().items() if n < shots}
        notes = self.notes
        if len(val) < len(self.val):
            notes += (
                f"Dataset {self.name}: {len(val)} of {len(self.val)} validation images are kept, at most "
                f"{min(shots, MAX_VAL_SHOTS)} of a class, as in the field.",
            )
        if small:
            listed = ", ".join(f"{self.class_names[label]!r} ({n})" for label, n in list(small.items())[:5])
            more = f" and {len(small) - 5} more" if len(small) > 5 else ""
            sentence = (
                f"Dataset {self.name}: {len(small)} of {len(self.class_names)} classes have fewer than "
                f"{shots} training images: {listed}{more}."
            )
            if strict:
                raise ValueError(f"{sentence} Ask for fewer shots, add images, or leave out strict.")
            drawn = "drawn with repetition" if repeat else "all used once"
            notes += (f"{sentence} Their images are {drawn}.",)
            warn(notes[-1])
        sampling = {"shots": shots, "seed": seed, "repeat": repeat, "rng": "cpython-random"}
        return replace(self.with_picks(train, val, sampling), notes=notes)

    def with_picks(self, train: Sequence[int], val: Sequence[int], sampling: Mapping[str, Any]) -> Dataset:
        """Only these positions of train and val; `sampling` says how they were chosen."""
        return replace(
            self,
            train=self.train.subset(train),
            val=self.val.subset(val),
            sampling=dict(sampling),
            whole_sha256=self.split_sha256,
        )

    def subset(self, classes: str) -> Dataset:
        """The "base" (first ⌈C/2⌉) or "new" (other) classes in train, relabelled from 0; "all" is itself."""
        present = self.train.labels.tolist() or range(len(self.class_names))
        labels = base_or_new(present, classes)
        if classes in ("all", self.classes):
            return self
        if self.classes != "all":
            raise ValueError(
                f"Dataset {self.name} holds only its {self.classes} classes; {classes!r} cannot be taken "
                "from them. Cut the whole data set instead."
            )
        if not labels:
            raise ValueError(
                f"Dataset {self.name} has {len(set(present))} class with training images, so no {classes} "
                "classes. Base and new need at least two."
            )
        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in labels),
            train=self.train.relabelled(labels),
            val=self.val.relabelled(labels),
            test=self.test.relabelled(labels),
            classes=classes,
            whole_names=self.class_names,
            notes=once(self.notes, self._notes_on_empty_classes(labels)),
            whole_sha256=self.split_sha256,
        )

    def _notes_on_empty_classes(self, labels: Sequence[int]) -> list[str]:
        """What a cut to these labels leaves out, as sentences: classes in neither half, and classes without a test."""
        notes = []
        trained, tested = set(self.train.labels.tolist()), set(self.test.labels.tolist())
        for label, name in enumerate(self.class_names):
            if trained and label not in trained:
                notes.append(f"Dataset {self.name}: {name!r} has no training images, so it is in neither half.")
            elif tested and label in labels and label not in tested:
                notes.append(f"Dataset {self.name}: {name!r} has no test images, so no number speaks of it.")
        return notes

    def with_gaps_noted(self) -> Dataset:
        """With a note if classes have no training images, and one if they have no test images, where others have."""
        notes = []
        for split, follows in (
            (self.train, "have no training images and cannot be learned"),
            (self.test, "have no test images, so no number speaks of them"),
        ):
            there = set(split.labels.tolist())
            missing = [repr(name) for label, name in enumerate(self.class_names) if label not in there]
            if there and missing:
                notes.append(
                    f"Dataset {self.name}: {len(missing)} of {len(self.class_names)} classes {follows}: {few(missing)}."
                )
        return replace(self, notes=once(self.notes, notes))

    def descriptor(self) -> dict[str, Any]:
        """What a run stores as `split.json`: the chosen images by relative path and content hash.

        Train and val are listed as [path, label, SHA-256 of the content]; above 50,000 pictures the content
        is not read and the hash is null. The test split is told by its length and the hash of its list.
        """
        hashed = len(self.train) + len(self.val) <= HASHED_PICTURES

        def listed(split: Split) -> list[list[Any]]:
            return [[item.path, item.label, split.digest(i) if hashed else None] for i, item in enumerate(split.items)]

        return {
            "format": "split/1",
            "dataset": self.name,
            "split_sha256": self.split_sha256,
            "classes": self.classes,
            "class_names": list(self.class_names),
            "template": self.template,
            "sampling": None if self.sampling is None else dict(self.sampling),
            "train": listed(self.train),
            "val": listed(self.val),
            "test": {"n": len(self.test), "sha256": self.test.sha256()},
        }

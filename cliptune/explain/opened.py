"""A finished run with everything that explanations ask of it, each opened or computed once, when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.data import Dataset, Split
from cliptune.data.loader import Masking, batches, gather
from cliptune.data.masks import EXACT, Masks, open_masks
from cliptune.data.transforms import test_transform
from cliptune.features import View, embedded, usual_store
from cliptune.features.passes import Embed, in_order
from cliptune.protocols.scoring import OwnImages, own_images
from cliptune.runs import load, read_config, read_result


@dataclass(frozen=True)
class Answers:
    """What the adapter and the frozen CLIP say of N images.

    Args:
        labels: (N,) int64.
        logits: (N, C) float32 of the adapter.
        zero_shot: (N, C) float32 of the frozen CLIP with the classes' own template.
        features: (N, D) float32 unit image features of the adapter, the mean over its views, normalised.
        text: (C, D) float32 unit class texts of the adapter; None where they depend on the image or a class has many.
    """

    labels: Tensor
    logits: Tensor
    zero_shot: Tensor
    features: Tensor
    text: Tensor | None

    @property
    def predicted(self) -> Tensor:
        return self.logits.argmax(dim=-1)

    @property
    def right(self) -> Tensor:
        return self.predicted == self.labels

    @property
    def zero_shot_right(self) -> Tensor:
        return self.zero_shot.argmax(dim=-1) == self.labels


@dataclass
class OpenedRun:
    """A finished run, opened for reading; nothing in its folder changes.

    Args:
        folder: of the run.
        adapter: of it, in evaluation mode, speaking of its training classes.
        images: how many images of a split are looked at, at most, drawn at random.
        root: where its data lie now, if they were moved.
        batch_size: images that pass the towers together.
        seed: of whatever is drawn.
        masks: where the objects are in the pictures: a folder of masks, or "exact" for pictures that are drawn here,
            which is taken by itself where it can be. None: not known.
        among: folder in which runs that differ in seed, shots or options are looked for; None for that around the run.
    """

    folder: Path
    adapter: Adapter
    images: int = 400
    root: str | None = None
    batch_size: int = 50
    seed: int = 0
    masks: str | None = None
    among: str | None = None
    result: Mapping[str, Any] = field(init=False)
    config: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"explain: at least one image is looked at, got images={self.images}.")
        self.result = read_result(self.folder) or {}
        self.config = read_config(self.folder)
        self._own: dict[tuple[str, str | None], OwnImages] = {}
        self._answers: dict[str, Answers] = {}

    @classmethod
    def open(cls, folder: str | Path, *, device: torch.device | str = "cpu", **options: Any) -> OpenedRun:
        """Open a run's folder. Raises: as `cliptune.load`."""
        return cls(Path(folder).expanduser(), load(folder, device=device), **options)

    @property
    def method(self) -> str:
        """As the run's result names it, such as "coop+dpc"."""
        return str(self.result.get("method", "run"))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.adapter.class_names

    def own(self, split: str = "test", classes: str | None = None) -> OwnImages:
        """The run's own data, cut to `classes` ("all", "base", "new"; None for those it was trained on), and the whole
        split; "train" means the images that it learned from.

        Raises: ValueError or FileNotFoundError with a sentence if they cannot be opened, or there are no such images.
        """
        key = (split, classes)
        if key not in self._own:
            found = own_images(self.folder, split, classes=classes, root=self.root)
            self._check_classes(found.dataset.class_names, classes)  # before it is kept: each question is refused
            self._own[key] = found
        return self._own[key]

    def _check_classes(self, found: tuple[str, ...], classes: str | None) -> None:
        """Raises: ValueError if the data that lie there now have other classes than those trained on."""
        trained = (self.result.get("data") or {}).get("classes", "all")
        if classes in (None, trained) and tuple(found) != self.class_names:
            strange = next((name for name in found if name not in self.class_names), found[0] if found else "none")
            raise ValueError(
                f"explain: the data have {len(found)} classes, such as {strange!r}, and the run was trained on "
                f"{len(self.class_names)}, such as {self.class_names[0]!r}: they are another data set's, or in another "
                "order. Put the run's own data back, or say where they are: --root FOLDER."
            )

    @property
    def data(self) -> Dataset:
        return self.own().dataset

    def split(self, split: str = "test", classes: str | None = None) -> Split:
        """At most `images` of the split, drawn with the seed and in its order."""
        whole = self.own(split, classes).images
        if len(whole) <= self.images:
            return whole
        # Every k-th would miss whole classes where a split repeats them in turn.
        drawn = torch.randperm(len(whole), generator=torch.Generator().manual_seed(self.seed))[: self.images]
        return whole.subset(sorted(drawn.tolist()))

    def batches(self, split: str = "test", classes: str | None = None, *, masked: bool = False) -> Iterator[Batch]:
        """The same images through the test transform, on the adapter's device; `index` counts within `split(...)`.

        With `masked`, masks are beside them where they are known. Raises: FileNotFoundError or ValueError for masks
        that were named and cannot be had.
        """
        images, side = self.split(split, classes), self.adapter.resolution
        masks = self._masks(images) if masked else None
        how = self.adapter.clip.preprocessing
        nearest = test_transform(side, preprocessing=how.of_labels)
        return batches(
            images,
            test_transform(side, preprocessing=how),
            self.batch_size,
            shuffle=False,
            seed=0,
            workers=0,
            device=self.adapter.clip.device,
            masking=None if masks is None else Masking(masks, nearest),
        )

    def batch_of(self, positions: Sequence[int], split: str = "test") -> Batch:
        """Some images of `split(split)` as one batch, in the order of their positions there."""
        chosen = self.split(split).subset(list(positions))
        transform = test_transform(self.adapter.resolution, preprocessing=self.adapter.clip.preprocessing)
        batch = gather(chosen, range(len(chosen)), transform)
        return batch.to(self.adapter.clip.device)

    def _masks(self, images: Split) -> Masks | None:
        masks = open_masks(self.masks or EXACT)
        try:
            masks.check(images)
        except ValueError:
            if self.masks is None:
                return None
            raise
        return masks

    def answers(self, split: str = "test") -> Answers:
        """What adapter and frozen CLIP say of `split(split)`, in its order."""
        if split not in self._answers:
            self._answers[split] = self._answered(split)
        return self._answers[split]

    @torch.no_grad()
    def _answered(self, split: str) -> Answers:
        adapter, parts = self.adapter, []
        with adapter.evaluating():
            text = adapter.text_features()
            images, view, store = self.split(split), View(adapter.resolution, adapter.clip.preprocessing), usual_store()
            # Where a frame makes the pictures smaller, the frozen CLIP sees them as the adapter is given them.
            plain = view.resolution == adapter.clip.image.resolution
            bare = embedded(adapter.clip, images, view, store=store) if plain else None

            def known_or_new(part: Split, embed: Embed) -> Tensor:
                return embed(part) if bare is None else bare

            for batch, known in in_order(
                adapter.clip,
                images,
                view,
                self.batch_size,
                frozen=adapter.image_is_frozen,
                kept=known_or_new,
                store=store,
            ):
                out = adapter(batch, text_features=text, image_embedding=known)
                reference = adapter.reference(batch, None if bare is None else bare[batch.index])
                mean = torch.nn.functional.normalize(out.image_features.mean(dim=1), dim=-1)
                parts.append((batch.labels, out.logits, reference.logits, mean))
        labels, logits, zero_shot, features = (torch.cat([part[i] for part in parts]).cpu() for i in range(4))
        one_text = text is not None and text.shape[:2] == (1, len(self.class_names))
        return Answers(
            labels,
            logits.float(),
            zero_shot.float(),
            features.float(),
            text[0].float().cpu() if one_text and text is not None else None,
        )

    @cached_property
    def is_vit(self) -> bool:
        """Has the image tower tokens?"""
        return hasattr(self.adapter.clip.image, "transformer")

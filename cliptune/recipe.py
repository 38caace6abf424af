"""What training needs to know besides the adapter: stages, optimisers, and what was configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor

from cliptune.noted import once

if TYPE_CHECKING:
    from cliptune.adapter import Adapter, Outputs
    from cliptune.batch import Batch


class Pool(Protocol):
    """The training images that a sampler may add to a batch: those that the stage is given, and no others.

    Called with positions in the training split, it gives them as a batch, transformed as the stage's images are.

    Attributes:
        labels: (N,) int64, class of every position.
        random: its own generator, seeded by run, stage, epoch and step.
    """

    @property
    def labels(self) -> Tensor: ...

    @property
    def random(self) -> Random: ...

    def __call__(self, positions: list[int]) -> Batch: ...

    def embedding(self, batch: Batch) -> Tensor | None:
        """Image embeddings (B, V, D) of a batch where they are known, else None."""
        ...


Sampler = Callable[["Adapter", "Batch", Pool], "Batch"]
"""Adds images to a batch: `(adapter, batch, pool) → batch`; a reference, not a copy, of the run's adapter."""


class Objective(Protocol):
    """A loss: `(outputs, batch, progress) → (loss, parts)`; `progress` in [0, 1) is epoch / epochs.

    `needs` names what `Outputs` must hold beyond the adapter's own answer; `"reference"` asks for the frozen
    CLIP's answer to the same batch.
    """

    needs: frozenset[str]

    def __call__(self, out: Outputs, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]: ...


@dataclass(frozen=True)
class OptimiserConfig:
    """How learnables move.

    Args:
        name: "sgd", "adam" or "adamw".
        lr: peak learning rate, > 0.
        momentum: of SGD, without Nesterov and without dampening.
        weight_decay: added to the gradient (SGD, Adam) or decoupled (AdamW); acts on learnables only.
        schedule: "cosine" or "constant".
        per: whether the rate changes once per "epoch" (the CoOp family) or once per "step".
        warmup_epochs: first epochs that do not follow the schedule.
        warmup_lr: rate of a "constant" warm-up, and of epoch 0 of a "linear" one.
        warmup: "constant", or "linear" (lr · e / warmup_epochs).
        min_lr: where the cosine ends.
        recount: True starts counting the cosine's epochs after the warm-up, as the CoOp family's recipes do; False
            counts from the first epoch (the warm-up takes its share of the curve, the peak is still reached).
        horizon: epochs over which the cosine would reach its end, not always whole ones; None for the stage's own.
        factors: start of a learnable's name → factor on the rate, for recipes with several rates; others take 1.
    """

    lr: float
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["cosine", "constant"] = "cosine"
    per: Literal["epoch", "step"] = "epoch"
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    warmup: Literal["constant", "linear"] = "constant"
    min_lr: float = 0.0
    recount: bool = True
    horizon: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adam", "adamw"):
            raise ValueError(f"OptimiserConfig: name must be 'sgd', 'adam' or 'adamw', got {self.name!r}.")
        if not self.lr > 0:
            raise ValueError(f"OptimiserConfig: lr must be above 0, got {self.lr}. Give a positive learning rate.")

    def moved(self, start: str, to: str) -> OptimiserConfig:
        """The same, for learnables whose names no longer begin with `start`, but with `to`."""
        names = {name: to + name.removeprefix(start) if name.startswith(start) else name for name in self.factors}
        return replace(self, factors={names[name]: factor for name, factor in self.factors.items()})

    def factor(self, name: str) -> float:
        """On the rate of the learnable of this name: that of the first start in `factors` which fits, else 1."""
        return next((factor for start, factor in self.factors.items() if name.startswith(start)), 1.0)


@dataclass
class Stage:
    """One pass of training: what is minimised, for how long, how.

    Args:
        objective: the loss; None for a stage that only observes.
        epochs: passes over the training images that are begun.
        batch_size: images per optimiser step, over all devices and accumulation steps.
        optimiser: None for a stage that only observes (no learnable moves by gradient; heads count or fit).
        name: shown in progress and metrics.
        augment: random crop and flip (the train transform); False uses the test transform.
        resize_first: bring the short side to the adapter's resolution before the random crop is taken.
        trivial: with `augment`, a random crop of the size wanted out of the resized picture, a flip and one random
            operation (TrivialAugment, arXiv:2103.10158), instead of the random resized crop.
        keep_last: a last batch that is not full is used as well, instead of dropped.
        observe: splits shown to `head.observe` in a stage that only observes, in this order; absent ones are skipped.
        observe_views: augmented views per training image in a stage that only observes. More than one needs images
            that no learnable reaches.
        average_views: the head sees the mean embedding of these views; else every one of them.
        crop: smallest and largest share of the area in random crops.
        whole_batch: its numbers depend on a batch as a whole (batch statistics), so no batch may be cut into pieces.
        sampler: adds images to a batch (hard negatives); None for plain shuffling.
        masks: where foreground masks of the training images come from, which batches then hold: "exact" for those of
            Tinyworld, or a folder of mask files; None for none.
        before: called as `hook(adapter)` when the stage begins, and again when a run is resumed within it: whatever
            a hook does once must leave a mark among the learnables.
        steps: optimiser steps in all, where a budget ends the last epoch early; None for whole epochs.
        after_epoch: called as `hook(adapter, epoch, epochs)` when an epoch ends. A hook that keeps state
            between epochs has `state_dict()` and `load_state_dict()`.
    """

    objective: Objective | None
    epochs: int
    batch_size: int
    optimiser: OptimiserConfig | None
    name: str = "train"
    augment: bool = True
    resize_first: bool = False
    trivial: bool = False
    keep_last: bool = False
    observe: tuple[str, ...] = ("train",)
    observe_views: int = 1
    average_views: bool = True
    crop: tuple[float, float] = (0.08, 1.0)
    whole_batch: bool = False
    sampler: Sampler | None = None
    masks: str | None = None
    steps: int | None = None
    before: Sequence[Callable[[Adapter], None]] = ()
    after_epoch: Sequence[Callable[[Adapter, int, int], None]] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"Stage {self.name!r}: epochs and batch_size must be at least 1, "
                f"got {self.epochs} and {self.batch_size}."
            )


@dataclass(frozen=True)
class HostStages:
    """The first stages of a recipe, where they are by themselves the whole training of another one: an add-on's host.

    Args:
        method: the host.
        stages: how many.
        prompt: start of the names of the host's prompt among the learnables, such as "prompt.tuned.".
    """

    method: str
    stages: int
    prompt: str


@dataclass(frozen=True)
class Narrow:
    """A setting that was published for wide towers and was not seen to work on one as narrow as the recipe's.

    Args:
        option: of the method, or "steps" for the optimiser steps of its own stages.
        used: its value. works: one that was seen to work.
        width: of the text tower.
        note: all of it as a sentence.
    """

    option: str
    used: float
    works: float
    width: int
    note: str


@dataclass(frozen=True)
class FewestSteps:
    """Optimiser steps from which on a method was seen to learn on a narrow tower; how many it takes, `fit` knows.

    Args:
        least: steps of its own stages together. works: as many as were seen to learn well.
        width: of the text tower.
        note: a sentence with a place {steps} for those that are taken.
    """

    least: int
    works: int
    width: int
    note: str

    def judge(self, steps: int) -> tuple[Narrow, ...]:
        """What there is to say of so many steps: nothing, if they are enough."""
        if steps >= self.least:
            return ()
        return (Narrow("steps", steps, self.works, self.width, self.note.format(steps=f"{steps:,}")),)


@dataclass
class Recipe:
    """An adapter and the stages that train it.

    Args:
        adapter: frozen CLIP, texts, prompt, head.
        stages: run in order; empty for methods that learn nothing.
        method: the name it was built from, add-ons joined by "+".
        config: the resolved options of the method.
        flags: honest flags for `result.json` (extra images, unlabelled test classes seen, external models).
        remarks: restrictions that a combination of method and add-ons works under, a phrase each.
        plugins: name → path, sha256 and kind of each part that comes from outside the package.
        host_stages: of a recipe that goes on after its host's, what a finished run of the host may stand for.
        notes: what was replaced, or chosen where an option was left out, a sentence each.
        narrow: settings that were not seen to work on so narrow a tower. fewest_steps: what is to be judged of its
            stages when their steps are known; None for nothing.
        exact: why frozen weights stay in float32 where the precision is left to be chosen, as the end of "because …";
            "" where nothing was measured that speaks against bfloat16.
    """

    adapter: Adapter
    stages: list[Stage]
    method: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    host_stages: HostStages | None = None
    notes: tuple[str, ...] = ()
    narrow: tuple[Narrow, ...] = ()
    fewest_steps: FewestSteps | None = None
    exact: str = ""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Each once: what the adapter's parts noted, its own notes, the remarks as sentences, and narrow settings."""
        remarks = (f"{self.method}: {remark}." for remark in self.remarks)
        return once(self.adapter.notes, self.notes, remarks, (one.note for one in self.narrow))

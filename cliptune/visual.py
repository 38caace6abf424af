"""What the methods of visual reprogramming share: options, stages, causes, and a word about missing descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cliptune.noted import warn
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.recipe import OptimiserConfig, Stage
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.texts.described import Replacement, Stream
from cliptune.texts.descriptions import DESCRIBING, DISTINGUISHING

Augment = Literal["crop", "trivial"]
AUGMENTS = ("crop", "trivial")


@dataclass(frozen=True)
class VisualConfig:
    """Options of every learned pattern.

    Args:
        lr, batch_size, epochs: of SGD with a cosine per step.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
        augment: of training images: "crop" is a random resized crop and a flip; "trivial" a crop of the resized image,
            a flip and one random operation of random strength (TrivialAugment, arXiv:2103.10158).
    """

    lr: float = 10.0
    batch_size: int = 32
    epochs: int = 50
    chunk: int | None = None
    augment: Augment = "crop"


@dataclass(frozen=True)
class DescribedConfig(VisualConfig):
    """Options of a frame whose classes are told apart by descriptions.

    Args:
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        m: descriptions per class and set; None for 20, or as many as the poorest class has.
        min_length: characters of a usable description.
        description_seed: of the draw.
        replacement: "needed", "never", or the published rule "reference".
        rng: stream of the draw, "own" or "reference".
    """

    inner: int | None = None
    m: int | None = None
    min_length: int = 8
    description_seed: int = 1
    replacement: Replacement = "needed"
    rng: Stream = "own"

    def phrasing(self, sets: tuple[str, ...], views: tuple[int, ...] | None = None) -> DescriptionPhrasing:
        """The class texts, drawn from sets of descriptions; `views` gives each set the pattern that it judges."""
        return DescriptionPhrasing(
            sets,
            self.m,
            self.description_seed,
            views=views,
            replacement=self.replacement,
            rng=self.rng,
            min_length=self.min_length,
        )


@dataclass(frozen=True)
class PRMConfig(DescribedConfig):
    """Options of a frame whose descriptions are weighted by votes of training images.  (arXiv:2506.01000)

    Args:
        votes: k, descriptions of its class that each training image votes for.
        smoothing: strength of PRM's uniform prior in votes; "auto" for none from 16 shots on, else the likeliest.
        lr, batch_size, epochs: of SGD with a cosine per step; with PRM the first epoch only counts votes.
    """

    votes: int = 3
    smoothing: float | Literal["auto"] = "auto"


def stage(config: VisualConfig, *, counted: int = 0, factors: Mapping[str, float] | None = None) -> Stage:
    """Cross-entropy by SGD without weight decay, cosine per step without warm-up, every image in every epoch.

    Args:
        counted: epochs of the configured ones that pass before this stage, which the cosine counts as well.
        factors: start of a learnable's name → factor on the rate.
    """
    if config.augment not in AUGMENTS:
        raise ValueError(
            f"A pattern on the pixels: augment must be one of {', '.join(AUGMENTS)}, got {config.augment!r}."
        )
    optimiser = OptimiserConfig(
        lr=config.lr,
        weight_decay=0.0,
        per="step",
        warmup_epochs=0,
        horizon=config.epochs if counted else None,
        factors=dict(factors or {}),
    )
    return Stage(
        WeightedLoss(cross_entropy),
        config.epochs - counted,
        config.batch_size,
        optimiser,
        resize_first=True,
        keep_last=True,
        trivial=config.augment == "trivial",
    )


def stages_with_prm(config: VisualConfig) -> list[Stage]:
    """One epoch that only counts votes, then training; the cosine runs over all epochs, so it never reaches 0."""
    if config.epochs < 2:
        raise ValueError(
            f"DVP: the first epoch only counts votes, so at least 2 epochs are needed to train, got {config.epochs}."
        )
    learned = stage(config, counted=1)
    first = Stage(None, 1, config.batch_size, None, name="observe", resize_first=True, trivial=learned.trivial)
    return [first, learned]


def causes_of(method: str, classes: ClassSet, wanted: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The sets of descriptions that speak of one cause each.

    Args:
        wanted: by name; empty for all there are, in order, up to `most`.
        most: how many stand-ins to make where the classes have no descriptions at all.
    Raises: ValueError if there are descriptions, but not by cause.
    """
    if wanted:
        return wanted
    if not classes.descriptions:
        return tuple(f"templates {i + 1}" for i in range(most))
    causes = tuple(name for name in classes.descriptions if name not in (DESCRIBING, DISTINGUISHING))
    if not causes:
        raise ValueError(
            f"{method}: it needs descriptions by cause, but there are only {', '.join(classes.descriptions)}. "
            "Write causes with `cliptune describe`, or use dvp_cls, which finds groups by itself."
        )
    return causes[:most]


def flags(method: str, classes: ClassSet) -> dict[str, Any]:
    """For `result.json`: where the descriptions came from. Warns where templates have to stand in."""
    if classes.descriptions:
        return {"descriptions": "given"}
    warn(
        f"{method}: the classes have no descriptions, so hand-written templates stand in for them, which say nothing "
        "but the name. Write some with `cliptune describe`, and give them as `descriptions`.",
        stacklevel=3,
    )
    return {"descriptions": "templates"}

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative=())]
Assignments = Annotated[list[str] | None, Parameter(name=["--set", "-s"], negative=())]


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """What the weights of --backbone may not say themselves.

    Parameters
    ----------
    activation
        Of a file of weights: quick_gelu (OpenAI's) or gelu (most of open_clip's), where nothing beside it says so.
    arch
        Of a file of weights, instead: open_clip's name, such as ViT-B-16 (gelu), ViT-B-16-quickgelu, ViT-B-16-SigLIP2.
    hyphens
        Of a tokenizer that deletes punctuation (SigLIP's): read hyphens of class names as spaces, or glue the words.
    hide_prompts
        Of a backbone whose pooling attends to all rows (SigLIP, PE-Core, CoCa): image prompts are hidden from it.
    trust
        Of a name on the hub: take what was fetched though there is no checksum for it, which is said if it is so.
    """

    activation: Literal["quick_gelu", "gelu"] | None = None
    arch: str | None = None
    hyphens: Literal["glue", "space"] | None = None
    hide_prompts: Flag = False
    trust: Flag = False

    @property
    def given(self) -> dict[str, Any]:
        """Arguments of `load_clip` that were given."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What a list of pictures may not say itself.

    Parameters
    ----------
    columns
        Of a list, which column is which: image=id,label=breed,split=part; those without a header are called 1, 2, 3.
    delimiter
        Of a list, what separates the values: a character, or comma, semicolon, tab, pipe, space. Told by content if
        left out.
    """

    columns: str | None = None
    delimiter: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Options of `DataSpec.found` that were given."""
        return {name: value for name, value in vars(self).items() if value is not None}


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What may be said of a training run, whatever it is trained on.

    Parameters
    ----------
    set
        An option of the method or of the training, name=value; may be repeated.
    config
        YAML file of such options, or the config.yaml of a run to repeat.
    epochs
        Shortcut for --set epochs=…
    steps
        Optimiser steps in all, in place of epochs; the schedule is stretched to them. Several stages share them in
        proportion to their epochs.
    images
        The same, told by how many images the steps see.
    lr
        Shortcut for --set lr=…
    batch_size
        Shortcut for --set batch_size=…
    select
        Which epoch is kept: last, val (best on validation images), oracle (best on test images; labelled).
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    precision
        Of the frozen towers: fp32, bf16, fp16; or auto, which is bf16 where the device multiplies it faster, the towers
        are wide and the method's gradients were not seen to change, else fp32.
    workers
        Processes that read images.
    descriptions
        JSON file or folder of sentences about the classes, for methods that use them; see `cliptune describe`.
    truncate
        Cut class names that have more tokens than the text tower reads, after the last word that fits, and say so.
    log_prompts
        Keep the prompts of every epoch, kilobytes each, for `cliptune explain RUN rank`.
    calibrate
        Then repeat the training on parts of the images, for a temperature and prediction sets: see
        `cliptune calibrate`.
    overwrite
        Replace the run in --out.
    strict
        Refuse what is otherwise noted: the same picture in two splits or classes, files in class folders that are not
        read, classes with fewer images than --shots.
    """

    set: Assignments = None
    config: str | None = None
    epochs: int | None = None
    steps: int | None = None
    images: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    select: str | None = None
    device: str | None = None
    precision: str | None = None
    workers: int | None = None
    descriptions: str | None = None
    truncate: Flag = False
    log_prompts: Flag = False
    calibrate: Flag = False
    overwrite: Flag = False
    strict: Flag = False

    @property
    def shortcuts(self) -> Mapping[str, Any]:
        """Options of the method or of the training that have a name of their own on the command line."""
        names = ("epochs", "steps", "images", "lr", "batch_size", "select", "precision", "workers")
        further = {
            "descriptions": self.descriptions,
            "truncate": self.truncate or None,
            "log_prompts": self.log_prompts or None,
        }
        return {**{name: getattr(self, name) for name in names}, **further}

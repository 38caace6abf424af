"""Which methods can be exported to what: tried, not declared."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.data.catalog import load_data
from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import Description
from cliptune.exporting.checking import DRAWN, largest_difference
from cliptune.exporting.folded import FoldedTarget
from cliptune.exporting.graph import Graph
from cliptune.exporting.making import ALLOWED, NAMES, Target
from cliptune.exporting.program import OnnxTarget, ProgramTarget
from cliptune.images import as_batch
from cliptune.recipe import Recipe
from cliptune.registry import build
from cliptune.registry.checks import trained
from cliptune.runs.checkpoints import backbone
from cliptune.runs.jsonable import jsonable
from cliptune.runs.loading import choose_weight


@dataclass(frozen=True)
class Verdict:
    """One cell.

    Args:
        method, target: what was exported to what.
        holds: whether it answers as its adapter does.
        difference: the largest of a probability; None where nothing could be exported.
        sentence: why not; "" where it holds.
    """

    method: str
    target: str
    holds: bool
    difference: float | None
    sentence: str = ""

    @property
    def mark(self) -> str:
        """✓ or ✗."""
        return "✓" if self.holds else "✗"


def parity(method: str, clip: CLIP, targets: Sequence[str] = tuple(NAMES), **options: Any) -> list[Verdict]:
    """Train a method for a few steps on drawings, export it to each target in float32, and compare.

    Args:
        method: a host with add-ons. clip: a small backbone, on the CPU and in float32. options: of the method.
    """
    recipe, pictures = _subject(method, clip, options)
    return [_tried(method, recipe, target, pictures) for target in targets]


def _subject(method: str, clip: CLIP, options: dict[str, Any]) -> tuple[Recipe, list[Image.Image]]:
    split = load_data(DRAWN, shots=1).train
    pictures = [split.image(i) for i in range(len(split))]
    names = tuple(dict.fromkeys(split.items[i].class_name for i in range(len(split))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these classes have no descriptions, and need none
        recipe = build(method, clip, names, **options)
        labels = torch.tensor([names.index(item.class_name) for item in split.items])
        trained(recipe, Batch.of(as_batch(pictures, clip.image.resolution, clip.preprocessing), labels), steps=1)
    recipe.adapter.eval()
    return recipe, pictures


def _tried(method: str, recipe: Recipe, target: str, pictures: list[Image.Image]) -> Verdict:
    adapter = recipe.adapter
    allowed = ALLOWED["float32"]
    try:
        with _exported(recipe, target) as model:
            difference = largest_difference(model, adapter, pictures)
    except ValueError as error:
        return Verdict(method, target, False, None, str(error))
    sentence = "" if difference <= allowed else f"A probability differs by {difference:.2g}, more than {allowed:g}."
    return Verdict(method, target, not sentence, difference, sentence)


@contextmanager
def _exported(recipe: Recipe, target: str) -> Iterator[ExportedClassifier]:
    adapter = recipe.adapter
    about = Description(
        adapter.class_names,
        adapter.resolution,
        mean=adapter.clip.mean,
        std=adapter.clip.std,
        pictures=adapter.clip.preprocessing.geometry,
        weight=choose_weight(adapter, None),
    )
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        made: Target
        if target == "folded":
            made = FoldedTarget(adapter, _as_noted(recipe), torch.float32)
        else:
            kind = OnnxTarget if target == "onnx" else ProgramTarget
            made = kind(Graph(adapter), about.input)
        yield made.write(Path(place) / NAMES[target], about)


def _as_noted(recipe: Recipe) -> dict[str, Any]:
    """What `adapter_config.json` would say of the run."""
    adapter = recipe.adapter
    return {
        "method": recipe.method,
        "config": jsonable(recipe.config),
        "plugins": jsonable(recipe.plugins),
        "backbone": jsonable(backbone(adapter.clip)),
        "classes": jsonable(adapter.trained_classes),
    }

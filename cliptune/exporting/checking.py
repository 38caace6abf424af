"""Is an export the adapter that it was made of? Asked on real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cliptune.adapter import Adapter
from cliptune.data.catalog import load_data
from cliptune.data.items import Dataset
from cliptune.data.spec import DataSpec
from cliptune.exported.classifier import ExportedClassifier
from cliptune.runs.folder import read_result

MOST = 16
DRAWN = "tinyworld/symbols"
_BATCH = 8


@dataclass(frozen=True)
class Pictures:
    """What is asked about.

    Args:
        images: PIL pictures of any size. of: where they are from.
        note: what took the place of pictures that were not to be had, as a sentence; "" if nothing did.
    """

    images: Sequence[Image.Image]
    of: str
    note: str = ""


def check_pictures(run: object, given: Sequence[Image.Image] | None) -> Pictures:
    """Those that are given; else some of the run's own; else drawings of Tinyworld."""
    if given is not None:
        if not len(given):
            raise ValueError("export: at least one picture is needed to check with, got none.")
        return Pictures(given, "given")
    if not isinstance(run, (str, Path)):
        return Pictures(_some(load_data(DRAWN, shots=2)), DRAWN)
    source = (read_result(run) or {}).get("source") or {"name": ""}
    try:
        return Pictures(_some(DataSpec.of(source).open()), Path(source["name"]).name)
    except (OSError, ValueError):
        note = f"The run's own pictures are not to be had here, so drawings of {DRAWN} were used to check the export."
        return Pictures(_some(load_data(DRAWN, shots=2)), DRAWN, note)


def _some(data: Dataset) -> list[Image.Image]:
    split = next(part for part in (data.test, data.val, data.train) if len(part))
    step = max(1, len(split) // MOST)
    return [split.image(i) for i in range(0, len(split), step)][:MOST]


def largest_difference(model: ExportedClassifier, adapter: Adapter, images: Sequence[Image.Image]) -> float:
    """max |p − p'| over pictures and classes, in batches of several and of one."""
    batches = [images[:1], *(images[i : i + _BATCH] for i in range(0, len(images), _BATCH))]
    return max(
        float(np.abs(model.probabilities(batch) - adapter.probabilities(adapter.logits(batch)).numpy()).max())
        for batch in batches
    )

"""What is served: a run, whose classes may change, or an export, whose classes are decided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cliptune.exported.classifier import ExportedClassifier
from cliptune.exporting.opening import is_exported, open_exported
from cliptune.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cliptune.adapter import Adapter


class Served(Protocol):
    """A classifier behind a name."""

    changeable: bool
    """May its classes be others?"""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def resolution(self) -> int:
        """R, side in pixels of prepared pictures."""
        ...

    @property
    def pictures(self) -> Preprocessing:
        """How pictures are prepared."""
        ...

    def answer(self, prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """(B, 3, R, R) uint8 → class names (C), probabilities (B, C)."""
        ...

    def set_classes(self, names: Sequence[str], template: str | None) -> None:
        """Speak of other classes from the next answer on. Raises: ValueError if it cannot; nothing changes then."""
        ...


class ServedExport:
    """An ONNX file or a folded classifier."""

    changeable = False

    def __init__(self, model: ExportedClassifier) -> None:
        self._model = model
        self.class_names, self.resolution = model.class_names, model.description.resolution
        self.pictures = model.description.pictures

    def answer(self, prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        return self.class_names, self._model.probabilities(prepared)

    def set_classes(self, names: Sequence[str], template: str | None) -> None:
        raise ValueError(
            "The classes of an export are decided when it is made. Serve the run itself, or export it once more."
        )


class ServedRun:
    """An adapter; its class texts are encoded once for each list of classes."""

    def __init__(self, adapter: Adapter) -> None:
        self.changeable = not (adapter.prompt.class_specific or adapter.head.class_specific)
        self.resolution, self.pictures = adapter.resolution, adapter.clip.preprocessing
        self._take(adapter.eval())

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._adapter.class_names

    def _take(self, adapter: Adapter) -> None:
        self._text = adapter.text_features()  # None where it depends on the image
        self._adapter = adapter

    def answer(self, prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        import torch

        from cliptune.batch import Batch

        pixels = torch.from_numpy(prepared).to(self._adapter.clip.device).float() / 255
        with torch.inference_mode():
            logits = self._adapter(Batch.of(pixels), text_features=self._text).logits
            answers: np.ndarray = self._adapter.probabilities(logits).cpu().numpy()
        return self._adapter.class_names, answers

    def set_classes(self, names: Sequence[str], template: str | None) -> None:
        if list(names) == list(self.class_names) and template is None:
            return
        other = self._adapter.for_texts(self._adapter.classes)
        self._take(other.set_classes(list(names), template=template))


def open_served(path: str | Path, device: str = "cpu") -> Served:
    """A run's folder, or an export. Raises: as `runs.load` and `open_exported` do."""
    if is_exported(path):
        return ServedExport(open_exported(path))
    from cliptune.runs import load

    adapter = load(path, device=device)
    if adapter.head.order is not None:
        raise ValueError(
            f"serve: the run in {path} answers a picture by those that came before it, so that one who asks would get "
            "answers that depend on what others have sent. Serve another method's run."
        )
    return ServedRun(adapter)

"""A classifier in an ONNX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import KEY, Description
from cliptune.reading import shown

IMAGES, PROBABILITIES = "images", "probabilities"
"""Names of the graph's input and output."""


class OnnxClassifier(ExportedClassifier):
    """An ONNX file that `cliptune export` wrote, answered by onnxruntime on the CPU.

    Args:
        path: of the file.
        threads: that compute one batch; None for those of OMP_NUM_THREADS, else onnxruntime's own choice.
    Raises: FileNotFoundError if there is no such file; ImportError if onnxruntime is not installed; ValueError if the
        file is damaged or was not written by cliptune.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"There is no ONNX file {path}. Check the path, or export a run: cliptune export.")
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        asked = threads if threads is not None else int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
        options.intra_op_num_threads = asked
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime's own kinds, which are no ValueErrors
            raise ValueError(
                f"{path} is not a whole ONNX model ({shown(str(error), 200)}). Export it again."
            ) from error
        said = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if said is None:
            raise ValueError(
                f"{path} says nothing of its classes: expected an ONNX file that `cliptune export` wrote. Its metadata "
                f"have no entry {KEY!r}."
            )
        self.description = Description.read(said, str(path))
        self._check(path)

    def _check(self, path: Path) -> None:
        entries, exits = self._session.get_inputs(), self._session.get_outputs()
        side, classes = self.description.resolution, len(self.class_names)
        fits = [e.name for e in entries] == [IMAGES] and entries[0].shape[1:] == [3, side, side]
        if not fits or [e.name for e in exits] != [PROBABILITIES] or exits[0].shape[1:] != [classes]:
            raise ValueError(
                f"{path}: its graph does not fit its description of {classes} classes and pictures of {side} pixels. "
                "Export the run again."
            )

    def _answer(self, prepared: np.ndarray) -> np.ndarray:
        given = prepared if self.description.input == "uint8" else prepared.astype(np.float32) / np.float32(255)
        answer: np.ndarray = self._session.run([PROBABILITIES], {IMAGES: given})[0]
        return answer


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "An ONNX file is answered by onnxruntime, which is not installed: pip install 'cliptune[onnx]', or "
            "pip install onnxruntime where nothing is exported."
        ) from error
    return onnxruntime

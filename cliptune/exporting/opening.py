"""Opening what was exported, whatever it is; torch is imported only where it answers."""

from __future__ import annotations

from pathlib import Path

from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.onnx import OnnxClassifier

# What writes them has these names, too, and imports torch.
_ONNX, _FOLDED = "model.onnx", "folded.json"


def is_exported(path: str | Path) -> bool:
    """Is it the file or the folder of an export, and not a run?"""
    path = Path(path).expanduser()
    if path.suffix in (".onnx", ".pt2"):
        return True
    return (path / _ONNX).is_file() or (path / _FOLDED).is_file()


def open_exported(path: str | Path) -> ExportedClassifier:
    """A classifier that `export` wrote: an ONNX file, or the folder of one or of a folded classifier.

    Raises: FileNotFoundError if there is none; ImportError if onnxruntime is missing; ValueError for a damaged one, or
        a program of `torch.export`, which torch opens itself.
    """
    path = Path(path).expanduser()
    if (path / _FOLDED).is_file():
        from cliptune.exporting.folded import FoldedModel

        return FoldedModel(path)
    if path.suffix == ".pt2":
        raise ValueError(
            f"{path} is a program for torch: torch.export.load({str(path)!r}).module() takes pixels (B, 3, R, R) and "
            "gives probabilities. Export to onnx or folded for `cliptune predict` and `cliptune serve`."
        )
    return OnnxClassifier(path / _ONNX if path.is_dir() else path)

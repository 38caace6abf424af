"""What a run answered, image by image, kept beside its result: so that two runs can be compared on the same images."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors
from torch import Tensor

from cliptune.data.items import Split
from cliptune.files import atomic_write_bytes
from cliptune.runs.file_names import PREDICTIONS, RESULT
from cliptune.runs.folder import read_result

FORMAT = "predictions/1"
_NARROW = 1 << 16


@dataclass(frozen=True, eq=False)
class Predictions:
    """One evaluation's answers, in the order of the split.

    Args:
        labels: (N,) int64, the true classes.
        predicted: (N,) int64, the classes with the highest logit.
        probability: (N,) float32 in [0, 1], softmax probability of the true class; a file keeps it as float16.
        split_sha256: of the scored split, see `Split.sha256`.
        images_sha256: over the images' ids in order.
        classes_sha256: over the class names in order.
    """

    labels: Tensor
    predicted: Tensor
    probability: Tensor
    split_sha256: str
    images_sha256: str
    classes_sha256: str

    @classmethod
    def of(cls, logits: Tensor, split: Split, class_names: Sequence[str]) -> Predictions:
        """From finite logits (N, C) in the split's order."""
        labels = split.labels
        return cls(
            labels,
            logits.argmax(-1),
            logits.double().softmax(-1).gather(1, labels[:, None])[:, 0].float(),
            split.sha256(),
            _sha256(split.ids),
            _sha256(class_names),
        )

    @property
    def right(self) -> Tensor:
        """(N,) bool: the prediction is the label."""
        return self.predicted == self.labels

    def __len__(self) -> int:
        return len(self.labels)


def write_predictions(folder: str | Path, name: str, predictions: Predictions) -> dict[str, str]:
    """Write the answers of an evaluation into a run folder, before its result mentions them.

    Args:
        name: of the evaluation; signs that are no part of a file's name everywhere are replaced.
    Returns: what `result.json` says of the file: "file", below the folder, and "sha256". Equal answers have equal
        files.
    Raises: OSError with a sentence if it cannot be written.
    """
    path = f"{PREDICTIONS}/{_file_name(name)}.safetensors"
    labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
    kind = np.uint16 if max(labels.max(initial=0), predicted.max(initial=0)) < _NARROW else np.uint32
    arrays = {
        "labels": labels.astype(kind),
        "predicted": predicted.astype(kind),
        "probability": predictions.probability.numpy().astype(np.float16),
    }
    about = {
        "format": FORMAT,
        "evaluation": name,
        "split_sha256": predictions.split_sha256,
        "images_sha256": predictions.images_sha256,
        "classes_sha256": predictions.classes_sha256,
    }
    # One entry: safetensors gives several in no fixed order.
    content = to_safetensors(arrays, metadata={"about": json.dumps(about)})
    atomic_write_bytes(Path(folder).expanduser() / path, content)
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest()}


def read_predictions(folder: str | Path, name: str) -> Predictions | None:
    """The answers behind an evaluation of a finished run.

    Args:
        folder: of the run.
        name: of the evaluation in `result.json`, such as "test" or "new".
    Returns: None if the evaluation was made by a version that kept no answers.
    Raises: ValueError if the run has no such evaluation, or the file is not the one that its result was written with;
        FileNotFoundError if the file is gone.
    """
    evaluations = (read_result(folder) or {}).get("evaluations") or {}
    if name not in evaluations:
        raise ValueError(
            f"{folder} has no evaluation {name!r}; it has {', '.join(map(repr, evaluations)) or 'none'}. "
            "Score it with `cliptune eval`."
        )
    noted = _noted(evaluations[name], Path(folder) / RESULT, name)
    if noted is None:
        return None
    file, sha256 = noted
    path = Path(folder).expanduser() / file
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: {RESULT} says that the answers of {name!r} lie there, but there is no such file. Put it back, or "
            "score the run anew with `cliptune eval`."
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is not the file that {RESULT} was written with (their SHA-256 differ). Put the right one back, or "
            "score the run anew with `cliptune eval`."
        )
    return _parsed(content, path)


def _noted(evaluation: Any, result: Path, name: str) -> tuple[str, str] | None:
    """File and SHA-256 that a result says of an evaluation's answers; None if it says nothing of any."""
    try:
        noted = evaluation.get("predictions")
        return None if noted is None else (str(noted["file"]), str(noted["sha256"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{result} does not say where the answers of {name!r} lie ({type(error).__name__}: {error}). Score the run "
            "anew with `cliptune eval`."
        ) from error


def _parsed(content: bytes, path: Path) -> Predictions:
    try:
        # The header: its length in eight bytes, then JSON; reading from memory gives the arrays alone.
        length = int.from_bytes(content[:8], "little")
        about: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["about"])
        arrays = from_safetensors(content)
        if about["format"] != FORMAT:
            raise ValueError(f"it is of format {about['format']!r}, this version reads {FORMAT!r}")
        if len({arrays[key].shape for key in ("labels", "predicted", "probability")}) > 1 or arrays["labels"].ndim != 1:
            raise ValueError("its parts are not of one length")
        return Predictions(
            torch.from_numpy(arrays["labels"].astype(np.int64)),
            torch.from_numpy(arrays["predicted"].astype(np.int64)),
            torch.from_numpy(arrays["probability"].astype(np.float32)),
            about["split_sha256"],
            about["images_sha256"],
            about["classes_sha256"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no predictions ({error}). Score the run anew with `cliptune eval`.") from error


def _sha256(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(json.dumps(name) for name in names).encode()).hexdigest()


def _file_name(name: str) -> str:
    """The name itself if every file system takes it; else what is left of it, and a hash that tells it from others."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

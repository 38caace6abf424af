"""A run's calibration, kept beside its adapter and vouched for by its result."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.calibration import Calibration
from cliptune.files import atomic_write_bytes
from cliptune.reading import content_of, json_value, shown
from cliptune.runs.file_names import CALIBRATION, RESULT, WEIGHTS
from cliptune.runs.folder import held, read_result
from cliptune.runs.manifest import write_result

FORMAT = 1
KEY = "calibration"
"""Of a run's result, where the file and what it says stand."""


def write_calibration(folder: str | Path, calibration: Calibration) -> dict[str, Any]:
    """Keep a calibration beside a finished run's adapter, in place of an earlier one.

    Returns: what `result.json` says of it then.
    Raises: ValueError if the run is damaged; OSError with a sentence if it cannot be written.
    """
    folder = Path(folder).expanduser()
    said = {"format": FORMAT, "adapter_sha256": _of_adapter(folder), **vars(calibration)}
    content = (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()
    told = {name: value for name, value in vars(calibration).items() if name not in ("scores", "notes")}
    sha256 = hashlib.sha256(content).hexdigest()
    entry = {"file": CALIBRATION, "sha256": sha256, "images": len(calibration.scores), **told}
    with held(folder):
        result = read_result(folder) or {}
        result[KEY] = entry
        atomic_write_bytes(folder / CALIBRATION, content)
        write_result(folder, result)
    return entry


def read_calibration(folder: str | Path) -> Calibration | None:
    """The calibration of a run, or of an adapter that was shared.

    Returns: None if it has none.
    Raises: ValueError if the file is damaged, is not the one that its result was written with, or belongs to another
        adapter.
    """
    folder = Path(folder).expanduser()
    path = folder / CALIBRATION
    result = read_result(folder)
    noted = None if result is None else result.get(KEY)
    if result is not None and noted is None:  # one that was left by a run in whose place this one stands
        return None
    if not path.is_file():
        if noted is None:
            return None
        raise ValueError(f"{path}: {RESULT} says that there is a calibration, but there is none. {_ADVICE}")
    content = path.read_bytes()
    if noted is not None and (
        not isinstance(noted, dict) or hashlib.sha256(content).hexdigest() != noted.get("sha256")
    ):
        raise ValueError(f"{path} is not the file that {RESULT} was written with. {_ADVICE}")
    return _parsed(path, folder)


_ADVICE = "Put the right one back, or calibrate the run anew: cliptune calibrate RUN."


def _parsed(path: Path, folder: Path) -> Calibration:
    try:
        said = json_value(content_of(path))
        if said["format"] != FORMAT:
            raise ValueError(f"it is of format {shown(repr(said['format']))}, this version reads {FORMAT}")
        if said["adapter_sha256"] != _of_adapter(folder):
            raise ValueError("it belongs to another adapter")
        found = _checked(said)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no calibration of this adapter ({shown(str(error), 200)}). {_ADVICE}"
        ) from error
    return found


def _checked(said: Mapping[str, Any]) -> Calibration:
    """Raises: ValueError or TypeError for values that no calibration has."""
    scores = tuple(float(score) for score in said["scores"])
    if not 0 < float(said["temperature"]) < math.inf:
        raise ValueError("its temperature is no number above 0")
    if not scores or list(scores) != sorted(scores) or not 0 <= scores[0] <= scores[-1] <= 1:
        raise ValueError("its scores are not ascending numbers from 0 to 1")
    return Calibration(
        float(said["temperature"]),
        scores,
        int(said["parts"]),
        float(said["accuracy"]),
        float(said["ece"]),
        float(said["ece_before"]),
        tuple(str(note) for note in said["notes"]),
    )


def _of_adapter(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()

"""A run whose method is chosen first: the choice is kept beside the run, so that the same call goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliptune.choosing.candidates import Candidates
from cliptune.choosing.choice import choose
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset
from cliptune.files import atomic_write_json
from cliptune.reading import content_of, json_value
from cliptune.runs import RunSpec, read_result
from cliptune.runs.file_names import CONFIG_FILE
from cliptune.runs.folder import held
from cliptune.runs.jsonable import jsonable
from cliptune.runs.manifest import write_result

FILE = "choice.json"
KEY = "choice"
"""Of a run's result, where the choice is entered."""
FORMAT = 1


def settle(
    spec: RunSpec,
    folder: str | Path,
    clip: CLIP,
    data: Dataset,
    candidates: Candidates,
    *,
    seconds: float,
    classes_later: bool = False,
    overwrite: bool = False,
    **how: Any,
) -> tuple[RunSpec, dict[str, Any], bool]:
    """Choose a run's method, or find it chosen.

    Args:
        spec: the run; its method is only a name for the question, its options and training are those of all candidates.
        folder: of the run; `choice.json` in it keeps the choice.
        clip, data, candidates, seconds, classes_later: as in `choose`.
        overwrite: choose anew.
        how: further arguments of `choose`.
    Returns: the run with its method; what was chosen, as `Choice.summary` has it; and whether it was there before.
    Raises: ValueError if the folder holds a run that was not chosen, or the answer to another question.
    """
    path = Path(folder).expanduser() / FILE
    asked = _asked(spec, candidates, seconds, classes_later)
    kept = None if overwrite else _kept(path)
    if kept is not None and kept["asked"] != asked:
        raise ValueError(
            f"The folder {folder} holds a choice among other methods, on other data or with another time. Choose "
            "another folder, or pass overwrite=True (--overwrite) to choose anew."
        )
    if kept is None and not overwrite and (path.parent / CONFIG_FILE).exists():
        raise ValueError(
            f"The folder {folder} holds a run whose method was not chosen by this. Choose another folder, or pass "
            "overwrite=True (--overwrite) to replace it."
        )
    if kept is None:
        found = choose(
            clip,
            data,
            candidates,
            seed=spec.seed,
            seconds=seconds,
            classes_later=classes_later,
            options=spec.options,
            **{**spec.training, **how},
        )
        summary = jsonable(found.summary())
        atomic_write_json(path, {"format": FORMAT, "asked": asked, "choice": summary})
    else:
        summary = kept["choice"]
    chosen = replace(
        spec,
        method=summary["method"],
        options={**spec.options, **summary["options"]},
        training={**spec.training, **summary["training"], **_flags(summary)},
    )
    return chosen, summary, kept is not None


def enter_choice(folder: str | Path, summary: Mapping[str, Any]) -> None:
    """Put the choice into the result of the finished run, unless it is there."""
    with held(folder):
        result = read_result(folder) or {}
        if KEY not in result:
            result[KEY] = dict(summary)
            result["notes"] = [*result.get("notes", ()), *summary["notes"]]
            write_result(Path(folder).expanduser(), result)


def _flags(summary: Mapping[str, Any]) -> dict[str, Any]:
    if not summary["folds"]:
        return {}
    compared = sum(score["accuracy"] is not None for score in summary["tried"])
    return {"flags": {"method_chosen": {"among": compared, "folds": summary["folds"], "images": summary["images"]}}}


def _asked(spec: RunSpec, candidates: Candidates, seconds: float, classes_later: bool) -> str:
    """A hash of all that decides the choice, but for the machine's pace."""
    said = [spec.key, repr(candidates), seconds, classes_later]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _kept(path: Path) -> dict[str, Any] | None:
    """What the file holds; None if there is none. Raises: ValueError if it is damaged."""
    if not path.exists():
        return None
    advice = "Remove it to choose anew, or pass overwrite=True (--overwrite)."
    try:
        content: dict[str, Any] = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON ({error}). {advice}") from error
    choice = content.get("choice") if isinstance(content, dict) and content.get("format") == FORMAT else None
    kinds = {"method": str, "options": dict, "training": dict, "tried": list, "notes": list, "folds": int}
    if not isinstance(choice, dict) or not all(isinstance(choice.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{path} does not hold a choice as it is written there. {advice}")
    return content

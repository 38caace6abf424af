"""Which method suits some images: candidates tried by cross-validation, and baselines beside a finished run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.choosing.baselines import Beside, beside
    from cliptune.choosing.calibrating import HeldOut, calibrate, held_out_answers
    from cliptune.choosing.candidates import Candidate, Candidates, read_candidates, usual_candidates
    from cliptune.choosing.choice import Choice, Score, choose
    from cliptune.choosing.estimate import corrected
    from cliptune.choosing.folds import Folds, stratified_folds
    from cliptune.choosing.seconds import parse_seconds
    from cliptune.choosing.settled import enter_choice, settle

_HOMES = {
    "Beside": "cliptune.choosing.baselines",
    "Candidate": "cliptune.choosing.candidates",
    "Candidates": "cliptune.choosing.candidates",
    "Choice": "cliptune.choosing.choice",
    "Folds": "cliptune.choosing.folds",
    "HeldOut": "cliptune.choosing.calibrating",
    "Score": "cliptune.choosing.choice",
    "beside": "cliptune.choosing.baselines",
    "calibrate": "cliptune.choosing.calibrating",
    "choose": "cliptune.choosing.choice",
    "corrected": "cliptune.choosing.estimate",
    "enter_choice": "cliptune.choosing.settled",
    "held_out_answers": "cliptune.choosing.calibrating",
    "parse_seconds": "cliptune.choosing.seconds",
    "read_candidates": "cliptune.choosing.candidates",
    "settle": "cliptune.choosing.settled",
    "stratified_folds": "cliptune.choosing.folds",
    "usual_candidates": "cliptune.choosing.candidates",
}
__all__ = [
    "Beside",
    "Candidate",
    "Candidates",
    "Choice",
    "Folds",
    "HeldOut",
    "Score",
    "beside",
    "calibrate",
    "choose",
    "corrected",
    "enter_choice",
    "held_out_answers",
    "parse_seconds",
    "read_candidates",
    "settle",
    "stratified_folds",
    "usual_candidates",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What a page says of a run in words and numbers, before any picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliptune.results.statistics import Interval, proportion
from cliptune.results.tables import caveats
from cliptune.runs import read_config, read_result
from cliptune.runs.manifest import check_whole


@dataclass(frozen=True)
class Score:
    """One evaluation of a run, in %.

    Args:
        name: as in the result, such as "test" or "new".
        accuracy: with Wilson's 95 % interval over images.
        macro_f1, ece: as measured.
        images: how many.
    """

    name: str
    accuracy: Interval
    macro_f1: float
    ece: float
    images: int


@dataclass(frozen=True)
class Facts:
    """A finished run in words.

    Args:
        folder: as it was given.
        title: method and data.
        rows: (name, value) pairs: what was trained, on what, how it was selected, what it took.
        flags: what a reader of the numbers should know, a few words each; empty if they are plain.
        notes: what was skipped, replaced, cut or guessed, a sentence each.
        scores: its evaluations, those on its own data first.
    """

    folder: str
    title: str
    rows: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    scores: tuple[Score, ...]

    @property
    def answer(self) -> str:
        """The first evaluation in one sentence."""
        if not self.scores:
            return "This run was never scored."
        first = self.scores[0]
        low, high = first.accuracy.low, first.accuracy.high
        return (
            f"{first.accuracy.estimate:.1f} % of {first.images:,} images of the evaluation {first.name!r} are named "
            f"rightly; other images of the same kind would give {low:.1f} to {high:.1f} % (95 %)."
        )


def facts(folder: str | Path) -> Facts:
    """Read a finished run. Raises: ValueError or FileNotFoundError if it is damaged or not finished."""
    path = Path(folder).expanduser()
    check_whole(path)
    result, config = read_result(path), read_config(path)
    if result is None:
        raise FileNotFoundError(f"Run folder {folder}: the run is not finished, so there is nothing to report.")
    data = result.get("data") or {}
    rows = {
        "method": result.get("method"),
        "data": data.get("name"),
        "classes": data.get("classes"),
        "shots": (data.get("sampling") or {}).get("shots"),
        "training images": result.get("train_images"),
        "backbone": result.get("backbone"),
        "seed": result.get("seed"),
        "precision": config.get("precision"),
        "learned values": result.get("learnables"),
        "epoch kept": _selection((result.get("flags") or {}).get("selection")),
        **_spent(result.get("budget") or {}),
    }
    named = {**{"options": _options(config.get("options") or {})}, **rows}
    order = ["method", "options", *[name for name in rows if name != "method"]]
    shown = tuple((name, _shown(named[name])) for name in order if named[name] not in (None, ""))
    return Facts(
        str(folder),
        f"{result.get('method', 'run')} on {data.get('name', 'unknown data')}",
        shown,
        caveats(result.get("flags") or {}, data),
        tuple(result.get("notes") or ()),
        _scores(result.get("evaluations") or {}),
    )


def _scores(evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[Score, ...]:
    found = [
        Score(
            name,
            _in_percent(proportion(round(one["accuracy"] * one["n"] / 100), one["n"])),
            one["macro_f1"],
            one["ece"],
            one["n"],
        )
        for name, one in evaluations.items()
        if one.get("n")
    ]
    return tuple(sorted(found, key=lambda score: ("/" in score.name, score.name not in ("test", "base"))))


def _in_percent(share: Interval) -> Interval:
    return Interval(100 * share.estimate, 100 * share.low, 100 * share.high)


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in options.items())


def _selection(selection: str | None) -> str | None:
    words = {"last": "the last one", "val": "the best on validation images", "oracle": "the best on test images"}
    return words.get(selection, selection) if selection else None


def _spent(budget: Mapping[str, Any]) -> dict[str, str | None]:
    memory = (budget.get("peak_memory_bytes") or {}).get("resident")
    seconds = budget.get("seconds")
    return {
        "steps": None if budget.get("steps") is None else f"{budget['steps']:,}",
        "images seen": None if budget.get("images") is None else f"{budget['images']:,}",
        "time": None if seconds is None else f"{seconds:.1f} s",
        "peak memory": None if memory is None else f"{memory / 2**20:,.0f} MiB",
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return str(value)

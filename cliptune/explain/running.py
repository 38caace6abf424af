"""Asking a run: which explanations there are, and their answers as numbers, sentences, pictures and files."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.analysis.finding import Finding
from cliptune.explain.figures import as_svg, available, style
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.files import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "explain"


@dataclass(frozen=True)
class Explained:
    """What came of one question.

    Args:
        kind: that was asked.
        found: the answer; None if there is none.
        why_not: a sentence, where there is no answer.
        pictures: by name; empty without matplotlib.
        captions: what is seen in some of them, a sentence each; the others show what the answer's sentence says.
    """

    kind: Explanation[Any]
    found: Finding | None = None
    why_not: str | None = None
    pictures: Mapping[str, Figure] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return self.found.sentence() if self.found is not None else str(self.why_not)

    def to_json(self) -> dict[str, Any]:
        """Name, title, source, sentence and numbers, or why there are none."""
        about = {"name": self.kind.name, "title": self.kind.title, "source": self.kind.source}
        if self.found is None:
            return {**about, "why_not": self.why_not}
        return {**about, "sentence": self.sentence, "found": self.found.to_json()}


@cache
def kinds() -> dict[str, Explanation[Any]]:
    """Every explanation by name, in the order of a page: one class in each file of the folder `kinds`."""
    found: list[Explanation[Any]] = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent / "kinds")]):
        name = f"cliptune.explain.kinds.{module.name}"
        own = [m for m in vars(importlib.import_module(name)).values() if getattr(m, "__module__", "") == name]
        found += [kind() for kind in own if isinstance(kind, type) and issubclass(kind, Explanation)]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: (kind.place, kind.name))}


def chosen(names: Sequence[str] = ()) -> list[Explanation[Any]]:
    """The explanations of these names; all for none. Raises: ValueError for a name that there is not."""
    known = kinds()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"explain: there is no {unknown[0]!r}; there are {', '.join(known)}.")
    return [known[name] for name in names] if names else list(known.values())


def explain(
    run: OpenedRun | str | Path,
    what: Sequence[str] = (),
    *,
    draw: bool = True,
    told: Callable[[Explained], None] | None = None,
    **options: Any,
) -> dict[str, Explained]:
    """Ask a finished run.

    Args:
        run: opened, or its folder, which is then opened with `options` (see `OpenedRun`).
        what: names of explanations; all of them for none.
        draw: make pictures, if matplotlib is there.
        told: is given every answer as soon as it is there.
    Returns: by name, in the order asked for; where a run cannot be asked, the answer says why.
    Raises: ValueError for a name that there is not; what opening the run raises.
    """
    asked = chosen(what)
    opened = run if isinstance(run, OpenedRun) else OpenedRun.open(run, **options)
    answers = {}
    for kind in asked:
        answers[kind.name] = _ask(kind, opened, draw)
        if told is not None:
            told(answers[kind.name])
    return answers


def _ask(kind: Explanation[Any], run: OpenedRun, draw: bool) -> Explained:
    why_not = kind.why_not(run)
    if why_not is None:
        try:
            found = kind.explain(run)
        except (ValueError, FileNotFoundError) as error:
            why_not = str(error).removeprefix(f"{kind.name}: ")
        else:
            return Explained(kind, found, pictures=drawn(kind, found) if draw else {}, captions=kind.captions(found))
    return Explained(kind, why_not=why_not)


def drawn(kind: Explanation[Any], found: Finding) -> Mapping[str, Figure]:
    """The pictures of an answer, in our style; none without matplotlib."""
    if available() is not None:
        return {}
    with style():
        return kind.draw(found)


def write(answers: Mapping[str, Explained], folder: str | Path) -> list[Path]:
    """Write `NAME.json`, and `NAME.svg` or `NAME-PICTURE.svg`, each whole or not at all.

    Args:
        folder: made if it is not there; files of these names are replaced.
    Returns: what was written. Raises: OSError with a sentence if it cannot be written.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for name, answer in answers.items():
        files = {f"{name}.json": json.dumps(answer.to_json(), indent=1, ensure_ascii=False) + "\n"}
        for picture, made in answer.pictures.items():
            files[f"{name}-{picture}.svg" if len(answer.pictures) > 1 else f"{name}.svg"] = as_svg(made)
        for file, content in files.items():
            atomic_write_bytes(place / file, content.encode("utf-8"))
            written.append(place / file)
    return written

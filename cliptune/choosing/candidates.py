"""What is tried, in which order: `candidates.toml`, or a file like it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

USUAL = Path(__file__).with_name("candidates.toml")


@dataclass(frozen=True)
class Candidate:
    """A method with its settings.

    Args:
        method: a host with add-ons.
        options: of the method.
        training: arguments of `fit`.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method, with what is not its default."""
        said = ", ".join(f"{name}={value}" for name, value in {**self.options, **self.training}.items())
        return f"{self.method} ({said})" if said else self.method


@dataclass(frozen=True)
class Candidates:
    """What a choice is made among.

    Args:
        tried: in this order, cheap ones first: of equals the first is taken, and where time is short the last ones are
            left out.
        beside: baselines that take seconds.
        untried: taken where there is nothing to cross-validate on.
    """

    tried: tuple[Candidate, ...]
    beside: tuple[Candidate, ...]
    untried: Candidate


@cache
def usual_candidates() -> Candidates:
    """Those of the package."""
    return read_candidates(USUAL)


def read_candidates(path: str | Path) -> Candidates:
    """Candidates from a file.

    Raises: FileNotFoundError; ValueError if the file is not TOML, or lacks one of its three parts.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
        return Candidates(
            tuple(Candidate(**entry) for entry in content["tried"]),
            tuple(Candidate(**entry) for entry in content["beside"]),
            Candidate(**content["untried"]),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected [[tried]], [[beside]] and [untried], each with method and, if wanted, options and "
            f"training; got something else ({error})."
        ) from error

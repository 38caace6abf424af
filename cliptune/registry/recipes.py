"""The papers' settings, from the data file that stands beside each method's file; combined for add-ons.

`maple.toml` beside `maple.py` lists entries under the name of a protocol. An entry holds options, where they are from
and how certain they are, and what they are for: fewer shots, some data sets, a backbone, and for an add-on a host.
Entries that hold are laid over each other in the order of the file, so that a general one comes first.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cliptune.clip.weights.openai import OPENAI_CONFIGS, canonical_name
from cliptune.data.published.facts import published
from cliptune.data.published.places import recognise
from cliptune.reading import shown
from cliptune.registry.building import find, names
from cliptune.registry.plugins import is_add_on, parts_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROTOCOLS = ("few_shot", "base2new", "cross", "data_efficient")
# Published as one training: what is scored on other data sets is scored on shifted ones as well.
_SAME = {"domains": "cross"}
Certainty = Literal["code", "paper", "second-hand", "derived", "ours"]
CERTAINTY: dict[Certainty, str] = {
    "code": "read in the released code or its configuration files",
    "paper": "stated by the paper",
    "second-hand": "quoted from the paper by another source",
    "derived": "follows from published numbers",
    "ours": "our choice where no source says",
}


@dataclass(frozen=True)
class Entry:
    """Some settings of a method for a protocol.

    Args:
        method: whose file it stands in. protocol: one of `PROTOCOLS`.
        options: of the method; an entry for certain hosts may set the hosts' options too.
        source: arXiv id with section or table, released file. certainty: one of `CERTAINTY`.
        note: a sentence on what options cannot say; "" for none.
        shots_below: holds for fewer training images per class than this; 0 for any number.
        data, backbone, host: names it holds for; () for any.
    """

    method: str
    protocol: str
    options: Mapping[str, Any]
    source: str
    certainty: Certainty
    note: str = ""
    shots_below: int = 0
    data: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()
    host: tuple[str, ...] = ()

    def holds(self, host: str, shots: int | None, data: str | None, backbone: str | None) -> bool:
        """Whether it holds; what is None is not known, and matches entries for any."""
        few_enough = not self.shots_below or (shots is not None and shots < self.shots_below)
        pairs = ((self.data, data), (self.backbone, backbone), (self.host, host))
        return few_enough and all(not chosen or given in chosen for chosen, given in pairs)


@cache
def recipes_of(name: str) -> Mapping[str, tuple[Entry, ...]]:
    """Protocol → entries of the file of one method or add-on; empty if it has none.

    Raises: ValueError for an unknown name, or for a file with unknown keys, options or values of the wrong type.
    """
    path = data_file(name)
    return read_recipes(path.read_text(encoding="utf-8"), name) if path.is_file() else {}


def read_recipes(text: str, name: str) -> dict[str, tuple[Entry, ...]]:
    """The entries in the text of a data file. Args and errors as of `recipes_of`."""
    where = data_file(name).name
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected TOML, but {shown(str(error), 200)}. Correct the file.") from error
    content.pop("released", None)  # for `released_settings`
    content.pop("narrow", None)  # for `narrow`
    for protocol, entries in content.items():
        if protocol not in PROTOCOLS or not isinstance(entries, list):
            raise ValueError(
                f"{where}: expected [[{']], [['.join(PROTOCOLS)}]], [released] or [narrow], got {shown(protocol)!r}."
            )
    return {
        protocol: tuple(_entry(name, protocol, row, f"{where}, [[{protocol}]] {i}") for i, row in enumerate(rows, 1))
        for protocol, rows in content.items()
    }


def published_entries(
    method: str, protocol: str, shots: int | None = None, *, data: str | None = None, backbone: str | None = None
) -> list[Entry]:
    """The entries that make up the recipe of a method, with add-ons or without, in the order in which they are laid
    over each other: those of the host, then those of each add-on in the order in which the add-ons act.

    Args:
        protocol: "few_shot", "base2new", "cross" (also called "domains"), "data_efficient".
        shots: training images per class; None for all.
        data: name of a data set in any usual spelling, or a folder; entries for some data sets hold for these alone.
        backbone: what `load_clip` takes.
    Raises: ValueError if no recipe for that protocol is known, saying for which there is one. It is known if every part
        is spoken of: by its own file, or by an add-on's entry for this host.
    """
    protocol = _SAME.get(protocol, protocol)
    parts = sorted(parts_of(method), key=lambda part: getattr(find(part), "ORDER", 0))
    host = next((part for part in parts if not is_add_on(find(part))), "")
    known = [p for p in PROTOCOLS if not _silent(parts, _chosen(parts, p, host, None, None, None))]
    backbone = (canonical_name(backbone) or backbone) if backbone else None
    chosen = _chosen(parts, protocol, host, shots, _data_name(data), backbone)
    if silent := _silent(parts, chosen):
        of = f" of {' and '.join(silent)}" if len(parts) > 1 else ""
        raise ValueError(
            f"{method}: no published recipe{of} for {protocol!r} is known "
            f"(known: {', '.join(known) or 'none'}). Give the options yourself."
        )
    return chosen


def published_options(
    method: str, protocol: str, shots: int | None = None, *, data: str | None = None, backbone: str | None = None
) -> dict[str, Any]:
    """Options of the published recipe of a method for a protocol; arguments and errors as of `published_entries`.

    An option that two entries set has the later one's value: an add-on's word on its host goes before the host's own.
    """
    options: dict[str, Any] = {}
    for entry in published_entries(method, protocol, shots, data=data, backbone=backbone):
        options |= entry.options
    return options


def _chosen(
    parts: Sequence[str], protocol: str, host: str, shots: int | None, data: str | None, backbone: str | None
) -> list[Entry]:
    entries = [entry for part in parts for entry in recipes_of(part).get(protocol, ())]
    return [entry for entry in entries if entry.holds(host, shots, data, backbone)]


def _silent(parts: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """Parts that no entry speaks of."""
    spoken = {entry.method for entry in entries}
    options = {name for entry in entries for name in entry.options}
    return [part for part in parts if part not in spoken and not options & {f.name for f in fields(find(part).Config)}]


def _data_name(data: str | None) -> str | None:
    """The name under which files speak of a data set; of others, what was given."""
    if data is None:
        return None
    path = Path(data).expanduser()
    named = next((name for name, facts in published().items() if data.strip().lower() in facts.spellings), None)
    found = recognise(path) if named is None and path.is_dir() else None
    return named or (found.name if found is not None else data)


def data_file(name: str) -> Path:
    """Where the data file of a method or add-on lies, if it has one."""
    return Path(str(find(name).__file__)).with_suffix(".toml")


def _entry(name: str, protocol: str, values: Any, where: str) -> Entry:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a table of settings, got {shown(repr(values))}.")
    hints = get_type_hints(Entry)
    own = {key: hint for key, hint in hints.items() if key not in ("method", "protocol", "options")}
    options = values.get("options")
    if missing := [key for key in ("source", "certainty", "options") if key not in values]:
        raise ValueError(f"{where}: {' and '.join(missing)} must be given.")
    if not isinstance(options, dict):
        raise ValueError(f"{where}: options must be a table, got {shown(repr(options))}.")
    given = _checked({key: value for key, value in values.items() if key != "options"}, own, where)
    for key, known in (("data", published()), ("backbone", OPENAI_CONFIGS), ("host", names())):
        for one in given.get(key, ()):
            if one not in known:
                raise ValueError(f"{where}: {key} names {shown(one)!r}, which is not known.{_near(one, known)}")
    settable = get_type_hints(find(name).Config)
    scopes = [{**get_type_hints(find(host).Config), **settable} for host in given.get("host", ())] or [settable]
    checked = [_checked(options, scope, where) for scope in scopes]
    return Entry(name, protocol, checked[0], **given)


def _checked(values: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values as their types want them. Raises: ValueError for an unknown name or a value of another type."""
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{where}: there is no {shown(key)!r}.{_near(key, hints)}")
        if not _fits(value, hints[key]):
            raise ValueError(f"{where}: {key} must be {_spoken(hints[key])}, got {shown(repr(value))}.")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _fits(value: Any, hint: Any) -> bool:
    origin, members = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in members)
    if origin is Literal:
        return any(value == member and type(value) is type(member) for member in members)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(one, members[0]) for one in value)
    return type(value) in ((int, float) if hint is float else (hint,))


def _spoken(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f" Did you mean {' or '.join(near)}?" if near else f" Known: {', '.join(known)}."

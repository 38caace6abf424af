"""`cliptune recipes`: the papers' settings, where they are from and how certain they are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import say, show_json
from cliptune.cli.shared.output import table as show_table
from cliptune.results.formats import as_markdown

if TYPE_CHECKING:
    from cliptune.registry import Entry


def recipes(
    method: str | None = None,
    /,
    *,
    protocol: str | None = None,
    shots: int | None = None,
    data: str | None = None,
    backbone: str | None = None,
    markdown: Flag = False,
    json: Flag = False,
) -> None:
    """List the published recipes; with a method, their values; with a protocol as well, what holds in one case.

    Parameters
    ----------
    method
        A method or add-on; with --protocol also several joined by "+".
    protocol
        few_shot, base2new, cross or data_efficient: the options of one case, as `cliptune train --recipe` takes them.
    shots
        Of that case; 0 or left out: all images.
    data
        Of that case: a name of `cliptune data list`.
    backbone
        Of that case.
    markdown
        Print the list as a table in Markdown.
    json
        Print JSON.
    """
    from cliptune.registry import add_ons, names, recipes_of

    if protocol is not None:
        _case(method, protocol, shots or None, data, backbone, json)
        return
    if (shots, data, backbone) != (None, None, None):
        raise ValueError(
            "recipes: --shots, --data and --backbone choose within a recipe: name a method and --protocol."
        )
    if method is not None and "+" in method:
        raise ValueError(
            f"recipes: the recipe of {method} is put together from those of its parts, for one protocol. Say which: "
            f"cliptune recipes {method} --protocol base2new."
        )
    listed = [method] if method is not None else [*names(), *add_ons()]
    entries = [entry for name in listed for group in recipes_of(name).values() for entry in group]
    if json:
        show_json([asdict(entry) for entry in entries])
    elif method is not None and not entries:
        say(f"No published recipe of {method} is known. `cliptune methods {method}` shows its defaults.")
    elif markdown:
        say(as_markdown(_HEADERS, (_row(entry) for entry in entries), left=len(_HEADERS)))
    elif method is not None:
        _values(entries)
    else:
        show_table(_HEADERS, (_row(entry) for entry in entries), left=len(_HEADERS))
        say("`cliptune recipes NAME` shows the values, `cliptune train --recipe PROTOCOL` uses them.")


_HEADERS = ("method", "protocol", "shots", "only for", "certainty", "source")


def _limits(entry: Entry) -> tuple[str, str]:
    """What an entry is for, in words: numbers of shots; data sets, backbones and hosts. "" for any."""
    shots = {0: "", 2: "1"}.get(entry.shots_below, f"1 to {entry.shots_below - 1}")
    return shots, ", ".join([*entry.data, *entry.backbone, *(f"with {host}" for host in entry.host)])


def _row(entry: Entry) -> list[str]:
    shots, only = _limits(entry)
    return [entry.method, entry.protocol, shots or "all", only or "all", entry.certainty, entry.source]


def _values(entries: Sequence[Entry]) -> None:
    from cliptune.registry.recipes import CERTAINTY

    for entry in entries:
        shots, only = _limits(entry)
        limits = "; ".join(part for part in (only, shots and f"shots: {shots}") if part)
        say(
            f"{entry.protocol}{f' ({limits})' if limits else ''}: {_written(entry.options)}",
            f"    {entry.source} [{entry.certainty}]",
            *([f"    {entry.note}"] if entry.note else []),
        )
    kinds = {entry.certainty: CERTAINTY[entry.certainty] for entry in entries}
    say("", "Where several hold, the last one counts.", *(f"{kind}: {meaning}" for kind, meaning in kinds.items()))


def _case(
    method: str | None, protocol: str, shots: int | None, data: str | None, backbone: str | None, json: bool
) -> None:
    from cliptune.registry import published_entries, published_options

    if method is None:
        raise ValueError("recipes: --protocol chooses among a method's recipes: name the method, as in `recipes coop`.")
    options = published_options(method, protocol, shots, data=data, backbone=backbone)
    if json:
        show_json(options)
        return
    say(_written(options))
    for entry in published_entries(method, protocol, shots, data=data, backbone=backbone):
        say(f"    {entry.method}: {entry.source} [{entry.certainty}]", *([f"    {entry.note}"] if entry.note else []))


def _written(options: Mapping[str, Any]) -> str:
    """Options as one types them after `--set`; "nothing to set" for none."""
    return "  ".join(f"{name}={shlex.quote(spelled(value))}" for name, value in options.items()) or "nothing to set"


def spelled(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

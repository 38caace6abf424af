"""`cliptune methods`: what there is, where it enters, how much it learns, which paper."""

from __future__ import annotations

import json as json_format
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from cliptune.cli.shared.options import Assignments, Flag
from cliptune.cli.shared.output import say, show_json
from cliptune.cli.shared.output import table as show_table

if TYPE_CHECKING:
    from cliptune.exporting import Verdict
    from cliptune.registry import Cell, MethodListing


FAILED = 1

app = App(
    name="methods",
    help="What methods there are and what options they have; and whether yours keeps to what all do.",
    help_format="plaintext",
    sort_key=12,
)


def check(method: str, /, *, set: Assignments = None, backbone: str = "mini") -> int:
    """Run the common checks on a method; the exit code is 1 if one of them fails.

    They are: the frozen CLIP stays as it is, every learnable gets a gradient, saving and loading lose nothing, new
    classes are answered or refused, bfloat16 works, and the number of learnables is the declared one.

    Parameters
    ----------
    method
        The path of a file, a name, or several joined by "+"; an add-on alone is checked on coop.
    set
        An option of the method, name=value; may be repeated.
    backbone
        To check with.
    """
    from cliptune.cli.shared.settings import resolve
    from cliptune.clip.weights.load import load_clip
    from cliptune.registry.checks import on_a_host, run_checks
    from cliptune.registry.plugins import label

    whole = on_a_host(method)
    options = resolve(whole, assignments=set or ()).options
    clip = load_clip(backbone)
    say(f"{label(whole)} on {clip.name}:")
    failed = 0
    for finding in run_checks(whole, clip, options):
        say(f"{'✓' if finding.holds else '✗'} {finding.name}: {finding.sentence}")
        failed += not finding.holds
    return FAILED if failed else 0


def exports(
    methods: list[str] | None = None,
    /,
    *,
    to: list[Literal["onnx", "torch-export", "folded"]] | None = None,
    backbone: str = "mini",
    format: Literal["text", "md", "json"] = "text",
) -> int:
    """Try which methods can be exported to what: ✓ answers as the adapter does, ✗ does not, with the reason below.

    Each is trained for a step on drawings, exported in float32 and compared on them; the exit code is 1 if an export
    answers otherwise than its adapter.

    Parameters
    ----------
    methods
        Names, with add-ons, or paths of files that hold one; all methods, and the add-ons on coop, if left out.
    to
        Targets; all if left out.
    backbone
        To try with.
    format
        How the table is shown.
    """
    from cliptune.clip.weights.load import load_clip
    from cliptune.exporting import parity
    from cliptune.registry import add_ons, names
    from cliptune.registry.checks import on_a_host
    from cliptune.registry.plugins import label

    clip = load_clip(backbone)
    targets = to or ["onnx", "torch-export", "folded"]
    asked = methods or [*names(), *add_ons()]
    rows = {label(whole): parity(whole, clip, targets) for whole in map(on_a_host, asked)}
    verdicts = [verdict for row in rows.values() for verdict in row]
    if format == "json":
        show_json([{**asdict(verdict), "mark": verdict.mark} for verdict in verdicts])
    else:
        reasons = {verdict.sentence: place for place, verdict in enumerate(verdicts) if verdict.sentence}
        number = {sentence: i for i, sentence in enumerate(sorted(reasons, key=reasons.__getitem__), 1)}
        cells = [[name, *(_cell(verdict, number) for verdict in row)] for name, row in rows.items()]
        _show_cells(["method", *targets], cells, format == "md")
        say(*(f"{i}. {sentence}" for sentence, i in number.items()))
    return FAILED if any(verdict.difference is not None and not verdict.holds for verdict in verdicts) else 0


def _cell(verdict: Verdict, number: dict[str, int]) -> str:
    if verdict.sentence:
        return f"{verdict.mark} {number[verdict.sentence]}"
    return f"{verdict.mark} {verdict.difference:.0e}"


def _show_cells(headers: list[str], rows: list[list[str]], markdown: bool) -> None:
    if not markdown:
        show_table(headers, rows, left=len(headers))
        return
    lines = [headers, ["---"] * len(headers), *rows]
    say(*("| " + " | ".join(cells) + " |" for cells in lines), "")


def methods(name: str | None = None, /, *, table: Flag = False, towers: Flag = False, json: Flag = False) -> None:
    """List the methods; with a name, its options.

    Parameters
    ----------
    name
        A method or add-on, or the path of a file that holds one.
    table
        Which add-ons work on which methods, as their constructors say: ✓ works, (✓) works with the restriction of its
        note, ✗ does not. With a name, its row or column alone.
    towers
        With --table: which methods work on which kinds of image towers, instead.
    json
        Print JSON.
    """
    if towers and not table:
        raise ValueError("--towers chooses the columns of --table. Add --table.")
    if towers:
        _on_towers(name, json)
        return
    if table:
        _compatibility(name, json)
        return
    from cliptune.registry import list_method, list_methods
    from cliptune.registry.listing import COUNTED_AT

    listed = list_methods() if name is None else [list_method(name)]
    if json:
        shown: list[dict[str, Any]] = [asdict(one) for one in listed]
        show_json(shown if name is None else shown[0])
        return
    if name is not None:
        _one(listed[0], COUNTED_AT)
        return
    rows = [[m.name, _brief(m.summary), _paper(m), m.enters, _learnables(m)] for m in listed]
    show_table(["method", "what it is", "paper", "where it enters", f"learnables at {COUNTED_AT}"], rows, left=4)
    say(
        '`cliptune methods NAME` shows a method\'s options; add-ons are joined to a method by "+"; '
        "`cliptune methods --table` says which join which."
    )


def _brief(summary: str) -> str:
    """Without the paper, which has a column of its own."""
    return re.sub(r"\s*\(arXiv:[^)]*\)$", "", summary).rstrip(".")


def _compatibility(name: str | None, json: bool) -> None:
    """Hosts by add-ons, with what restricts or forbids a cell below."""
    from cliptune.registry import add_ons, compatibility, names
    from cliptune.registry.building import find
    from cliptune.registry.plugins import is_add_on, label

    joins = name is not None and is_add_on(find(name))
    outside = [name] if name is not None and name not in (*names(), *add_ons()) else []
    about = None if name is None else label(name)
    cells = [cell for cell in compatibility(others=outside) if cell.add_ons and about in (None, *_parts(cell))]
    if json:
        show_json([{"method": cell.method, **asdict(cell), "mark": cell.mark} for cell in cells])
        return
    columns = [str(about)] if joins else list(add_ons())
    notes: dict[str, int] = {}
    rows: dict[str, list[str]] = {}
    for cell in cells:
        number = f" {notes.setdefault(cell.note, len(notes) + 1)}" if cell.note else ""
        rows.setdefault(label(cell.host), []).append(cell.mark + number)
    show_table(
        ["method", *(f"+{column}" for column in columns)], [[host, *marks] for host, marks in rows.items()], left=9
    )
    say(
        "✓ works   (✓) works, with a restriction   ✗ does not",
        *(f"{number:>2}  {note}" for note, number in notes.items()),
        "`cliptune methods --table --towers` says which method works on which kind of image tower.",
    )


def _on_towers(name: str | None, json: bool) -> None:
    """Methods by kinds of image towers, with why a method has no place in one below."""
    from cliptune.registry.plugins import label
    from cliptune.registry.towers import TOWERS, on_towers

    cells = on_towers(None if name is None else [name])
    if json:
        show_json([{**asdict(cell), "mark": cell.mark} for cell in cells])
        return
    kinds = {tower.name: tower.kind or "ModifiedResNet" for tower in TOWERS}
    notes: dict[str, list[str]] = {}  # sentences, but for the kind of tower that each speaks of, with all those kinds
    rows: dict[str, list[str]] = {}
    for cell in cells:
        kind, reason = kinds[cell.tower], cell.note.removeprefix(f"{cell.method}: ").removeprefix("bias: ")
        said = reason.replace(kind, "{}", 1)
        if said and kind not in notes.setdefault(said, []):
            notes[said].append(kind)
        number = f" {list(notes).index(said) + 1}" if said else ""
        rows.setdefault(label(cell.method), []).append(cell.mark + number)
    columns = [tower.name for tower in TOWERS]
    show_table(["method", *columns], [[method, *marks] for method, marks in rows.items()], left=len(columns) + 1)
    sentences = (said.format(" or ".join(of)) if "{}" in said else said for said, of in notes.items())
    say("✓ works   ✗ does not", *(f"{number:>2}  {sentence}" for number, sentence in enumerate(sentences, 1)))


def _parts(cell: Cell) -> list[str]:
    from cliptune.registry.plugins import label

    return [label(part) for part in (cell.host, *cell.add_ons)]


def _paper(method: MethodListing) -> str:
    return f"arXiv:{method.paper}" if method.paper else "without arXiv id"


def _one(method: MethodListing, counted_at: str) -> None:
    say(
        method.summary,
        "",
        f"Paper      {_paper(method)}",
        f"Enters     {method.enters}",
        f"Learnables {_learnables(method)} at the sizes of {counted_at}, with the defaults below",
    )
    if method.recipes:
        say(f"Recipes    {', '.join(method.recipes)}: `cliptune recipes {method.name}` shows them")
    rows = [
        [option["name"], option["type"], json_format.dumps(option["default"]), option["meaning"]]
        for option in method.options
    ]
    show_table(["option (--set)", "type", "default", "meaning"], rows, left=4)


def _learnables(method: MethodListing) -> str:
    if method.learnables is None:
        return "depends on the host"
    if not method.per_class:
        return f"{method.learnables:,}"
    fixed = f"{method.learnables:,} + " if method.learnables else ""
    return f"{fixed}{method.per_class:,} per class"

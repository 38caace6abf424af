"""How results look: rich tables on a terminal, the same without colours and at full width elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_ELSEWHERE = 160


def console() -> Console:
    """Standard output; made anew for each use, since it may be redirected in between."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_ELSEWHERE
    return Console(width=width, markup=False, highlight=False)


def speaks() -> bool:
    """Whether this process shows anything: of those that `torchrun` started, only the first does."""
    return os.environ.get("RANK", "0") == "0"


def say(*lines: str) -> None:
    """Lines on standard output, never broken or cut."""
    if speaks():
        for line in lines:
            print(line, flush=True)


def remark(line: str) -> None:
    """A line beside the result, on standard error."""
    if speaks():
        print(line, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None, left: int = 1) -> None:
    """A table on standard output; the first `left` columns are text, the others numbers."""
    from rich import box
    from rich.table import Table

    if not speaks():
        return
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for i, header in enumerate(headers):
        shown.add_column(header, justify="left" if i < left else "right", overflow="fold", no_wrap=i == 0)
    for row in rows:
        shown.add_row(*row)
    console().print(shown)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 image, 1,200 images."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"

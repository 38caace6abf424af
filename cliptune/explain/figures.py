"""How figures look: text stays text, colours that people without colour vision can tell apart, light and dark pages.

Backgrounds are transparent and lines, ticks and words are in one middle grey that is readable on white and on black.
Whatever a colour says, a marker, a line style or a word says as well. All are as wide as a phone shows without making
their words too small to read; parts stand below each other, and a page lays figures side by side where it is wider.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cliptune.analysis.trade_off import Curve

# Okabe and Ito's palette without yellow and black, which vanish on white and on dark pages.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
WIDTH = 4.2
"""Inches."""
SMALL = 8
"""Points, of words beside the axes' own."""
SEQUENTIAL, DIVERGING = "cividis", "PuOr"
INK = "#7a7f87"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cliptune",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def available() -> str | None:
    """Why no figure can be drawn here, or None."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "Pictures need matplotlib, which is not installed: pip install 'cliptune[report]'."
    return None


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in our style; nothing of matplotlib's settings stays changed."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def figure(rows: int = 1, columns: int = 1, *, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure of its own, not pyplot's, with its axes row by row; `height` in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH, height), layout="constrained")
    axes: Any = made.subplots(rows, columns, squeeze=False)
    return made, list(axes.flat)


def legend(axes: Axes, title: str | None = None, columns: int = 2) -> None:
    """What is in the axes, named below the figure, where it hides nothing."""
    handles, names = axes.get_legend_handles_labels()
    made: Any = axes.figure
    made.legend(handles, names, loc="outside lower left", title=title, ncols=columns, fontsize=SMALL)


def heat(axes: Axes, values: Any, *, rows: Sequence[str], columns: Sequence[str], label: str, **image: Any) -> None:
    """A matrix as a heat map with names; its numbers are written into the cells where there is room for them."""
    shown: Any = axes.imshow(values, aspect="auto", **{"cmap": SEQUENTIAL, **image})
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=SMALL)
    axes.set_yticks(range(len(rows)), rows, fontsize=SMALL)
    bar: Any = axes.figure.colorbar(shown, ax=axes, label=label, fraction=0.04)
    bar.outline.set_edgecolor(INK)
    if len(rows) * len(columns) <= 100 and len(columns) <= 8:
        for r, row in enumerate(values):
            for c, value in enumerate(row):
                red, green, blue, _ = shown.cmap(shown.norm(float(value)))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                known = math.isfinite(float(value))  # the others have no colour, so that the page shines through
                ink = INK if not known else "white" if dark else "black"
                text = f"{float(value):.2g}" if known else "–"
                axes.text(c, r, text, ha="center", va="center", color=ink, fontsize=7)


def gallery(pictures: Sequence[Any], words: Sequence[str], *, columns: int = 3) -> Figure:
    """Small pictures (h, w, 3) in [0, 1] in rows, with a few words above each; one empty place without any."""
    rows = max(1, -(-len(pictures) // columns))
    made, axes = figure(rows, columns, height=(WIDTH / columns + 0.35) * rows)
    for axis in axes:
        axis.set_axis_off()
    for axis, picture, said in zip(axes, pictures, words, strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title("\n".join(textwrap.wrap(said, 60 // columns)), fontsize=7)
    return made


def look(i: int) -> dict[str, Any]:
    """Colour, marker and style of the i-th curve."""
    shown = {"color": COLOURS, "marker": MARKERS, "linestyle": LINES}
    return {"markersize": 4, **{name: values[i % len(values)] for name, values in shown.items()}}


def by_block(axes: Axes, curves: Mapping[str, Any]) -> None:
    """A line for the mean of a block's heads and a dot for each of them; values (L, heads), or (L,) where none."""
    from matplotlib.ticker import MaxNLocator

    for i, (name, values) in enumerate(curves.items()):
        colour, heads = COLOURS[i % len(COLOURS)], values if values.ndim == 2 else values[:, None]
        axes.plot(range(len(heads)), heads.mean(1), color=colour, linestyle=LINES[i % len(LINES)], label=name)
        for head in heads.T:
            axes.plot(range(len(heads)), head, MARKERS[i % len(MARKERS)], color=colour, markersize=2, alpha=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("block")


def over_values(curves: Sequence[Curve]) -> Figure:
    """Accuracies over the values of one setting each: lines for means, dots for runs."""
    made, axes = figure(len(curves), 1, height=2.8 * len(curves))
    for axis, found in zip(axes, curves, strict=True):
        places = range(len(found.values))
        for i, (name, runs) in enumerate(found.scores.items()):
            axis.plot(places, found.mean(name).tolist(), label=name, **look(i))
            for at, of in zip(places, runs, strict=True):
                axis.plot([at] * len(of), of, ".", color=look(i)["color"], markersize=3, alpha=0.5)
        axis.set_xticks(places, [f"{value:g}" if isinstance(value, float) else str(value) for value in found.values])
        axis.set_xlabel(found.setting)
        axis.set_ylabel("accuracy (%), dots: seeds")
        axis.legend(fontsize=SMALL)
    return made


def as_svg(made: Figure) -> str:
    """The figure as an `<svg>` element that scales with its page; equal figures give equal text."""
    stream = io.StringIO()
    with style():
        made.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]


def with_own_ids(svg: str, prefix: str) -> str:
    """The element with a prefix before its ids, so that several can stand in one page."""
    svg = re.sub(r'(?<![\w-])id="', f'id="{prefix}-', svg)
    svg = svg.replace('href="#', f'href="#{prefix}-')  # not the "#d55e00" of a colour
    return svg.replace("url(#", f"url(#{prefix}-")

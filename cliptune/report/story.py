"""A page that tells a comparison of methods as one story: the task in pictures, a table, a sentence for each row.

It needs nothing but the standard library, so that it is there without the extra `report`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from cliptune.files import atomic_write_bytes
from cliptune.version import __version__

_SIDE = 128
"""Pixels at least of a picture on the page; smaller ones are enlarged in whole steps, without smoothing."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c636b; --line: #d5d9de; --page: #fff; --good: #00664b;
  --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a4abb3; --line: #3a4047; --page: #16191c;
  --good: #4cc9a0; --bad: #ff9d5c; } }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
p { max-width: 46rem; } .soft { color: var(--soft); font-size: .875rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 9rem; }
figure img { width: 8rem; height: 8rem; image-rendering: pixelated; display: block; } figcaption { font-size: .8rem; }
.right { color: var(--good); } .wrong { color: var(--bad); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:nth-child(-n+2), td:nth-child(-n+2), td:last-child, th:last-child { text-align: left; }
td:last-child { min-width: 18rem; }
code { font-size: .85rem; overflow-wrap: anywhere; }
""".strip()


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Args:
        cells: as many as there are headers, but for the last one.
        why: what the row is for, a sentence.
    """

    cells: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Shown:
    """A picture of the task.

    Args:
        picture: of any size.
        name: of its class.
        answers: who named it, and how.
    """

    picture: Image.Image
    name: str
    answers: tuple[tuple[str, str], ...] = ()


def write_story(
    out: str | Path,
    *,
    title: str,
    text: Sequence[str],
    pictures: Sequence[tuple[str, Sequence[Shown]]],
    headers: Sequence[str],
    lines: Sequence[Line],
    after: Sequence[str] = (),
    links: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the page, in place of one that is there.

    Args:
        out: an .html file.
        title: of the page.
        text: paragraphs before everything else.
        pictures: a heading and pictures, several times.
        headers: of the table; the last stands over the sentences.
        lines: rows of the table.
        after: paragraphs below the table.
        links: address and words.
    Returns: the page's path.
    """
    page = Path(out).expanduser()
    body = [f"<h1>{escape(title)}</h1>", *_paragraphs(text)]
    for heading, shown in pictures:
        body += [f"<h2>{escape(heading)}</h2>", f'<div class="pictures">{"".join(map(_figure, shown))}</div>']
    body += ["<h2>Numbers</h2>", _table(headers, lines), *_paragraphs(after)]
    body += [f'<p><a href="{escape(address)}">{escape(words)}</a></p>' for address, words in links]
    body.append(f'<p class="soft">Made by cliptune {escape(__version__)}.</p>')
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(page, _whole(title, body).encode())
    return page


def _whole(title: str, body: Sequence[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
            f"<style>\n{_STYLE}\n</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def _paragraphs(text: Sequence[str]) -> list[str]:
    return [f"<p>{escape(one)}</p>" for one in text]


def _figure(shown: Shown) -> str:
    buffer = io.BytesIO()
    picture = shown.picture.convert("RGB")
    times = max(1, -(-_SIDE // max(picture.size)))
    picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).save(buffer, format="PNG")
    source = base64.b64encode(buffer.getvalue()).decode("ascii")
    said = "".join(
        f'<br>{escape(who)}: <span class="{"right" if answer == shown.name else "wrong"}">{escape(answer)} '
        f"{'✓' if answer == shown.name else '✗'}</span>"
        for who, answer in shown.answers
    )
    return (
        f'<figure><img alt="A picture of the class {escape(shown.name)}" src="data:image/png;base64,{source}">'
        f"<figcaption><strong>{escape(shown.name)}</strong>{said}</figcaption></figure>"
    )


def _table(headers: Sequence[str], lines: Sequence[Line]) -> str:
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in headers)
    rows = [
        f'<tr><th scope="row">{escape(line.cells[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in (*line.cells[1:], line.why))
        + "</tr>"
        for line in lines
    ]
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + ("\n</tbody></table></div>")
    )

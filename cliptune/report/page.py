"""One page of one or several finished runs: the answer first, evidence below."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.explain import Explained, OpenedRun, explain
from cliptune.explain.figures import as_svg, available, with_own_ids
from cliptune.explain.running import chosen
from cliptune.files import atomic_write_bytes
from cliptune.report.facts import Facts, facts
from cliptune.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 5.0
"""MB that a page has at most by default."""
_MIB = 1_000_000


@dataclass
class Picture:
    """A figure in the page.

    Args:
        markup: `<svg>` or `<img>`.
        alt: what is seen, for those who do not see it.
        caption: what is seen in it, where its section does not say so.
    """

    markup: str
    alt: str
    caption: str = ""


@dataclass
class Section:
    """What one run answers to one question.

    Args:
        run: title of the run.
        sentence: what was found, as far as no caption of its pictures says it.
        command: that makes it alone.
        pictures: of it.
    """

    run: str
    sentence: str
    command: str
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Chapter:
    """One question and the answers of all runs that can be asked.

    Args:
        name, title, source: of the explanation.
        sections: one for each run that answers.
    """

    name: str
    title: str
    source: str
    sections: list[Section]


def report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    what: Sequence[str] = (),
    images: int = 400,
    root: str | None = None,
    device: str = "cpu",
    largest: float = LARGEST,
    overwrite: bool = False,
    opened: Callable[[str | Path], OpenedRun] | None = None,
    told: Callable[[str, Explained], None] | None = None,
) -> Path:
    """Write one page that needs nothing but itself: numbers with intervals, then every explanation that fits.

    Args:
        runs: folders of finished runs; several are shown side by side.
        out: the page, an .html file.
        what: names of explanations; all that fit for none.
        images: how many images of a split an explanation looks at, at most.
        root: folder that holds the data sets, if it was moved.
        device: that explains.
        largest: MB; pictures are left out, the largest first, until the page is no larger, and it says which.
        overwrite: replace a page that is there.
        opened: opens a run's folder; `OpenedRun.open` by default.
        told: is given each run's folder and answer as soon as it is there.
    Returns: the page's path.
    Raises: FileExistsError if the page exists; ImportError without matplotlib or jinja2; ValueError or
        FileNotFoundError for a run that is damaged or not finished. Nothing is written then.
    """
    page = Path(out).expanduser()
    _check(page, runs, overwrite)
    chosen(what)
    read = [facts(folder) for folder in runs]
    titles = _titles(read)
    of_runs = []
    for folder in runs:
        run = opened(folder) if opened is not None else None
        if run is None:
            run = OpenedRun.open(folder, device=device, images=images, root=root)
        say = None if told is None else (lambda answer, folder=str(folder): told(folder, answer))
        of_runs.append(explain(run, what, told=say))
    chapters = _chapters(read, titles, of_runs)
    silent = [
        (title, answer.kind.title, answer.sentence)
        for title, answers in zip(titles, of_runs, strict=True)
        for answer in answers.values()
        if answer.found is None
    ]
    content = _fitting(read, titles, chapters, silent, largest)
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(page, content.encode("utf-8"))
    return page


def _check(page: Path, runs: Sequence[str | Path], overwrite: bool) -> None:
    if not runs:
        raise ValueError("report: no run was given. Name at least one folder of a finished run.")
    if len({Path(run).expanduser().resolve() for run in runs}) < len(runs):
        raise ValueError("report: a run is given twice. Name each once.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"report: the page must be an .html file, got {page}.")
    if page.exists() and not overwrite:
        raise FileExistsError(
            f"report: {page} exists. Choose another name, or say that it may be replaced: --overwrite."
        )
    missing = available()
    if missing is None:
        try:
            import jinja2  # noqa: F401
        except ImportError:
            missing = "A report needs jinja2, which is not installed: pip install 'cliptune[report]'."
    if missing is not None:
        raise ImportError(missing)


def _titles(read: Sequence[Facts]) -> list[str]:
    """A short title for each run, different for all."""
    titles = [one.title for one in read]
    return [
        title if titles.count(title) == 1 else f"{title} ({one.folder})"
        for title, one in zip(titles, read, strict=True)
    ]


def _chapters(read: Sequence[Facts], titles: Sequence[str], of_runs: Sequence[dict[str, Explained]]) -> list[Chapter]:
    chapters = []
    for name, first in of_runs[0].items():
        sections = []
        for i, (one, title, answers) in enumerate(zip(read, titles, of_runs, strict=True)):
            answer = answers[name]
            if answer.found is not None:
                pictures = [
                    _picture(answer, picture, _markup(made, f"{name}-{i}-{k}"))
                    for k, (picture, made) in enumerate(answer.pictures.items())
                ]
                command = f"cliptune explain {shlex.quote(one.folder)} {name}"
                sections.append(Section(title, _without(answer.sentence, pictures), command, pictures))
        if sections:
            chapters.append(Chapter(name, first.kind.title, first.kind.source, sections))
    return chapters


def _picture(answer: Explained, name: str, markup: str) -> Picture:
    caption = answer.captions.get(name, "")
    return Picture(markup, f"{name}: {caption or answer.sentence}", caption)


def _without(sentence: str, pictures: Iterable[Picture]) -> str:
    """The sentence without what stands below a picture, so that nothing is said twice."""
    for picture in pictures:
        sentence = sentence.replace(picture.caption, " ") if picture.caption else sentence
    return " ".join(sentence.split())


def _markup(made: Figure, prefix: str) -> str:
    """SVG where the figure is drawn, PNG where it is mostly pixels and that is smaller."""
    svg = with_own_ids(as_svg(made), prefix)
    if "<image" not in svg:
        return svg
    stream = io.BytesIO()
    made.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    png = base64.b64encode(stream.getvalue()).decode()
    return svg if len(svg) <= 2 * len(png) else f'<img src="data:image/png;base64,{png}" alt="">'


def _fitting(
    read: Sequence[Facts],
    titles: Sequence[str],
    chapters: list[Chapter],
    silent: Sequence[tuple[str, str, str]],
    largest: float,
) -> str:
    """The page; pictures are left out, the largest first, until it is small enough."""
    left_out: list[tuple[str, str]] = []
    content = _rendered(read, titles, chapters, silent, left_out)
    while len(content.encode()) > largest * _MIB:
        pictures = [(s, p) for c in chapters for s in c.sections for p in s.pictures]
        if not pictures:
            raise ValueError(
                f"report: the page has {len(content.encode()) / _MIB:.1f} MB without any picture, more than the "
                f"{largest:g} MB asked for. Allow more, or name fewer runs."
            )
        section, picture = max(pictures, key=lambda pair: len(pair[1].markup))
        section.pictures.remove(picture)
        left_out.append((section.run, section.command))
        content = _rendered(read, titles, chapters, silent, left_out)
    return content


def _rendered(
    read: Sequence[Facts],
    titles: Sequence[str],
    chapters: Sequence[Chapter],
    silent: Iterable[tuple[str, str, str]],
    left_out: Sequence[tuple[str, str]],
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("cliptune.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template("page.html.jinja").render(
        runs=[replace(one, title=title) for one, title in zip(read, titles, strict=True)],
        chapters=chapters,
        silent=list(silent),
        left_out=left_out,
        version=__version__,
        command=f"cliptune report {' '.join(shlex.quote(one.folder) for one in read)} --out page.html",
    )

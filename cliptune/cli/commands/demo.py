"""`cliptune demo`: the embedded CLIP on embedded data, from no training to a stack of methods, told as one story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.inputs import tell_notes
from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import percent, remark, say, table
from cliptune.cli.shared.settings import own_hints

if TYPE_CHECKING:
    from cliptune.data import Dataset
    from cliptune.report.story import Shown
    from cliptune.training.progress import Progress

SUITE, BADGES = "backdrops", "badges"
SHOTS = 16
STEPS = 200
QUICK = {"epochs": 2, "dpc_epochs": 2}
LABEL = "Tinyworld is a laboratory, not a benchmark"
# What learns words alone sees eight augmented views of each picture again and again, whose features are kept.
VIEWS = {"views": 8}
SMALL_BATCH = {"batch_size": 4}


@dataclass(frozen=True)
class Row:
    """A method of the story.

    Args:
        method: with its add-ons.
        why: what it is for, a sentence.
        options: of the method. training: of `fit`, beside the steps.
        suite: what it is trained on.
    """

    method: str
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    suite: str = SUITE

    @property
    def place(self) -> Path:
        """Of the run, below the demo's folder."""
        return Path(self.suite, self.method)


FROZEN, WORDS, STACK, FRAME = "zeroshot", "coop", "maple+dpc", "dvp_cse"
STORY = (
    Row(FROZEN, "The frozen CLIP and a sentence about each class: no picture of yours is needed, and none helps."),
    Row("gda", "The best head that is not trained: statistics of the pictures' features, solved for in a moment."),
    Row(WORDS, "Four learned words before the class name: two kilobytes, and any new name can follow them.", {}, VIEWS),
    Row(
        "coop+dpc",
        "Half of the steps for the words, half for a copy trained against look-alikes, which answers for base classes.",
        {"dpc_lr": 2e-4, "dpc_epochs": 50, "dpc_base_weight": 1.0},
        VIEWS,
    ),
    Row("maple", "Learned tokens in both towers, tied together: more can change, the pictures' features too."),
    Row(
        STACK,
        "Methods stack: DPC on MaPLe, in as many steps as either takes alone.",
        {"dpc_lr": 2e-4, "dpc_epochs": 5, "dpc_base_weight": 1.0},
    ),
    Row(FROZEN, "Another task: the names are invented, so that the frozen CLIP guesses.", suite=BADGES),
    Row(
        FRAME,
        "Visual reprogramming: learned pixels around the picture, and sentences about shape, colour and texture in the "
        "place of the name. Nothing inside CLIP is touched.",
        {**SMALL_BATCH, "lr": 3.0},
        suite=BADGES,
    ),
)
# Of those that are not in the story, what they are trained with where the default would be slow here.
_FURTHER: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    **dict.fromkeys(("kgcoop", "taskres", "ape_t", "tip_adapter_f"), ({}, VIEWS)),
    "acavp": ({**SMALL_BATCH, "lr": 3.0, "colour_lr": 0.01}, {}),
    **dict.fromkeys(("clip_lora", "prolip", "two_stage"), (SMALL_BATCH, {})),
    **dict.fromkeys(("vp", "ar", "attrvr", FRAME, "dvp_cls", "dvplite", "rvp"), ({**SMALL_BATCH, "lr": 3.0}, {})),
}
_PICTURES = 6


def demo(*, out: str = "runs/demo", seed: int = 1, quick: Flag = False, full: Flag = False) -> None:
    """From a frozen CLIP to a stack of methods, on pictures that the library draws itself. Needs nothing but cliptune.

    Each method learns from 16 pictures of each base class, in equally many steps, and is scored on the base classes and
    on new ones that it has never seen; a page with pictures of the task is written at the end. A second call goes on
    where the first was stopped.

    Parameters
    ----------
    out
        Folder of the runs and of the page.
    seed
        Of everything random.
    quick
        Very short training: shows the machinery, not the methods.
    full
        All methods, which takes about four minutes on an idle core.
    """
    import torch

    from cliptune.clip.weights.load import load_clip
    from cliptune.data import load_data
    from cliptune.data.tinyworld.suites import list_suites
    from cliptune.timing import Stopwatch

    watch = Stopwatch()
    # mini's matrices are small: more threads gain little, and lose much where another program wants the same cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = Path(out).expanduser() / ("quick" if quick else "")
    clip, about = load_clip("mini"), list_suites()
    data = {suite: load_data(f"tinyworld/{suite}") for suite in (SUITE, BADGES)}
    say(
        f"{LABEL}: pictures drawn from formulas, and mini, a CLIP small enough to ship.",
        *(f"{suite}: {about[suite]}." for suite in data),
    )
    rows = (*STORY, *_others()) if full else STORY
    results = []
    for number, row in enumerate(rows, start=1):
        results.append(_run(row, clip, data[row.suite], folder, seed, quick))
        remark(f"{number} of {len(rows)}: {row.method} on {row.suite}, {results[-1]['seconds']:.0f} s of training")
    torch.set_num_threads(threads)
    cells = [_cells(row, result, folder) for row, result in zip(rows, results, strict=True)]
    table(_HEADERS, cells, title=f"{LABEL}: {SHOTS} shots, seed {seed}, base to new", left=2)
    say(*(f"{row.method} on {row.suite}: {row.why}" for row in rows))
    say("", *_READ_IT)
    tell_notes(note for result in results for note in result.get("notes", ()))
    page = _write_page(folder, rows, cells, data, seed)
    say("", f"Took {watch.seconds:.0f} s. The page is {page}, the runs lie in {folder}.")
    _what_next(folder, _save_pictures(data[SUITE], folder / "pictures"))


_HEADERS = ("suite", "method", "base (%)", "new (%)", "HM", "steps", "learned values", "kilobytes", "seconds")
_READ_IT = (
    "base: classes trained on; new: the other half, never seen; HM: their harmonic mean. kilobytes: the learned file.",
    "This is one seed: a few points may be chance. `cliptune bench` and `cliptune table --against` tell methods apart.",
)


def _others() -> list[Row]:
    """Every method that the story does not try on its suite, in the words of its file."""
    from cliptune.registry import describe, names

    told = {row.method for row in STORY if row.suite == SUITE}
    return [Row(name, describe(name).summary, *_FURTHER.get(name, ())) for name in names() if name not in told]


def _run(row: Row, clip: Any, dataset: Dataset, folder: Path, seed: int, quick: bool) -> dict[str, Any]:
    from cliptune.protocols import base2new
    from cliptune.registry.listing import takes_steps

    options, budget = dict(row.options), {}
    if quick:
        options |= {name: value for name, value in QUICK.items() if name in own_hints(row.method)}
    elif takes_steps(row.method):
        budget = {"steps": STEPS}
    return base2new(
        row.method,
        clip,
        dataset,
        seed=seed,
        shots=SHOTS,
        out=folder / row.place,
        options=options,
        source={"name": f"tinyworld/{row.suite}"},
        progress=_progress(),
        store=False,  # nothing outside of its folder
        **row.training,
        **budget,
    )


def _cells(row: Row, result: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    numbers = [percent(result[key]) for key in ("base", "new", "harmonic_mean")]
    steps = (result.get("budget") or {}).get("steps") or 0
    weight = (folder / row.place / "adapter_model.safetensors").stat().st_size
    kilobytes = f"{weight / 1000:,.1f}" if result["learnables"] else "–"
    spent = f"{result['seconds']:.1f}"
    return (
        row.suite,
        row.method,
        *numbers,
        f"{steps:,}" if steps else "–",
        f"{result['learnables']:,}",
        kilobytes,
        spent,
    )


class _BarOnly:
    """A progress bar without the lines that every run would add."""

    def __init__(self, progress: Progress) -> None:
        self.start, self.advance, self.close = progress.start, progress.advance, progress.close

    def say(self, line: str, minor: bool = False) -> None:
        """The run's own log keeps it."""


def _progress() -> Progress:
    from cliptune.training.progress import open_progress

    return _BarOnly(open_progress(None))


def _write_page(
    folder: Path, rows: Sequence[Row], cells: Sequence[tuple[str, ...]], data: Mapping[str, Dataset], seed: int
) -> Path:
    """The story as a page; and `cliptune report`'s page beside it, where its extra is installed."""
    from cliptune.report.story import Line, write_story

    links = []
    if report := _report(folder):
        links.append((report.name, "What the frozen CLIP and the learned words get wrong, as cliptune report shows it"))
    words = {"frozen": FROZEN, "learned words": WORDS, "stack": STACK}
    frame = {"frozen": FROZEN, "learned frame": FRAME}
    groups = (
        (SUITE, "base", f"Base classes of {SUITE}: {SHOTS} pictures of each were shown", words),
        (SUITE, "new", f"New classes of {SUITE}: none was shown", words),
        (BADGES, "base", f"Base classes of {BADGES}, whose names are invented", frame),
    )
    return write_story(
        folder / "demo.html",
        title="What a few learned kilobytes do to a frozen CLIP",
        text=(
            f"{LABEL}. {SHOTS} pictures of each base class, seed {seed}; every method that is trained takes {STEPS} "
            "optimiser steps.",
        ),
        pictures=[
            (heading, _shown(data[suite].subset(half), folder / suite, half, runs))
            for suite, half, heading, runs in groups
        ],
        headers=(*_HEADERS, "what it is for"),
        lines=[Line(numbers, row.why) for row, numbers in zip(rows, cells, strict=True)],
        after=_READ_IT,
        links=links,
    )


def _shown(part: Dataset, folder: Path, evaluation: str, runs: Mapping[str, str]) -> list[Shown]:
    """The first test picture of some classes, with what runs say of it, named as in `runs`."""
    from cliptune.report.story import Shown
    from cliptune.runs import read_predictions

    answers = {who: read_predictions(folder / method, evaluation) for who, method in runs.items()}
    return [
        Shown(
            part.test.image(i),
            part.class_names[part.test[i].label],
            tuple((who, part.class_names[int(said.predicted[i])]) for who, said in answers.items() if said is not None),
        )
        for i in _first_of_each(part)
    ]


def _first_of_each(part: Dataset) -> Iterable[int]:
    first: dict[int, int] = {}
    for i, item in enumerate(part.test.items):
        first.setdefault(item.label, i)
    return list(first.values())[:_PICTURES]


def _report(folder: Path) -> Path | None:
    """`cliptune report`'s page of two of the runs; None without its extra."""
    from cliptune.report import report

    try:
        return report(
            [folder / SUITE / FROZEN, folder / SUITE / WORDS],
            folder / "report.html",
            what=("mistakes",),
            images=120,
            overwrite=True,
        )
    except ImportError as error:
        remark(f"{error} The page of the demo is written without it.")
        return None


def _save_pictures(dataset: Dataset, folder: Path) -> Path:
    """A few test pictures as files, to try `predict` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in _first_of_each(dataset):
        name = dataset.test[i].class_name
        dataset.test.image(i).save(folder / f"{name.replace(' ', '_')}.png")
    return folder


def _what_next(folder: Path, pictures: Path) -> None:
    run = folder / SUITE / WORDS
    say(
        "Try next:",
        f"  cliptune predict {run} {pictures} --top 3",
        f"  cliptune eval {run} --classes new --per-class",
        f"  cliptune table {folder} --format md",
        "  cliptune methods maple",
        "  cliptune fit YOUR_FOLDER --out out/      # one folder of images per class",
    )

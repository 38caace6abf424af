"""`cliptune demo`: the embedded CLIP on the embedded data, several methods, one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.inputs import tell_notes
from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import percent, remark, say, table

if TYPE_CHECKING:
    from cliptune.data import Dataset
    from cliptune.training.progress import Progress

SUITES = ("objects", "aquarium")
QUICK_SUITES = ("objects",)
SHOTS = 16
LABEL = "Tinyworld is a laboratory, not a benchmark"

METHODS: dict[str, dict[str, Any]] = {
    "zeroshot": {},
    "linear_probe": {},
    "coop": {"epochs": 200},
    "vpt": {"epochs": 5},
    "ivlp": {"epochs": 5},
    "maple": {"epochs": 5},
}
"""Method → options."""

# CoOp learns words alone, so that a picture's features can be kept: eight augmented views of each do for all epochs.
TRAINING: dict[str, dict[str, Any]] = {"coop": {"views": 8}}
QUICK_EPOCHS = 2
_PICTURES = 4


def demo(*, out: str = "runs/demo", seed: int = 1, quick: Flag = False) -> None:
    """Train several methods on pictures that the library draws itself, and compare them. Needs nothing but cliptune.

    Each method learns from 16 pictures of each base class and is scored on the base classes and on new ones that it
    has never seen. A second call goes on where the first was stopped.

    Parameters
    ----------
    out
        Folder of the runs.
    seed
        Of everything random.
    quick
        One suite and very short training: shows the machinery, not the methods.
    """
    import torch

    from cliptune.clip.weights.load import load_clip
    from cliptune.data import load_data
    from cliptune.data.tinyworld.suites import list_suites
    from cliptune.protocols import base2new
    from cliptune.training.clock import Stopwatch

    watch = Stopwatch()
    # mini's matrices are small: more threads gain little, and lose much where another program wants the same cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = Path(out).expanduser() / ("quick" if quick else "")
    suites = QUICK_SUITES if quick else SUITES
    clip = load_clip("mini")
    say(f"{LABEL}: pictures drawn from formulas, and mini, a CLIP small enough to ship.")
    lines, number, total = [], 0, len(suites) * len(METHODS)
    notes: list[str] = []
    dataset = None
    for suite in suites:
        dataset = load_data(f"tinyworld/{suite}")
        for method, chosen in METHODS.items():
            number += 1
            options = {**chosen, **({"epochs": QUICK_EPOCHS} if quick and "epochs" in chosen else {})}
            result = base2new(
                method,
                clip,
                dataset,
                seed=seed,
                shots=SHOTS,
                out=folder / suite / method,
                options=options,
                source={"name": f"tinyworld/{suite}"},
                progress=_progress(),
                store=False,  # nothing outside of its folder
                **TRAINING.get(method, {}),
            )
            remark(f"{number} of {total}: {method} on {suite}, {result['seconds']:.0f} s of training")
            numbers = [percent(result[key]) for key in ("base", "new", "harmonic_mean")]
            lines.append([suite, method, *numbers, f"{result['learnables']:,}", f"{result['seconds']:.1f}"])
            notes += result.get("notes", [])
    torch.set_num_threads(threads)
    headers = ["suite", "method", "base (%)", "new (%)", "HM", "learnables", "seconds"]
    table(headers, lines, title=f"{LABEL}: {SHOTS} shots, seed {seed}, base-to-new", left=2)
    tell_notes(notes)
    about = list_suites()
    say(
        *(f"{suite}: {about[suite]}." for suite in suites),
        "base: classes trained on; new: the other half, never seen; HM: their harmonic mean.",
        "linear_probe has one weight vector per trained class, so it cannot speak of new ones.",
        f"Took {watch.seconds:.0f} s. The runs lie in {folder}.",
    )
    if dataset is not None:
        _what_next(folder, suites[-1], _save_pictures(dataset, folder / "pictures"))


class _BarOnly:
    """A progress bar without the lines that every run would add."""

    def __init__(self, progress: Progress) -> None:
        self.start, self.advance, self.close = progress.start, progress.advance, progress.close

    def say(self, line: str, minor: bool = False) -> None:
        """The run's own log keeps it."""


def _progress() -> Progress:
    from cliptune.training.progress import open_progress

    return _BarOnly(open_progress(None))


def _save_pictures(dataset: Dataset, folder: Path) -> Path:
    """A few test pictures as files, to try `predict` on."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    for i, item in enumerate(dataset.test.items):
        if item.label not in seen and len(seen) < _PICTURES:
            seen.add(item.label)
            dataset.test.image(i).save(folder / f"{item.class_name.replace(' ', '_')}.png")
    return folder


def _what_next(folder: Path, suite: str, pictures: Path) -> None:
    run = folder / suite / "coop"
    say(
        "Try next:",
        f"  cliptune predict {run} {pictures} --top 3",
        f"  cliptune eval {run} --classes new --per-class",
        f"  cliptune table {folder} --format md",
        "  cliptune methods maple",
        "  cliptune fit YOUR_FOLDER --out out/      # one folder of images per class",
    )

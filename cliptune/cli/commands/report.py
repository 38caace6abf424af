"""`cliptune report`: finished runs as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.cli.shared.inputs import notes_said_once, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import remark, say

if TYPE_CHECKING:
    from cliptune.explain import Explained, OpenedRun


def report(
    runs: list[str],
    /,
    *,
    out: str,
    what: str | None = None,
    images: int = 400,
    root: str | None = None,
    backbone: str | None = None,
    device: str | None = None,
    largest: float = 5.0,
    overwrite: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Write finished runs as one page that opens anywhere: numbers with intervals, then explanations as pictures.

    Parameters
    ----------
    runs
        Folders of finished runs; several are shown side by side.
    out
        The page, an .html file; it needs nothing else, so it can be sent or carried on a memory stick.
    what
        Explanations by name, separated by commas, as in `cliptune explain`; all that fit if left out.
    images
        How many images of a split an explanation looks at, at most, drawn at random, the same each time.
    root
        Folder that holds the data sets, if it was moved.
    backbone
        Where the runs' backbone is now, if it was moved.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    largest
        MB; pictures are left out, the largest first, until the page is no larger, and it says which.
    overwrite
        Replace a page that is there.
    """
    from cliptune.explain.opened import OpenedRun
    from cliptune.report import report as write_report

    def opened(folder: str | Path) -> OpenedRun:
        adapter = open_run(str(folder), backbone, device, weights)
        return OpenedRun(Path(folder).expanduser(), adapter, images=images, root=root)

    with notes_said_once():
        page = write_report(
            runs,
            out,
            what=[name.strip() for name in what.split(",")] if what else (),
            images=images,
            largest=largest,
            overwrite=overwrite,
            opened=opened,
            told=_tell,
        )
    say(f"The page is {page} ({page.stat().st_size / 1e6:.1f} MB).")


def _tell(folder: str, answer: Explained) -> None:
    remark(f"{folder}, {answer.kind.name}: {answer.sentence}")

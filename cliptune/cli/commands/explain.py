"""`cliptune explain`: why a finished run answers as it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.cli.shared.inputs import notes_said_once, open_run
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import remark, say, show_json

if TYPE_CHECKING:
    from cliptune.explain import Explained


def explain(
    run: str,
    what: list[str] | None = None,
    /,
    *,
    out: str | None = None,
    images: int = 400,
    root: str | None = None,
    masks: str | None = None,
    among: str | None = None,
    backbone: str | None = None,
    device: str | None = None,
    json: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Explain a finished run: a sentence for each question that can be asked of it, numbers and pictures in files.

    Parameters
    ----------
    run
        Folder of the run.
    what
        Questions by name, such as confusion; all that fit the method if none is named. The path of a picture asks why
        it is named as it is.
    out
        Folder for the files; the folder explain in the run's if left out. Files of earlier explanations are replaced.
    images
        How many images of a split are looked at, at most, drawn at random, the same each time.
    root
        Folder that holds the data sets, if it was moved.
    masks
        Folder with masks of the objects in its pictures, to tell foreground from background; Tinyworld knows its own.
    among
        Folder with runs that differ from this one in seed, shots or options, for comparisons; that around the run's
        own folder if left out.
    backbone
        Where the run's backbone is now, if it was moved.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    json
        Print the answers as JSON.
    """
    from cliptune.explain.figures import available
    from cliptune.explain.one_image import explain_image
    from cliptune.explain.opened import OpenedRun
    from cliptune.explain.running import FOLDER, chosen, write
    from cliptune.explain.running import explain as ask

    pictures, names = _apart(what or [])
    asked = [kind.name for kind in chosen(names)] if names or not pictures else []
    with notes_said_once():
        adapter = open_run(run, backbone, device, weights)
        opened = OpenedRun(Path(run).expanduser(), adapter, images=images, root=root, masks=masks, among=among)
        shown = [explain_image(opened, picture) for picture in pictures]
        for answer in shown if not json else ():
            _tell(answer)
        answers = {answer.kind.name: answer for answer in shown}
        answers |= ask(opened, asked, told=None if json else _tell) if asked else {}
    place = Path(out).expanduser() if out is not None else Path(run).expanduser() / FOLDER
    written = write(answers, place)
    if json:
        show_json([answer.to_json() for answer in answers.values()])
        return
    missing = available()
    if missing is not None:
        remark(missing)
    say(f"{len(written)} files in {place}.")


def _tell(answer: Explained) -> None:
    say(f"{answer.kind.name}: {answer.sentence}")


def _apart(what: list[str]) -> tuple[list[Path], list[str]]:
    """Pictures, and names of questions. Raises: FileNotFoundError for a picture that is not there; ValueError for two
    pictures whose files would have one name.
    """
    from cliptune.data.images import is_image_name

    pictures = [Path(word).expanduser() for word in what if is_image_name(word) or Path(word).expanduser().is_file()]
    missing = next((path for path in pictures if not path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"There is no picture {missing}. Check the path.")
    stems = [path.stem for path in pictures]
    twice = next((stem for i, stem in enumerate(stems) if stem in stems[:i]), None)
    if twice is not None:
        raise ValueError(
            f"explain: two pictures are called {twice!r}, and so would be what is written. Ask one by one."
        )
    known = {str(path) for path in pictures}
    return pictures, [word for word in what if str(Path(word).expanduser()) not in known]

"""`cliptune calibrate`: how sure a finished run's answers may be."""

from __future__ import annotations

from cliptune.cli.shared.calibrating import calibrate_and_tell
from cliptune.cli.shared.inputs import own_backbone
from cliptune.cli.shared.options import Flag, WeightsOptions
from cliptune.cli.shared.output import show_json


def calibrate(
    run: str,
    /,
    *,
    folds: int | None = None,
    root: str | None = None,
    backbone: str | None = None,
    device: str | None = None,
    workers: int = 0,
    json: Flag = False,
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Calibrate a finished run: a temperature, and sets of classes that hold the right one as often as asked.

    An adapter is too sure of the images that it was trained on, so its training is repeated without a part of them,
    each part once, and the answers to what was held out are looked at. The run's adapter stays as it is; test images
    have no part in it. Afterwards `cliptune predict RUN` prints probabilities after the temperature, and --sets 0.9
    prints sets.

    Parameters
    ----------
    run
        Folder of the run.
    folds
        Parts that are held out in turn, at least 2; 10 where only a head is fitted, else 5, each a training of its own.
    root
        Folder that holds the data sets, if they were moved.
    backbone
        Where the run's backbone is now, if it was moved.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    workers
        Processes that read images.
    json
        Print all numbers as JSON.
    """
    clip = own_backbone(run, backbone, weights)
    numbers = calibrate_and_tell(
        run, clip=clip, device=device, root=root, folds=folds, workers=workers, quiet=bool(json)
    )
    if json:
        show_json(numbers)

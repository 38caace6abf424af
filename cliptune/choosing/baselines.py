"""Baselines on the images of a finished run, so that its number is never told alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cliptune.choosing.candidates import Candidate
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset
from cliptune.protocols.training import evaluation_options, train
from cliptune.results.statistics import Interval, paired_bootstrap, proportion
from cliptune.runs import read_result
from cliptune.runs.folder import held
from cliptune.runs.manifest import write_result
from cliptune.runs.predictions import read_predictions
from cliptune.timing import Stopwatch
from cliptune.training import SharedImages, evaluate

KEY = "beside"
"""Of a run's result, where baselines are entered."""


@dataclass(frozen=True)
class Beside:
    """A baseline's answers to the images that a run was scored on.

    Args:
        method: with its `options`.
        evaluation: name of the run's evaluation, such as "test".
        accuracy, low, high: in %, with Wilson's interval.
        difference, difference_low, difference_high: of the baseline's accuracy less the run's, in points, with a paired
            bootstrap over the images; above 0 where the baseline is better.
        n: images.
        seconds: that it took.
    """

    method: str
    options: Mapping[str, Any]
    evaluation: str
    accuracy: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    n: int
    seconds: float

    @property
    def verdict(self) -> int:
        """+1 if the baseline is better, −1 if it is worse, 0 if these images cannot tell."""
        return Interval(self.difference, self.difference_low, self.difference_high).sign


def beside(
    folder: str | Path,
    clip: CLIP,
    data: Dataset,
    baselines: Sequence[Candidate],
    *,
    seed: int = 1,
    options: Mapping[str, Any] | None = None,
    shared: SharedImages | None = None,
    **training: Any,
) -> list[Beside]:
    """Train and score baselines on a run's images, and enter them into its result; those that are there stay.

    Args:
        folder: of the finished run.
        clip: its backbone.
        data: as the run was given it: sampled, and cut to its classes.
        baselines: those of the run's own method are passed over.
        seed: as that of the run.
        options: of every baseline, such as `template`.
        shared: images that were seen before.
        training: further arguments of `fit`.
    Returns: what the result has then; nothing if the run was scored on no images.
    """
    result = read_result(folder) or {}
    if KEY in result:
        return [Beside(**entry) for entry in result[KEY]]
    name = next((name for name in ("test", "base", "new", "val") if name in result.get("evaluations", {})), None)
    answers = None if name is None else read_predictions(folder, name)
    if name is None or answers is None:
        return []
    split = data.val if name == "val" else data.test
    found = []
    for candidate in baselines:
        if candidate.method != result["method"]:
            watch = Stopwatch()
            how = {**training, **candidate.training, "shared": shared, "progress": "silent"}
            given = {**(options or {}), **candidate.options}
            run = train(candidate.method, clip, data, protocol=KEY, seed=seed, options=given, **how)
            own = evaluate(run.adapter, split, **evaluation_options(how)).predictions
            assert own is not None
            found.append(
                _compared(candidate.method, given, name, own.right.numpy(), answers.right.numpy(), watch.seconds)
            )
    with held(folder):
        result = read_result(folder) or {}
        result[KEY] = [vars(one) for one in found]
        write_result(Path(folder).expanduser(), result)
    return found


def _compared(
    method: str, options: Mapping[str, Any], name: str, own: np.ndarray, trained: np.ndarray, seconds: float
) -> Beside:
    share = proportion(int(own.sum()), len(own))
    more = paired_bootstrap([own.astype(float) - trained.astype(float)])
    return Beside(
        method,
        dict(options),
        name,
        accuracy=100 * share.estimate,
        low=100 * share.low,
        high=100 * share.high,
        difference=100 * more.estimate,
        difference_low=100 * more.low,
        difference_high=100 * more.high,
        n=len(own),
        seconds=seconds,
    )

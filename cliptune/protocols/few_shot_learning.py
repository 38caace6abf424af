"""Few-shot classification: a few images of every class, the whole test set.  (arXiv:2109.01134, Sec. 4.1)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset
from cliptune.protocols.training import evaluation_options, score, train
from cliptune.runs.spec import TUNING
from cliptune.training import Run
from cliptune.training.fit import among_test


def few_shot(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    *,
    shots: int | None = 16,
    seed: int = 1,
    out: str | Path | None = None,
    classes: str = "all",
    score_on: str = "test",
    options: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train on `shots` images per class, score on the test images of the same classes.

    Args:
        method: a host with add-ons, such as "coop".
        clip: the frozen backbone.
        dataset: whole, before any sampling or cut.
        shots: training images per class; None or below 1 for all.
        seed: of the sampling, the start, the order and augmentation.
        out: the run's folder; the same call goes on with an unfinished run, and returns a finished one.
        classes: "all", or "base" / "new" for one half of them.
        score_on: "val" leaves the test images alone and scores the validation images: for choosing options. Tables
            leave such runs out.
        options: of the method.
        source: arguments of `load_data` that open the data set again.
        training: further arguments of `fit`.
    Returns: the run's result; its evaluation is called "test", or "base" / "new". Where a data set has no test images,
        the validation images are scored and the evaluation is called "val"; without those either there is none.
    """
    return few_shot_run(
        method,
        clip,
        dataset,
        shots=shots,
        seed=seed,
        out=out,
        classes=classes,
        score_on=score_on,
        options=options,
        source=source,
        **training,
    ).result


def few_shot_run(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    *,
    shots: int | None,
    seed: int,
    out: str | Path | None = None,
    classes: str = "all",
    score_on: str = "test",
    options: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    **training: Any,
) -> Run:
    """The run of `few_shot`, with its adapter."""
    sampled = dataset if shots is None else dataset.few_shot(shots, seed)
    data = sampled.subset(classes)
    if score_on not in ("test", "val"):
        raise ValueError(f"few_shot: score_on must be 'test' or 'val', got {score_on!r}.")
    if score_on == "val":
        _check_validation(data)
    run = train(
        method,
        clip,
        data,
        protocol="few_shot",
        seed=seed,
        out=out,
        options=options,
        source=source,
        **training,
    )
    if score_on == "val":
        run.result["purpose"] = TUNING
    name, split = ("test" if classes == "all" else classes), data.test
    if not len(split) or score_on == "val":
        name, split = "val", data.val
        what = "so the validation images were scored" if len(split) else "nor validation images, so nothing was scored"
        if name not in run.result["evaluations"]:  # a finished run stays as it was written
            run.note(f"few_shot: {data.name} has no test images of these classes, {what}.")
    if len(split):
        score(run, name, split, **evaluation_options(training))
    elif run.folder is not None:
        run.folder.write_result(run.result)
    return run


def _check_validation(data: Dataset) -> None:
    """Raises: ValueError if there are no validation images, or they are test images."""
    if not len(data.val):
        raise ValueError(
            f"few_shot: {data.name} has no validation images, and options are chosen on nothing else. Split some "
            "off, or give the options yourself."
        )
    if among_test(data.val, data.test):
        raise ValueError(
            f"few_shot: the validation images of {data.name} are among its test images, so options would be chosen on "
            "what is reported. Split others off, or give the options yourself."
        )

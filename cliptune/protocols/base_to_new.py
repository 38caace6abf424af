"""Base-to-new generalisation: train on half of the classes, score on either half.  (arXiv:2203.05557, Sec. 4.1)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset
from cliptune.data.metrics import harmonic_mean
from cliptune.protocols.training import class_set, evaluation_options, score, train


def base2new(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    seed: int = 1,
    shots: int | None = 16,
    out: str | Path | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train on few images of the base classes; score base test images among base names, new ones among new names.

    Args:
        method: a host with add-ons, such as "coop".
        clip: the frozen backbone.
        dataset: whole; few-shot picks are drawn from all classes before the cut, as the field does.
        seed: of the sampling, the start, the order and augmentation.
        shots: training images per class; None or below 1 for all.
        out: the run's folder; the same call goes on with an unfinished run, and returns a finished one.
        options: of the method.
        source: arguments of `load_data` that open the data set again.
        training: further arguments of `fit`.
    Returns: the run's result with "base", "new" and "harmonic_mean" in %. For a method that holds values for its
        training classes the last two are None, and "why_no_new" says why.
    Raises: ValueError if the data set has no test images of one half.
    """
    sampled = dataset if shots is None else dataset.few_shot(shots, seed)
    base, new = sampled.subset("base"), sampled.subset("new")
    for half in (base, new):
        if not len(half.test):
            raise ValueError(
                f"base2new: {dataset.name} has no test images of its {half.classes} classes, so there is nothing to "
                "score. Add test images."
            )
    run = train(
        method,
        clip,
        base,
        protocol="base2new",
        seed=seed,
        out=out,
        options=options,
        source=source,
        **training,
    )
    settings = evaluation_options(training)
    result = run.result
    numbers: dict[str, Any] = {"base": score(run, "base", base.test, **settings), "new": None}
    adapter = run.adapter
    if adapter.prompt.class_specific or adapter.head.class_specific:
        numbers["why_no_new"] = f"{method} holds values for its training classes and knows no others"
        if "why_no_new" not in result:  # a finished run stays as it was written
            run.note(f"base2new: the new classes were not scored, because {numbers['why_no_new']}.")
    else:
        trained = adapter.trained_classes
        adapter.set_classes(class_set(new, trained).with_template(trained.template), seen=False)
        if "new" not in result["evaluations"]:
            run.note(*new.notes, *adapter.texts.notes)
        numbers["new"] = score(run, "new", new.test, **settings)
        adapter.set_classes(trained, seen=True)
    known = numbers["new"] is not None
    numbers["harmonic_mean"] = harmonic_mean(numbers["base"], numbers["new"]) if known else None
    result.update(numbers)
    if run.folder is not None:
        run.folder.write_result(result)
    return result

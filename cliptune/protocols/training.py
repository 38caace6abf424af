"""What all protocols do: train a method on data that is cut already, and score it by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset, Split
from cliptune.registry.building import build
from cliptune.registry.listing import count_learnables
from cliptune.runs.jsonable import jsonable
from cliptune.runs.loading import load
from cliptune.texts import ClassSet
from cliptune.training import Run, evaluate, fit


def train(
    method: str,
    clip: CLIP,
    data: Dataset,
    *,
    protocol: str,
    seed: int = 1,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    classes: ClassSet | None = None,
    **training: Any,
) -> Run:
    """Build and fit a method on a data set that is already sampled and cut to its training classes.

    Args:
        method: a host with add-ons, such as "coop".
        protocol: noted in the result.
        seed: of the learnables' start, the order of images, augmentation and dropout.
        out: the run's folder; None writes nothing. A finished run found there is returned.
        options: of the method. A `teacher` may be the folder of a finished run; its student keeps the texts of all
            classes of the data set, also of those that it is not trained on.
        source: arguments of `load_data` that open the same data again; noted in the result, for later evaluations.
        flags: what else a reader of the result should know, such as how the options were chosen; entered among its own.
        classes: those of the data in the words of an earlier run; None for the data's own words.
        training: further arguments of `fit`.
    """
    recipe = build(method, clip, classes or class_set(data), seed=seed, **_opened(options or {}, data))
    run = fit(recipe, data, out, seed=seed, **training)
    run.result.setdefault("protocol", protocol)
    run.result.setdefault("source", None if source is None else dict(source))
    run.result["learnables"] = count_learnables(run.adapter)
    noted = {**run.result["flags"], **jsonable(dict(flags or {}))}
    if noted != run.result["flags"]:
        run.result["flags"] = noted
        if run.folder is not None:
            run.folder.write_result(run.result)
    return run


def _opened(options: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Options whose teacher, if it is named by the folder of a run, is its adapter."""
    teacher, options = options.get("teacher"), dict(options)
    if isinstance(teacher, (str, Path)) and Path(teacher).expanduser().is_dir():
        options["teacher"] = teacher = load(teacher)
    # Without its teacher, a student can speak of new classes later only if it keeps their texts now.
    if isinstance(teacher, Adapter) and data.whole_names and not options.get("names"):
        knows_others = not (teacher.prompt.class_specific or teacher.head.class_specific)
        if knows_others:
            options["names"] = tuple(dict.fromkeys((*teacher.trained_classes.names, *data.whole_names)))
    return options


def class_set(data: Dataset, known: ClassSet | None = None) -> ClassSet:
    """The classes of a data set, with its template and, where it has them, its descriptions.

    Args:
        known: classes whose descriptions are preferred, because an adapter was trained with them.
    """
    descriptions = (known.descriptions if known is not None else None) or getattr(data, "descriptions", None) or {}
    return ClassSet(data.class_names, data.template, descriptions)


def score(run: Run, name: str, split: Split, **evaluation: Any) -> float:
    """Accuracy in % of a run on a split under a name, from its result if it is there, else measured and entered."""
    known = run.result.get("evaluations", {}).get(name)
    if known is None:
        run.add(name, evaluate(run.adapter, split, **evaluation))
        known = run.result["evaluations"][name]
    return float(known["accuracy"])


def evaluation_options(training: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of `fit` that `evaluate` has as well; an object that shows progress belongs to the training."""
    shown = training.get("progress")
    passed_on = {key: training[key] for key in ("precision", "workers", "shared", "store") if key in training}
    return {**passed_on, "progress": shown if shown is None or isinstance(shown, str) else "silent"}

"""`cliptune eval`: score a finished run on any split, other classes, other data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from cliptune.cli.shared.inputs import notes_said_once, open_on, open_run, tell_notes
from cliptune.cli.shared.options import Flag, ListOptions, WeightsOptions
from cliptune.cli.shared.output import count, percent, remark, say, show_json, table


def evaluate(
    run: str,
    /,
    *,
    classes: Literal["all", "base", "new"] | None = None,
    data: str | None = None,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    nested: Literal["leaf", "top"] | None = None,
    split: Literal["train", "val", "test"] = "test",
    backbone: str | None = None,
    on: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    weight: float | None = None,
    workers: int = 0,
    truncate: Flag = False,
    per_class: Flag = False,
    sets: float | None = None,
    orders: int | None = None,
    json: Flag = False,
    lists: ListOptions = ListOptions(),
    weights: WeightsOptions = WeightsOptions(),
) -> None:
    """Score a finished run: its own test images, other classes, or another data set.

    What is measured on test images is entered into the run's result.json, where `cliptune table` finds it; in another
    precision or weight than the run's own under a name that says so, such as "test (bf16)".

    Parameters
    ----------
    run
        Folder of the run.
    classes
        Classes to tell apart; if left out, those it was trained on (all, for another data set).
    data
        Another data set, a name or path as in `cliptune train`; if left out, that of the run.
    root
        Folder that holds the data sets.
    source
        Of --data, as in `cliptune train`: coop or torchvision.
    nested
        Of --data, as in `cliptune train`.
    split
        Images to score; train means the ones it was trained on.
    backbone
        Where the run's backbone is now, if it was moved.
    on
        Another backbone than the run's, to score what was learned there, such as patterns on the pixels; its shapes
        must fit. Entered under a name that says so.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    precision
        Of the frozen towers: fp32, bf16, fp16, or auto by device and width of the towers; that of the run if left out.
    weight
        For runs with dpc: ω of the parallel prompt, in [0, 1]; if left out, that of trained classes where all are
        trained ones, else that of new classes.
    workers
        Processes that read images.
    truncate
        Cut class names that have more tokens than the text tower reads, after the last word that fits, and say so.
    per_class
        Show the accuracy of every class.
    sets
        Of a run that `cliptune calibrate` calibrated: how many images have the right class in their set, where this
        share was asked for, such as 0.9.
    orders
        Of a method that answers an image by those before it (tda): score its own images in so many random orders, such
        as 10, and say how far the accuracies lie apart.
    json
        Print all numbers as JSON.
    """
    from cliptune.data import DataSpec
    from cliptune.protocols.orders import over_orders
    from cliptune.protocols.scoring import score_run
    from cliptune.runs import read_result

    if on is not None and backbone is not None:
        raise ValueError("--on and --backbone: one is another backbone, the other where the run's own is. Give one.")
    if data is None and source != "coop":
        raise ValueError(
            f"--source {source} is for another data set, --data NAME. Without it the run's own data are opened as they "
            "were for training, since other splits of them share pictures with its training images."
        )
    if data is None and nested is not None:
        raise ValueError(
            f"--nested {nested} is for another data set, --data PATH. The run's own data are read as before."
        )
    if data is None and lists.given:
        raise ValueError(
            f"--{next(iter(lists.given))} is for another list, --data LIST. The run's own data are read as they were."
        )
    if orders is not None and (data, classes, on) != (None, None, None):
        raise ValueError("--orders is for the run's own images and classes. Leave out --data, --classes and --on.")
    with notes_said_once():
        adapter = open_run(run, backbone, device, weights) if on is None else open_on(run, on, device, weights)
        scored = score_run(
            run,
            adapter,
            data=None if data is None else DataSpec.found(data, root, source, nested=nested, **lists.given),
            root=root,
            classes=classes,
            split=split,
            precision=precision,
            weight=weight,
            workers=workers,
            truncate=truncate,
            elsewhere=on is not None,
            coverage=sets,
        )
    several = None
    if orders is not None:
        several = over_orders(run, adapter, orders, split=split, root=root, workers=workers, precision=precision)
    warned = () if scored.own_images else scored.notes[-1:]
    for sentence in warned:
        remark(sentence)
    evaluation = scored.evaluation
    about = {"run": run, "data": scored.data.name, "classes": scored.classes, "split": split}
    numbers = {**about, **evaluation.summary()}
    calibrated = None if scored.calibrated is None else _with_interval(scored.calibrated)
    if calibrated is not None:
        numbers["calibrated"] = calibrated
    if several is not None:
        numbers["orders"] = {**vars(several), "mean": several.mean, "deviation": several.deviation}
    if json:
        show_json({**numbers, "notes": list(scored.notes)})
        return
    what = f"{scored.data.name}, {scored.classes} classes ({len(scored.data.class_names)}), {split}"
    what += "" if scored.weight is None else f", ω {scored.weight:g}"
    say(f"{(read_result(run) or {}).get('method', 'run')} on {what}: {count(evaluation.n, 'image')}")
    shown = ("accuracy", "macro_f1", "mean_per_class", "ece")
    table([key.replace("_", " ") + " (%)" for key in shown], [[percent(numbers[key]) for key in shown]], left=0)
    if calibrated is not None:
        say(f"With the temperature {calibrated['temperature']:.4g}: ece {percent(calibrated['ece'])} %.")
    if calibrated is not None and "sets" in calibrated:
        held = calibrated["sets"]
        say(
            f"Sets of {held['asked']:g} hold the right class of {percent(held['coverage'])} % of the images (95 % "
            f"interval {held['low']:.1f} to {held['high']:.1f}) and {held['mean_size']:.2f} classes on average."
        )
    if several is not None:
        lowest, highest = min(several.accuracies), max(several.accuracies)
        say(
            f"In {len(several.accuracies)} orders: accuracy {several.mean:.2f} % on average, {lowest:.2f} to "
            f"{highest:.2f}, deviation {several.deviation:.2f} points; {several.changed:.1f} % of the images are not "
            "answered alike in all of them."
        )
    tell_notes(scored.notes, told=warned)
    if per_class:
        table(["class", "accuracy (%)"], [[key, percent(value)] for key, value in evaluation.per_class.items()])


def _with_interval(calibrated: Mapping[str, Any]) -> dict[str, Any]:
    """The share of images whose set holds the right class in %, with Wilson's interval, where sets were asked for."""
    from cliptune.results.statistics import proportion

    told = dict(calibrated)
    if "sets" in told:
        held, n = (told["sets"][name] for name in ("held", "n"))
        share = proportion(held, n)
        more = {"coverage": 100 * share.estimate, "low": 100 * share.low, "high": 100 * share.high}
        told["sets"] = {**told["sets"], **more}
    return told

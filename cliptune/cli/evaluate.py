"""`cliptune eval`: score a finished run on any split, other classes, other data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cliptune.cli.opening import data_source, open_data, open_run
from cliptune.cli.options import Flag, WeightsOptions
from cliptune.cli.show import count, percent, remark, say, show_json, table

if TYPE_CHECKING:
    from cliptune.data import Split


def evaluate(
    run: str,
    /,
    *,
    classes: Literal["all", "base", "new"] | None = None,
    data: str | None = None,
    root: str | None = None,
    source: Literal["coop", "torchvision"] = "coop",
    split: Literal["train", "val", "test"] = "test",
    backbone: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    weight: float | None = None,
    workers: int = 0,
    per_class: Flag = False,
    json: Flag = False,
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
    split
        Images to score; train means the ones it was trained on.
    backbone
        Where the run's backbone is now, if it was moved.
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    precision
        Of the frozen towers: fp32, bf16, fp16; that of the run if left out.
    weight
        For runs with dpc: ω of the parallel prompt, in [0, 1]; if left out, that of trained classes where all are
        trained ones, else that of new classes.
    workers
        Processes that read images.
    per_class
        Show the accuracy of every class.
    json
        Print all numbers as JSON.
    """
    from cliptune.protocols.runs import choose_weight, class_set
    from cliptune.protocols.transfer import note_target
    from cliptune.training import evaluate as score
    from cliptune.training import read_result
    from cliptune.training.run_folder import read_config

    adapter = open_run(run, backbone, device, weights)
    result = read_result(run) or {}
    own_precision = read_config(run).get("precision", "fp32")  # a converted checkpoint has none
    precision = precision or own_precision
    trained = result.get("data") or {}
    opened, sampling = _source(run, result, data, root, source)
    wanted = classes or ("all" if data is not None else trained.get("classes", "all"))
    if split != "train":
        sampling = {}
    dataset = open_data(opened, **sampling, classes=wanted)
    same = dataset.split_sha256 == trained.get("split_sha256")
    own = result.get("source") or {}
    if data is not None and same and all(opened.get(key) == own.get(key) for key in ("name", "root", "source")):
        data = None  # its own data, by name
    if data is None and not same:
        remark(
            f"The images of {dataset.name} or their split are not those of the run any more: some of these "
            f"{split} images may have been trained on."
        )
    known = adapter.trained_classes
    if data is None:
        adapter.set_classes(class_set(dataset, known).with_template(known.template))
    else:
        adapter.set_classes(class_set(dataset))
    chosen = dataset[split]
    same_classes = wanted == trained.get("classes", "all")
    if split == "train" and data is None and same_classes and "shots" not in sampling and trained.get("sampling"):
        chosen = _kept(run, chosen)
    if not len(chosen):
        raise ValueError(f"{dataset.name} has no {split} images to score. Choose another --split.")
    mixed = choose_weight(adapter, weight)
    evaluation = score(adapter, chosen, precision=precision, workers=workers)
    name = _name(data is not None, dataset.name, wanted, split)
    # Never in the place of the number that the run itself measured, or will.
    if data is None and not same:
        name = f"{name} (split {dataset.split_sha256[:8]})"
    if weight is not None:
        name = f"{name} (ω={weight:g})"
    if precision != own_precision:
        name = f"{name} ({precision})"
    numbers = {"run": run, "data": dataset.name, "classes": wanted, "split": split, **evaluation.summary()}
    if split == "test":
        if data is not None:
            note_target(result, name, None, dataset, adapter)
        _enter(Path(run).expanduser(), result, name, evaluation.summary())
    if json:
        show_json(numbers)
        return
    what = f"{dataset.name}, {wanted} classes ({len(dataset.class_names)}), {split}"
    what += "" if mixed is None else f", ω {mixed:g}"
    say(f"{result.get('method', 'run')} on {what}: {count(evaluation.n, 'image')}")
    shown = ("accuracy", "macro_f1", "mean_per_class", "ece")
    table([key.replace("_", " ") + " (%)" for key in shown], [[percent(numbers[key]) for key in shown]], left=0)
    if per_class:
        table(["class", "accuracy (%)"], [[key, percent(value)] for key, value in evaluation.per_class.items()])


def _source(
    run: str, result: dict[str, Any], data: str | None, root: str | None, origin: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How to open the data, and how the run's training images were picked from it."""
    if data is not None:
        return data_source(data, root, origin), {}
    if origin != "coop":
        raise ValueError(
            f"--source {origin} is for another data set, --data NAME. Without it the run's own data are opened as they "
            "were for training, since other splits of them share pictures with its training images."
        )
    source = result.get("source")
    if source is None:
        raise ValueError(f"Run folder {run} does not say where its data lies. Name a data set or folder: --data NAME.")
    picked = (result.get("data") or {}).get("sampling") or {}
    sampling = {key: picked[key] for key in ("shots", "seed", "repeat") if key in picked}
    return {**source, **({"root": root} if root is not None else {})}, sampling


def _kept(run: str, train: Split) -> Split:
    """The training images that the run's `split.json` lists."""
    from cliptune.training.run_folder import read_images

    names = {name for name, _, _ in (read_images(run) or {"train": []})["train"]}
    return train.subset([i for i, name in enumerate(train.ids) if name in names])


def _name(other: bool, data: str, classes: str, split: str) -> str:
    """Called "test" for all classes of the run's own data, else the half; another data set's name goes before it."""
    own = classes if classes != "all" else split
    return f"{data}/{own}" if other else own


def _enter(folder: Path, result: dict[str, Any], name: str, summary: dict[str, Any]) -> None:
    from cliptune.data.metrics import harmonic_mean
    from cliptune.files import atomic_write_json
    from cliptune.training.plain import plain
    from cliptune.training.run_folder import RESULT

    evaluations = result.setdefault("evaluations", {})
    evaluations[name] = summary
    if result.get("protocol") == "base2new" and {"base", "new"} <= set(evaluations):
        base, new = (evaluations[half]["accuracy"] for half in ("base", "new"))
        result |= {"base": base, "new": new, "harmonic_mean": harmonic_mean(base, new)}
    atomic_write_json(folder / RESULT, plain(result))

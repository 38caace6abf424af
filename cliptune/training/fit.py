"""Train a recipe on data, resumably."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cliptune.data.items import Dataset, Split
from cliptune.features import FeatureStore, opened
from cliptune.noted import once
from cliptune.recipe import Recipe
from cliptune.runs.checkpoints import backbone, load_adapter, save_adapter
from cliptune.runs.folder import RunFolder
from cliptune.runs.jsonable import jsonable
from cliptune.runs.predictions import write_predictions
from cliptune.timing import duration
from cliptune.training.budget import judged, within_budget
from cliptune.training.continued import end_of
from cliptune.training.distributed import Processes, processes
from cliptune.training.evaluate import Evaluation
from cliptune.training.feed import Feed
from cliptune.training.loop import Options, Training
from cliptune.training.precision import AUTO, check_precision, chosen, towers_in
from cliptune.training.progress import Progress, open_progress
from cliptune.training.reporting import Reporter
from cliptune.training.shared import SharedImages
from cliptune.training.state import Position
from cliptune.training.trackers import Tracker, open_trackers

if TYPE_CHECKING:
    from cliptune.adapter import Adapter

SELECTIONS = ("last", "val", "oracle")


@dataclass
class Run:
    """A finished run.

    Args:
        adapter: trained.
        folder: where it lies; None if nothing was written, and on processes other than the first.
        result: what `result.json` holds.
        metrics: the lines of `metrics.jsonl`; empty without a folder.
        options: of the method, resolved, as `adapter_config.json` has them.
    """

    adapter: Adapter
    folder: RunFolder | None = None
    result: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def note(self, *sentences: str) -> None:
        """Enter sentences under the result's notes, each once; they are written with the next evaluation or result."""
        add_notes(self.result, *sentences)

    def add(self, name: str, evaluation: Evaluation) -> None:
        """Enter an evaluation into the result under a name such as "test" or "new", and rewrite `result.json`; its
        answers go to a file of the run's folder before.
        """
        entered = evaluation.summary()
        if self.folder is not None and evaluation.predictions is not None:
            entered["predictions"] = write_predictions(self.folder.path, name, evaluation.predictions)
        self.result.setdefault("evaluations", {})[name] = entered
        if self.folder is not None:
            self.folder.write_result(self.result)


def add_notes(result: dict[str, Any], *sentences: str) -> None:
    """Enter sentences under a result's notes, each once; a result of an early version may have none yet."""
    result["notes"] = [*once(result.get("notes", ()), sentences)]


def fit(
    recipe: Recipe,
    data: Dataset,
    out: str | Path | None = None,
    *,
    seed: int = 1,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    accumulate: int = 1,
    workers: int = 0,
    select: str = "last",
    resume: bool = True,
    overwrite: bool = False,
    save_every: float = 60.0,
    cache_images: bool = True,
    cache_features: str | bool = "auto",
    views: int | None = None,
    shared: SharedImages | None = None,
    store: FeatureStore | bool = True,
    steps: int | None = None,
    images: int | None = None,
    continues: str | Path | None = None,
    log: Callable[[str], None] | None = None,
    progress: str | Progress | None = None,
    trackers: Sequence[str | Tracker] = (),
    log_prompts: bool = False,
) -> Run:
    """Run a recipe's stages on the training images. The recipe's adapter is trained in place.

    With `out`, state is saved after every epoch and every `save_every` seconds, and the same call after a crash goes
    on from there: on one device, bit for bit as if nothing had happened. A finished run is loaded and returned.
    Started by `torchrun`, the processes share every batch and give the numbers of one process.

    Args:
        recipe: adapter and stages, from `build`.
        data: train, val and test images; test is looked at only if `select` is "oracle".
        out: the run's folder; None writes nothing.
        seed: of order, augmentation and dropout. The start of the learnables has its own, in `build`.
        device: None takes a CUDA card if there is one.
        precision: of the frozen towers, "fp32", "bf16" or "fp16"; learnables, normalisation and logits are float32.
            "auto" takes bf16 where the device multiplies it faster and the towers are wide, else fp32; which one is in
            the result's flags and notes.
        accumulate: pieces to compute each batch in, to save memory; the gradient stays that of the whole batch.
        workers: processes that decode and transform images.
        select: "last" keeps the last epoch, "val" the best on the validation images, "oracle" the best on the test
            images, which flatters the result and is labelled so.
        resume: go on with a run found in `out`; False refuses it.
        overwrite: replace whatever run is in `out`.
        save_every: seconds.
        cache_images: keep decoded images in memory, up to 1 GiB.
        cache_features: "auto" computes image embeddings once where no learnable reaches them; False never.
        views: draw so many augmented views per image and reuse their embeddings, for learners of text alone and, of the
            frozen CLIP, for losses that compare with it; None draws new views in every epoch.
        shared: what other runs on these images decoded and embedded before; it is used and added to. The numbers are
            those without it.
        store: embeddings on disk that runs share, used and added to where `cache_features` is "auto": True for those
            of this machine (`cliptune.features.usual_store`), False for none. The numbers are those without it.
        steps: optimiser steps in place of the recipe's epochs, see `within_budget`: the schedule is stretched to them.
        images: the same, told by how many images the steps see.
        continues: folder of a finished run of the recipe's host, for recipes that go on after their host's training
            (`coop+dpc` after `coop`): its end stands for the same stages trained here, which it equals bit for bit,
            and is noted in the result. Whatever changes numbers must be the same in both.
        log: called with every line.
        progress: "bar", "lines", "silent", or an object; None takes a bar on a terminal and lines elsewhere.
        trackers: "tensorboard", "wandb", or objects with `log` and `close`.
        log_prompts: keep what enters the towers after every epoch in the run's folder, for `cliptune explain RUN rank`;
            kilobytes an epoch, and no number changes.
    Returns: the run.
    Raises: ValueError for options or data that cannot work, or a folder that holds another run; TrainingDiverged if
        the loss is no longer finite; OSError with a sentence if a file cannot be written.
    """
    check_precision(precision)
    _check(recipe, data, select, accumulate)
    recipe = judged(within_budget(recipe, len(data.train), steps=steps, images=images), len(data.train))
    given = {name: value for name, value in (("steps", steps), ("images", images)) if value is not None}
    adapter = recipe.adapter
    with processes(device) as group, _undisturbed(group.device):
        adapter.to(group.device)
        asked, (precision, why) = precision, group.from_main(lambda: chosen(precision, adapter.clip, recipe.exact))
        config, split = group.from_main(
            lambda: _resolved(recipe, data, seed, precision, accumulate, select, views, given)
        )
        folder = group.from_main(
            lambda: RunFolder(out, config, resume=resume, overwrite=overwrite) if out is not None else None
        )
        try:
            result = group.from_main(lambda: folder.result() if folder is not None else None)
            if folder is not None and result is not None:
                load_adapter(folder.path, adapter)
            else:
                with _reporter(group, folder, progress, log, trackers, config) as reporter:
                    feed = Feed(
                        adapter,
                        data,
                        group,
                        seed=seed,
                        workers=workers,
                        cache_images=cache_images,
                        cache_features=cache_features,
                        views=views,
                        shared=shared,
                        store=opened(store),
                        say=reporter.say,
                    )
                    options = Options(seed, precision, accumulate, select, save_every, log_prompts)
                    here = None if folder is None else folder.path
                    begin = partial(end_of, continues, recipe, config, here) if continues is not None else None
                    remarks = once(
                        recipe.all_notes,
                        feed.notes(recipe.stages),
                        _on_device(group, device),
                        [f"The frozen towers are in {precision}, {why}."] if asked == AUTO else (),
                    )
                    training = Training(recipe, feed, group, reporter, folder, options, begin, remarks)
                    result = _train(training, config, split)
            metrics = folder.metrics() if folder is not None else []
        finally:
            if folder is not None:
                folder.release()
    return Run(adapter, folder if group.main else None, result, metrics, jsonable(recipe.config))


def _train(training: Training, config: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    """Run all stages and write what came out."""
    recipe, group, reporter, folder = training.recipe, training.processes, training.reporter, training.folder
    changed = group.from_main(lambda: _describe(folder, split, group.device, recipe.adapter.clip.products))
    training.remarks = once(changed, training.remarks)
    with towers_in(recipe.adapter.clip, training.options.precision):
        training.run()
    recipe.adapter.eval()
    result = _result(training, config)
    if folder is not None:
        group.from_main(lambda: _finish(folder, recipe, result))
    reporter.say(f"Finished after {duration(result['seconds'])}")
    return result


def _on_device(group: Processes, asked: torch.device | str | None) -> list[str]:
    """A sentence where the device was chosen here."""
    if asked is not None:
        return []
    why = ", because torch finds no CUDA card" if group.device.type == "cpu" else ""
    return [f"No device was named, so the run is on {group.device.type}{why}."]


def _check(recipe: Recipe, data: Dataset, select: str, accumulate: int) -> None:
    if select not in SELECTIONS:
        raise ValueError(f"select must be one of {', '.join(SELECTIONS)}, got {select!r}.")
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}.")
    if recipe.stages and not len(data.train):
        raise ValueError(f"{data.name} has no training images, but {recipe.method or 'the method'} learns from them.")
    if tuple(recipe.adapter.class_names) != tuple(data.class_names):
        raise ValueError(
            f"The recipe was built for {len(recipe.adapter.class_names)} classes and {data.name} has "
            f"{len(data.class_names)}, or their names or order differ. Build it with the data's class_names."
        )
    check_classes(data)
    for stage in recipe.stages:
        if stage.optimiser is not None and stage.objective is None:
            raise ValueError(f"Stage {stage.name!r} has an optimiser but no objective to minimise.")
        if (stage.sampler is not None or stage.whole_batch) and accumulate > 1:
            raise ValueError(
                f"Stage {stage.name!r} compares the images of a batch with each other, so a batch cannot be computed "
                "in pieces. Use accumulate=1."
            )
    if select == "val" and not len(data.val):
        raise ValueError(
            f"select='val' chooses the epoch on validation images, but {data.name} has none. "
            "Use select='last', or split off a validation set."
        )
    if select == "val" and among_test(data.val, data.test):
        raise ValueError(
            f"select='val' would choose the epoch on test images: the validation images of {data.name} are among "
            "its test images. Use select='last', or select='oracle' if that is what you want; it is labelled so."
        )
    if select == "oracle" and not len(data.test):
        raise ValueError(f"select='oracle' chooses the epoch on test images, but {data.name} has none.")


def check_classes(data: Dataset) -> None:
    """Raises: ValueError if there is one class alone, to which any answer is right."""
    if len(data.class_names) < 2:
        raise ValueError(
            f"{data.name} has one class, {data.class_names[0]!r}, and any answer to one class is right: there is "
            "nothing to learn. Add pictures of what it is not as a second class. If the classes are folders below that "
            "one, say --nested leaf; if the folder is itself one class of several, give the folder above."
        )


def among_test(val: Split, test: Split) -> bool:
    """Whether val holds only test images. Ids in memory are made up, so there the pictures themselves are compared."""
    if val.in_memory or test.in_memory:
        return {val.key(i) for i in range(len(val))} <= {test.key(i) for i in range(len(test))}
    return set(val.ids) <= set(test.ids)


def _resolved(
    recipe: Recipe,
    data: Dataset,
    seed: int,
    precision: str,
    accumulate: int,
    select: str,
    views: int | None,
    budget: Mapping[str, int],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The run's configuration, whatever changes its numbers and nothing else; and the description of its images."""
    split = data.descriptor()
    stages = [
        {
            "name": stage.name,
            "epochs": stage.epochs,
            "batch_size": stage.batch_size,
            "augment": "trivial" if stage.augment and stage.trivial else stage.augment,
            "optimiser": stage.optimiser,
            **({} if stage.steps is None else {"steps": stage.steps}),
        }
        for stage in recipe.stages
    ]
    described = recipe.adapter.descriptions_sha256
    config = {
        "method": recipe.method,
        "options": recipe.config,
        "backbone": backbone(recipe.adapter.clip),
        "data": {
            "name": data.name,
            "classes": data.classes,
            "template": data.template,
            "sampling": data.sampling,
            "split_sha256": data.split_sha256,
            **({"read_with": dict(data.read_with)} if data.read_with else {}),
            "images_sha256": hashlib.sha256(json.dumps(split, sort_keys=True).encode()).hexdigest(),
            **({"own_split": True} if data.own_split else {}),
            **({} if data.nested is None else {"nested": data.nested}),
            **({} if described is None else {"descriptions_sha256": described}),
        },
        "stages": stages,
        "seed": seed,
        "precision": precision,
        "accumulate": accumulate,
        "select": select,
        "views": views,
        **budget,
        # The content decides the numbers; where the files lie is noted in the result.
        **({"plugins": {name: p["sha256"] for name, p in recipe.plugins.items()}} if recipe.plugins else {}),
    }
    return jsonable(config), split


def _describe(folder: RunFolder | None, split: dict[str, Any], device: torch.device, products: str) -> list[str]:
    if folder is None:
        return []
    folder.write_split(split)
    return folder.write_environment(device, products=products)


def _result(training: Training, config: dict[str, Any]) -> dict[str, Any]:
    """What came out, with everything that a reader of the number should know."""
    recipe = training.recipe
    flags = {
        "selection": training.options.select,
        "precision": training.options.precision,
        "extra_images": False,
        "unlabelled_test_images": False,
        "external_models": [],
        "augmentation": _augments(recipe),
        "views": training.feed.views,
        **recipe.flags,
        **({"narrow": [asdict(one) for one in recipe.narrow]} if recipe.narrow else {}),
        # What was really chosen, and on how many images, takes the place of what the recipe may do.
        **({} if training.position.chosen is None else {"validation_images": training.position.chosen}),
    }
    return jsonable(
        {
            "method": recipe.method,
            "data": config["data"],
            "backbone": config["backbone"]["name"],
            "seed": config["seed"],
            "learnables": sum(p.numel() for p in recipe.adapter.trainable().values()),
            "train_images": len(training.feed.data.train),
            "notes": once(training.feed.data.notes, training.position.notes),
            "seconds": training.position.whole_seconds,
            "selected": training.position.selected,
            "continues": training.position.continues,
            **({"budget": _spent(training.position)} if training.position.counted else {}),
            "flags": flags,
            **({"plugins": recipe.plugins} if recipe.plugins else {}),
            "evaluations": {},
        }
    )


def _augments(recipe: Recipe) -> bool | None:
    """Whether training images are cropped and flipped at random; None if none are looked at."""
    looking = [stage for stage in recipe.stages if stage.optimiser is not None or "train" in stage.observe]
    return any(stage.augment for stage in looking) if looking else None


def _spent(position: Position) -> dict[str, Any]:
    """What the run took, on all processes together but for the memory, which is that of the first."""
    return {
        "steps": position.steps_taken,
        "images": position.images_seen,
        "seconds": position.whole_seconds,
        "peak_memory_bytes": position.peak_memory,
    }


def _finish(folder: RunFolder, recipe: Recipe, result: dict[str, Any]) -> None:
    adapter = recipe.adapter
    save_adapter(
        folder.path,
        adapter,
        method=recipe.method,
        config=recipe.config,
        classes=jsonable(adapter.trained_classes),
        **({"plugins": jsonable(recipe.plugins)} if recipe.plugins else {}),
    )
    # Last: a folder with a result is a finished run.
    folder.write_result(result)


@contextmanager
def _reporter(
    group: Processes,
    folder: RunFolder | None,
    progress: str | Progress | None,
    log: Callable[[str], None] | None,
    trackers: Sequence[str | Tracker],
    config: dict[str, Any],
) -> Iterator[Reporter]:
    """Where the run speaks; an error leaves its sentence in the log."""
    if group.main:
        opened = open_trackers(trackers, None if folder is None else folder.path, config)
        reporter = Reporter(open_progress(progress), folder, log, opened)
    else:
        reporter = Reporter(None)
    try:
        yield reporter
    except Exception as error:
        # If the log cannot be written either, the error itself has to do.
        with suppress(OSError):
            reporter.say(f"Stopped: {error}")
        raise
    finally:
        reporter.close()


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the caller's random generators as they were, and make CUDA's kernels repeatable while training."""
    cuda = device.type == "cuda"
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if cuda else []):
        if cuda:
            # Read by cuBLAS when it starts; one of the two settings with which it repeats itself.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)

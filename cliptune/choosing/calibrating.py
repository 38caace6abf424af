"""A finished run's calibration, on training images that other adapters like its own were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.calibration import Calibration, fit_temperature, true_scores
from cliptune.choosing.folds import FOLDS, Folds, held_out, stratified_folds
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset, Split
from cliptune.data.metrics import accuracy, expected_calibration_error
from cliptune.noted import few
from cliptune.protocols.scoring import own_images
from cliptune.protocols.training import evaluation_options, train
from cliptune.registry.plugins import found_again
from cliptune.runs import RunSpec, read_adapter_config, read_result
from cliptune.runs.calibrations import write_calibration
from cliptune.runs.folder import read_images
from cliptune.runs.loading import opened
from cliptune.runs.manifest import check_whole
from cliptune.training import SharedImages, evaluate

CHEAP_FOLDS = 10
"""Parts where towers stay as they are and every image is embedded once: all that is fitted anew is a head."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOut:
    """Answers to training images by adapters that were not trained on them.

    Args:
        logits: (N, C) float32. labels: (N,).
        spread: (N,) of the adapter that answered, see `spread_of`.
        parts: in which they were held out, each once.
        notes: what could not be held out, a sentence each.
    """

    logits: Tensor
    labels: Tensor
    spread: Tensor
    parts: int
    notes: tuple[str, ...] = ()

    def calibration(self, spread: float) -> Calibration:
        """What they say of the adapter that is trained on all of the images.

        Methods that choose a strength for themselves may choose another in every part, and with it logits that are many
        times as large. So the temperature is fitted in units of the spread that an adapter's own logits have on the
        images that it was trained on, which all adapters have.

        Args:
            spread: of that adapter, see `spread_of`.
        """
        relative = self.logits.double() / self.spread.double()[:, None]
        temperature = fit_temperature(relative, self.labels)
        return Calibration(
            temperature * spread,
            true_scores(relative, self.labels, temperature),
            self.parts,
            accuracy(self.logits.argmax(-1), self.labels),
            expected_calibration_error(relative / temperature, self.labels),
            expected_calibration_error(self.logits, self.labels),
            self.notes,
        )


def spread_of(logits: Tensor) -> float:
    """Mean over images of the deviation of their logits (N, C) from one another; 1 where there is none."""
    spread = float(logits.double().std(dim=-1, correction=0).mean())
    return spread if spread > 0 else 1.0


def held_out_answers(
    method: str,
    clip: CLIP,
    data: Dataset,
    *,
    seed: int = 1,
    folds: int = FOLDS,
    options: Mapping[str, Any] | None = None,
    shared: SharedImages | None = None,
    say: Say | None = None,
    **training: Any,
) -> HeldOut:
    """Hold every training image out once, train on the others, and answer it. Test images are not looked at.

    Args:
        method: a host with add-ons.
        clip: the frozen backbone.
        data: sampled, and cut to its classes.
        seed: of the parts, and of every training.
        folds: parts, at least 2; there are fewer where no class has so many images.
        options: of the method.
        shared: images that were seen before.
        say: gets a line for every part.
        training: further arguments of `train`.
    Raises: ValueError if no class has two training images, or an image is there twice.
    """
    cut = stratified_folds(data.train.labels.tolist(), seed, folds)
    _check(data, cut)
    how = {**training, "shared": shared or SharedImages()}
    logits: dict[int, Tensor] = {}
    spreads: dict[int, float] = {}
    for fold, held in enumerate(cut.held):
        if say is not None:
            say(f"Part {fold + 1} of {len(cut.held)}: {len(data.train) - len(held)} images are trained on")
        part = held_out(data, cut, fold, seed)
        run = train(
            method, clip, part, protocol="calibration", seed=seed, options=options, **{"progress": "silent", **how}
        )
        known, answers = (_logits(run.adapter, split, how) for split in (part.train, part.test))
        logits |= dict(zip(held, answers, strict=True))
        spreads |= dict.fromkeys(held, spread_of(known))
    scored = cut.scored
    return HeldOut(
        torch.stack([logits[position] for position in scored]),
        data.train.labels[scored],
        torch.tensor([spreads[position] for position in scored], dtype=torch.float64),
        len(cut.held),
        _alone(data, cut),
    )


def calibrate(
    folder: str | Path,
    *,
    clip: CLIP | None = None,
    device: torch.device | str | None = None,
    root: str | None = None,
    folds: int | None = None,
    workers: int = 0,
    shared: SharedImages | None = None,
    say: Say | None = None,
) -> Calibration:
    """Calibrate a finished run, whose adapter stays as it is, and keep that beside it.

    An adapter's answers to its own training images are too sure. So the run's training is repeated without a part of
    them, each part once, and the answers to what was held out give a temperature and the scores of prediction sets.
    Test images have no part in it.

    Args:
        folder: of the run.
        clip: its backbone; None opens the one that the run names.
        device: None takes a CUDA card if there is one.
        root: where its data lie now, if they were moved.
        folds: parts; None for 10 where only a head is fitted to embeddings that are computed once, else 5.
        workers: processes that read images.
        shared: images that were seen before.
        say: gets a line for every part.
    Returns: the calibration, which `cliptune.load` gives the adapter from then on.
    Raises: ValueError if the run is damaged, was not trained here, chose its epoch on test images, has other data now,
        or no class with two training images; FileNotFoundError if it is not finished, or its data or backbone are gone.
    """
    folder = Path(folder).expanduser()
    result = read_result(folder)
    if result is None:
        raise FileNotFoundError(f"calibrate: {folder} holds no finished run. Give the folder of one.")
    check_whole(folder)
    if result.get("source") is None:
        raise ValueError(
            f"calibrate: {folder} was converted or trained on data in memory, so its training cannot be repeated on "
            "parts of its images. Train with `cliptune fit` or `cliptune train`."
        )
    spec = RunSpec.read(folder)
    if spec.training.get("select") == "oracle":
        raise ValueError(
            f"calibrate: {folder} chose its epoch on test images, which held-out images cannot stand for. Train with "
            "--select last."
        )
    adapter = opened(folder, f"Run folder {folder}", clip)
    if adapter.head.order is not None:
        raise ValueError(
            f"calibrate: the run in {folder} answers an image by those that came before it, and the few that are held "
            "out are another stream than those it will be asked about. Calibrate another method's run."
        )
    data = _as_trained(folder, root)
    method = found_again(spec.method, read_adapter_config(folder).get("plugins", {}), f"Run folder {folder}")
    how = {"device": device, "workers": workers, "shared": shared or SharedImages(), **spec.training}
    told = held_out_answers(
        method,
        adapter.clip,
        data,
        seed=spec.seed,
        folds=folds or (CHEAP_FOLDS if _is_cheap(adapter) else FOLDS),
        options=spec.options,
        say=say,
        classes=adapter.trained_classes,
        **how,
    )
    adapter.to(adapter.clip.device)  # which the trainings have moved
    spread = spread_of(_logits(adapter, data.train, how))
    chosen = (_CHOSEN,) if result["flags"].get("method_chosen") else ()
    calibration = replace(told.calibration(spread), notes=(*told.notes, *chosen))
    write_calibration(folder, calibration)
    return calibration


_CHOSEN = (
    "The method was chosen on the images that calibrate it, so their answers are a little better than those to other "
    "images."
)


def _logits(adapter: Adapter, split: Split, how: Mapping[str, Any]) -> Tensor:
    """(N, C)"""
    scoring = evaluation_options({**how, "progress": "silent"})
    answers = evaluate(adapter, split, **scoring, keep_logits=True, keep_predictions=False).logits
    assert answers is not None
    return answers


def _is_cheap(adapter: Adapter) -> bool:
    return adapter.image_is_frozen and adapter.text_is_frozen


def _as_trained(folder: Path, root: str | None) -> Dataset:
    """The run's data with the images that it learned from. Raises: ValueError if they are others now."""
    own = own_images(folder, "train", root=root)
    learned = [(name, label) for name, label, _ in (read_images(folder) or {"train": []})["train"]]
    here = list(zip(own.images.ids, own.images.labels.tolist(), strict=True))
    if here != learned:
        raise ValueError(
            f"calibrate: the training images of {own.dataset.name} are not those that the run in {folder} learned "
            "from. Put them back, or make the run anew."
        )
    return replace(own.dataset, train=own.images)


def _check(data: Dataset, cut: Folds) -> None:
    if not cut.held:
        raise ValueError(
            f"calibrate: no class of {data.name} has two training images, so none can be held out while its class is "
            "learned from the other. Train on two or more images of a class."
        )
    if len(set(data.train.ids)) < len(data.train):
        raise ValueError(
            f"calibrate: some training images of {data.name} are there more than once, so that holding one out does "
            "not hide it. Train without repeating them."
        )


def _alone(data: Dataset, cut: Folds) -> tuple[str, ...]:
    if not cut.always:
        return ()
    names = [repr(data.class_names[int(data.train.labels[position])]) for position in cut.always]
    return (
        "Classes with one training image, which is always trained on, so that the calibration knows nothing of answers "
        f"to images of them: {few(names)}.",
    )

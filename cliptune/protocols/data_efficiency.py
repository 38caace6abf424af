"""Learning from a fraction of the training set, chosen by what a model says about it.  (arXiv:2508.00395, Sec. 4)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset, Split
from cliptune.data.selection import SELECTIONS, Pool, budget, select
from cliptune.features import FeatureStore, View, opened
from cliptune.features.passes import in_order
from cliptune.protocols.training import class_set, evaluation_options, score, train
from cliptune.registry import build
from cliptune.runs.folder import read_images
from cliptune.training import fit

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of the training set in the paper's comparison."""

_BATCH = 50


def data_efficient(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    *,
    fraction: float = 0.1,
    selection: str = "uniform",
    seed: int = 1,
    selector: str = "maple",
    selector_options: Mapping[str, Any] | None = None,
    selector_epochs: int = 0,
    parity: bool = False,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train on a share of each class of the whole training split, score on the whole test split.

    Args:
        method: a host with add-ons, such as "maple+dapt".
        clip: the frozen backbone.
        dataset: whole, before any sampling or cut.
        fraction: share of each class that is kept, 0 < fraction ≤ 1.
        selection: one of `cliptune.data.selection.SELECTIONS`.
        seed: of the selection, the start, the order and augmentation.
        selector: method whose adapter judges the images; one text per class, one view per image.
        selector_options: of that method.
        selector_epochs: epochs on the whole training split before it judges; 0 judges at its initial state. Forgetting
            needs at least 2, and looks at the training images after each.
        parity: selection rules as the released code has them, see `select`.
        out: the run's folder; the same call goes on with an unfinished run, and returns a finished one.
        options: of the method.
        source: arguments of `load_data` that open the data set again.
        training: further arguments of `fit`.
    Returns: the run's result, with the evaluation "test" and, under "kept", what was chosen and how.
    Raises: ValueError for a selection, fraction or selector that cannot work, or a data set without test images.
    """
    check_request(fraction, selection, selector_epochs)
    if dataset.sampling is not None or dataset.classes != "all":
        raise ValueError(
            f"data_efficient: {dataset.name} is sampled or cut already; a fraction is chosen from the whole training "
            "split. Give the whole data set."
        )
    if not len(dataset.test):
        raise ValueError(f"data_efficient: {dataset.name} has no test images to score on. Add some.")
    how = {
        "fraction": fraction,
        "selection": selection,
        "seed": seed,
        "selector": None if selection == "uniform" else selector,
        "selector_epochs": selector_epochs,
        "parity": parity,
        **({"selector_options": dict(selector_options)} if selector_options else {}),
    }
    # A run that is to be replaced may be of another backbone, and have been judged by it.
    kept = None if training.get("overwrite") else _kept_before(out, dataset, how)
    if kept is None:
        if selection == "uniform":  # looks at labels alone
            labels, c = dataset.train.labels, len(dataset.class_names)
            pool, val, correct = _blank(labels, c), None, None
        else:
            pool, val, correct = _judged(
                clip, dataset, selector, selector_options or {}, selector_epochs, seed, selection, training
            )
        kept = select(selection, pool, fraction, seed=seed, val=val, correct=correct, parity=parity)
    data = dataset.with_picks(kept, range(len(dataset.val)), how)
    run = train(
        method,
        clip,
        data,
        protocol="data_efficient",
        seed=seed,
        out=out,
        options=options,
        source=source,
        **training,
    )
    if selection == "glister" and not len(dataset.val) and "kept" not in run.result:
        run.note(f"data_efficient: {dataset.name} has no validation images, so glister looked at the training images.")
    run.result["kept"] = {**how, "images": len(kept), "of": len(dataset.train)}
    score(run, "test", data.test, **evaluation_options(training))
    if run.folder is not None:
        run.folder.write_result(run.result)
    return run.result


def check_request(fraction: float, selection: str, selector_epochs: int = 0) -> None:
    """Raises: ValueError for a selection, a fraction or a number of epochs that cannot work on any data set."""
    if selection not in SELECTIONS:
        raise ValueError(f"data_efficient: selection must be one of {', '.join(SELECTIONS)}, got {selection!r}.")
    budget(1, fraction)  # refuses a fraction out of range before anything runs
    if selection == "forgetting" and selector_epochs < 2:
        raise ValueError(
            "data_efficient: forgetting counts images that training gets right and then wrong, so selector_epochs must "
            f"be at least 2, got {selector_epochs}."
        )


def judge(adapter: Adapter, split: Split, store: FeatureStore | bool = True) -> Pool:
    """What an adapter says about every image of a split, with the test transform.

    Args:
        store: of embeddings, as in `fit`.
    Raises: ValueError if it has several texts per class, several views per image, or texts that depend on the image.
    """
    logits, images, texts = [], [], None
    with adapter.evaluating(), torch.no_grad():
        texts = adapter.text_features()
        view, frozen = View(adapter.resolution, adapter.clip.preprocessing), adapter.image_is_frozen
        for batch, known in in_order(adapter.clip, split, view, _BATCH, frozen=frozen, store=opened(store)):
            out = adapter(batch, text_features=texts, image_embedding=known)
            fits = out.image_features.shape[1] == 1 and out.text_features.shape[:2] == (1, len(adapter.class_names))
            if texts is None or not fits:
                raise ValueError(
                    "data_efficient: the selector must have one text per class that does not depend on the image, and "
                    "one view per image. Use maple, ivlp, coop or zeroshot."
                )
            logits.append(out.logits.float().cpu())
            images.append(out.image_features[:, 0].float().cpu())
    if texts is None:
        raise ValueError("data_efficient: there are no training images to choose from.")
    return Pool(torch.cat(logits), split.labels, torch.cat(images), texts[0].float().cpu())


def _kept_before(out: str | Path | None, dataset: Dataset, how: Mapping[str, Any]) -> list[int] | None:
    """Positions that the run in `out` kept in the same way, so that nothing is judged twice; None if not known."""
    split = None if out is None else read_images(out)
    if split is None:
        return None
    position = {name: i for i, name in enumerate(dataset.train.ids)}
    same = split["split_sha256"] == dataset.split_sha256 and split["sampling"] == how
    if not same or len(position) < len(dataset.train):
        return None
    return [position[name] for name, _, _ in split["train"]]


def _judged(
    clip: CLIP,
    dataset: Dataset,
    selector: str,
    options: Mapping[str, Any],
    epochs: int,
    seed: int,
    selection: str,
    training: Mapping[str, Any],
) -> tuple[Pool, Pool | None, torch.Tensor | None]:
    """The selector's word on train and val, and which training images it had right after each epoch (E, N)."""
    right: list[torch.Tensor] = []
    store = training.get("store", True)

    def watch(adapter: Adapter, epoch: int, epochs: int) -> None:
        pool = judge(adapter, dataset.train, store)
        right.append(pool.logits.argmax(-1) == pool.labels)

    recipe = build(
        selector, clip, class_set(dataset), seed=seed, **{**options, **({"epochs": epochs} if epochs else {})}
    )
    if epochs:
        for stage in recipe.stages:
            if selection == "forgetting":
                stage.after_epoch = (*stage.after_epoch, watch)
        fit(recipe, dataset, seed=seed, device=training.get("device"), progress="silent")
    elif training.get("device") is not None:
        recipe.adapter.to(training["device"])
    val = judge(recipe.adapter, dataset.val, store) if selection == "glister" and len(dataset.val) else None
    return judge(recipe.adapter, dataset.train, store), val, torch.stack(right) if right else None


def _blank(labels: torch.Tensor, classes: int) -> Pool:
    """A pool that knows only the labels."""
    return Pool(torch.zeros(len(labels), classes), labels, torch.zeros(len(labels), 1), torch.zeros(classes, 1))

"""Foreground masks that are given: exact ones of drawn pictures, and files beside the pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cliptune import methods
from cliptune.batch import Batch
from cliptune.data.items import Dataset, Item, Split
from cliptune.data.masks import ExactMasks
from cliptune.data.tinyworld.suites import load_suite, masks_of
from cliptune.registry import build
from cliptune.training import fit
from tests.training.support import NAMES, squares
from tests.training.test_fit import StopAfter, same


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    """Three classes of Tinyworld's objects, four training pictures each."""
    whole = load_suite("objects", train=4, val=1, test=1)
    parts = {name: whole[name].relabelled([0, 1, 2]) for name in ("train", "val", "test")}
    return replace(whole, class_names=whole.class_names[:3], **parts)


@pytest.fixture
def filed(tmp_path: Path) -> Dataset:
    """The coloured squares as files in `pictures`, each with a mask of its left half in `masks`."""
    data, items = squares(), []
    for i, item in enumerate(data.train.items):
        path = Path(item.class_name) / f"{i}.png"
        for root in ("pictures", "masks"):
            (tmp_path / root / path).parent.mkdir(parents=True, exist_ok=True)
        data.train.image(i).save(tmp_path / "pictures" / path)
        Image.fromarray(left_half()).save(tmp_path / "masks" / path)
        items.append(Item(path.as_posix(), item.label, item.class_name))
    return replace(data, train=Split.of_files(tmp_path / "pictures", items))


def left_half() -> np.ndarray:
    mask = np.zeros((36, 36), np.uint8)
    mask[:, :18] = 1
    return mask


def masked(clip, names, source, **options):
    defaults = {"epochs": 2, "batch_size": 4, "lr": 0.05, "dapt_gate": 0.5, "dapt_words": 3}
    return build("maple+dapt", clip, names, seed=3, dapt_source=str(source), **{**defaults, **options})


def test_exact_masks_of_the_very_views_are_what_the_terms_see(tiny_clip, drawn):
    recipe = masked(tiny_clip, drawn.class_names, "exact", epochs=1)
    stage, seen = recipe.stages[0], []
    loss = stage.objective

    def spy(out, batch, progress):
        seen.append((out, batch))
        return loss(out, batch, progress)

    spy.needs = loss.needs
    stage.objective = spy
    fit(recipe, drawn, progress="silent")
    assert len(seen) == 3
    for out, batch in seen:
        assert torch.equal(out.extras["decoupled"].masks, batch.masks)
        assert batch.masks.shape == (4, 1, 32, 32)
        # The share of the foreground is that of the crop, not of the whole picture.
        whole = masks_of(drawn.train, batch.index).float().mean(dim=(1, 2))
        assert not torch.allclose(batch.masks.mean(dim=(1, 2, 3)), whole)


@pytest.mark.parametrize("steps", [2, 4])
def test_a_cut_run_equals_a_whole_one(tiny_clip, drawn, tmp_path, steps):
    def run(out: str, progress="silent"):
        recipe = masked(tiny_clip, drawn.class_names, "exact")
        return fit(recipe, drawn, tmp_path / out, progress=progress, save_every=0.0)

    whole = run("whole")
    assert [set(line["parts"]) for line in whole.metrics] == [{"ce", "pull_push"}, {"ce", "foreground", "background"}]
    with pytest.raises(KeyboardInterrupt):
        run("cut", StopAfter(steps))
    same(run("cut").adapter.learnables(), whole.adapter.learnables())


def test_masks_matter(tiny_clip, drawn, monkeypatch):
    exact = fit(masked(tiny_clip, drawn.class_names, "exact"), drawn, progress="silent").adapter.learnables()
    turned = ExactMasks.mask
    upside_down = lambda *given: turned(*given).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    monkeypatch.setattr(ExactMasks, "mask", upside_down)
    other = fit(masked(tiny_clip, drawn.class_names, "exact"), drawn, progress="silent").adapter.learnables()
    assert any(not torch.equal(value, other[name]) for name, value in exact.items())


def test_files_train_alike_with_workers_and_in_pieces(tiny_clip, filed, tmp_path):
    plain, workers, pieces = (
        fit(masked(tiny_clip, NAMES, tmp_path / "masks"), filed, progress="silent", **how)
        for how in ({}, {"workers": 2}, {"accumulate": 2})
    )
    same(plain.adapter.learnables(), workers.adapter.learnables())
    for name, value in plain.adapter.learnables().items():
        torch.testing.assert_close(value, pieces.adapter.learnables()[name], rtol=1e-3, atol=1e-5)
    assert plain.result["flags"]["external_models"] == [f"masks: {tmp_path / 'masks'}"]


def test_bad_mask_files_are_told_before_or_when_they_are_read(tiny_clip, filed, tmp_path):
    recipe = lambda: masked(tiny_clip, NAMES, tmp_path / "masks")
    path = tmp_path / "masks" / filed.train[4].path
    for values, sentence in (
        (left_half()[:20], "has 36 × 20 pixels, but picture .* has 36 × 36"),
        (left_half() * 0, "marks no foreground"),
        (left_half() * 255, "255 means 'ignore'"),
        (left_half() * 0 + 1, "marks everything as foreground"),
    ):
        Image.fromarray(values).save(path)
        for workers in (0, 1):
            with pytest.raises(ValueError, match=sentence):
                fit(recipe(), filed, progress="silent", workers=workers)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"picture {filed.train[4].path} has no mask"):
        fit(recipe(), filed, progress="silent")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(masked(tiny_clip, NAMES, tmp_path / "elsewhere"), filed, progress="silent")
    with pytest.raises(ValueError, match="exact masks are known only for pictures that are drawn here"):
        fit(masked(tiny_clip, NAMES, "exact"), filed, progress="silent")
    with pytest.raises(ValueError, match="got an empty name"):
        masked(tiny_clip, NAMES, "")


def test_a_batch_without_masks_is_refused(tiny_clip, images):
    recipe = masked(tiny_clip, NAMES, "exact")
    batch = Batch.of(images, torch.tensor([0, 2, 1]))
    objective = recipe.stages[0].objective
    with pytest.raises(ValueError, match="the batch holds no masks"):
        objective(recipe.adapter(batch, needs=objective.needs), batch, 0.0)


def test_given_masks_need_no_patches(tiny_resnet):
    """Grad-CAM reads a ViT; masks from elsewhere serve any tower."""
    recipe = methods.build("coop+dapt", tiny_resnet, NAMES, dapt_source="exact")
    assert recipe.stages[0].masks == "exact"


def test_the_second_stage_of_dpc_asks_for_masks_only_if_pull_push_stays(tiny_clip, drawn, tmp_path):
    options = {"dapt_source": "exact", "dpc_negatives": 2, "epochs": 1, "dpc_epochs": 1}
    recipe = build("maple+dpc+dapt", tiny_clip, drawn.class_names, **options)
    assert [stage.masks for stage in recipe.stages] == ["exact", None]
    recipe = build("maple+dpc+dapt", tiny_clip, drawn.class_names, dpc_pull_push=True, **options)
    assert [stage.masks for stage in recipe.stages] == ["exact", "exact"]
    run = fit(recipe, drawn, tmp_path / "run", progress="silent")
    assert [set(line["parts"]) for line in run.metrics] == [{"ce", "pull_push"}, {"contrast", "pull_push"}]

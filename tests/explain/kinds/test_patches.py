"""`prompt-patches` of finished runs."""

from __future__ import annotations

import torch

from cliptune.explain import explain


def test_patches_of_a_run_with_masks_and_crops(opened):
    run = opened("maple", images=20, depth=2)
    answer = explain(run, ["prompt-patches"])["prompt-patches"]
    layers = answer.found.similarity.layers
    assert set(layers) == {0, 1}
    assert all(layer.difference is not None for layer in layers.values())  # Tinyworld knows its objects
    assert list(answer.pictures) == ["maps", "nearest", "background"]
    assert "crops" not in answer.to_json()["found"]
    # The middle of a crop is the patch itself.
    near, size = layers[1].nearest[0][0], run.adapter.clip.config.patch
    batch = next(iter(run.batches()))
    patch = batch.images[near.image, :, near.row * size :, near.column * size :][:, :size, :size]
    torch.testing.assert_close(answer.found.crops[1][0, 0][:, size : 2 * size, size : 2 * size], patch)


def test_text_prompts_are_like_no_patch(opened):
    assert (
        "No learned tokens enter the image tower"
        in explain(opened("coop"), ["prompt-patches"])["prompt-patches"].why_not
    )

"""Maps against the formulas written out, and scores of maps of which the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from cliptune.analysis.foreground import foreground, on_foreground
from cliptune.analysis.looking import class_map, look
from cliptune.analysis.record import record
from cliptune.batch import Batch
from cliptune.registry import build
from cliptune.saliency import iou
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES


@pytest.fixture
def batch(images):
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 8:24, :16] = 1
    return Batch(images, torch.tensor([3, 0, 3]), torch.arange(3), masks)


def test_score_is_the_sum_over_cells(batch):
    maps = torch.rand(3, 4, 4)
    on, chance, hit = on_foreground(maps, batch.masks)
    for i in range(3):
        cells = [(r, c) for r in range(4) for c in range(4)]
        m = {(r, c): float(batch.masks[i, 0, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8].mean()) for r, c in cells}
        w = {cell: float(maps[i][cell]) for cell in cells}
        assert float(on[i]) == pytest.approx(sum(m[x] * w[x] for x in cells) / sum(w.values()))
        assert float(chance[i]) == pytest.approx(0.25)
        assert float(hit[i]) == m[max(cells, key=lambda x: w[x])]


def test_an_even_map_is_at_chance_and_the_mask_itself_at_one(batch):
    on, chance, _ = on_foreground(torch.ones(3, 4, 4), batch.masks)
    torch.testing.assert_close(on, chance)
    on, _, hit = on_foreground(batch.masks[:, 0, ::8, ::8], batch.masks)
    assert on.tolist() == hit.tolist() == [1.0, 1.0, 1.0]
    assert bool(on_foreground(torch.zeros(3, 4, 4), batch.masks)[0].isnan().all())


def test_attention_is_that_of_the_last_class_token(tiny_clip, batch):
    adapter = learned(tiny_clip, "ivlp", depth_text=2, depth_image=2)
    with record(adapter, image=[2]) as recording:
        adapter(batch)
    weights = recording.attention["image", 2].weights  # (3, 1, 5, 19, 19): class, 16 patches, 2 prompts
    found = look(adapter, batch, "attention")
    for r, c in ((0, 0), (1, 3), (3, 2)):
        torch.testing.assert_close(found[:, r, c], weights[:, 0, :, 0, 1 + 4 * r + c].mean(dim=1))


def test_rollout_is_the_product_where_prompts_are_put_in_once(tiny_clip, batch):
    adapter = learned(tiny_clip, "vpt", depth=1)
    with record(adapter, image=[0, 1, 2]) as recording:
        adapter(batch)
    for i in range(3):
        flow = None
        for layer in range(3):
            mean = recording.attention["image", layer].weights[i, 0].mean(dim=0)
            step = (mean + torch.eye(len(mean))) / 2
            flow = step if flow is None else step @ flow
        torch.testing.assert_close(look(adapter, batch, "rollout")[i].flatten(), flow[0, 1:17])


def test_rollout_of_replaced_prompts_forgets_what_they_took(tiny_clip, batch):
    adapter = learned(tiny_clip, "vpt", depth=3)
    with record(adapter, image=[0, 1, 2]) as recording:
        adapter(batch)
    # paths through class token and patches alone, since whatever a prompt row took is thrown away with it
    flow = None
    for layer in range(3):
        mean = recording.attention["image", layer].weights[0, 0].mean(dim=0)
        step = ((mean + torch.eye(len(mean))) / 2)[:17, :17]
        flow = step if flow is None else step @ flow
    torch.testing.assert_close(look(adapter, batch, "rollout")[0].flatten(), flow[0, 1:])


@pytest.mark.parametrize("target", ["true", "predicted"])
def test_class_map_of_a_vit_is_per_image(tiny_clip, batch, target):
    adapter = learned(tiny_clip, "ivlp", depth_text=2, depth_image=2)
    together = class_map(adapter, batch, target)
    alone = torch.cat([class_map(adapter, batch[i : i + 1], target) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert together.shape == (3, 4, 4)
    assert tiny_clip.image.watch is None


def test_class_map_of_a_resnet_is_its_definition(tiny_resnet):
    adapter = build("coop", tiny_resnet, CLASS_NAMES).adapter.eval()
    batch = Batch.of(torch.rand(2, 3, 64, 64), torch.tensor([1, 4]))
    found = class_map(adapter, batch)
    tower, kept = tiny_resnet.image, []
    hook = tower.layer4.register_forward_hook(lambda _, __, out: kept.append(out.requires_grad_()) or out)
    logits = adapter(batch).logits
    hook.remove()
    for i, label in enumerate((1, 4)):
        (gradient,) = torch.autograd.grad(logits[i, label], kept[0], retain_graph=True)
        cam = sum(gradient[i, k].mean() * kept[0][i, k] for k in range(kept[0].shape[1])).relu()
        torch.testing.assert_close(found[i], cam.detach(), rtol=1e-4, atol=1e-4)
    assert not tower.layer4._forward_hooks


def test_foreground_groups_images_by_the_adapters_answers(tiny_clip, batch):
    adapter = learned(tiny_clip, "ivlp", depth_text=2, depth_image=2)
    found = foreground(adapter, [batch[:2], batch[2:]])
    assert set(found.looks) == {"attention", "rollout", "grad-cam"}
    right = adapter(batch).logits.argmax(-1) == batch.labels
    expected = on_foreground(look(adapter, batch, "attention"), batch.masks)[0]
    after = found.looks["attention"]["after"]
    assert after["all"].on_foreground == pytest.approx(float(expected.mean()))
    assert after["right"].n + after["wrong"].n == after["all"].n == 3
    assert after["right"].n == int(right.sum())
    assert found.looks["attention"]["before"]["all"].on_foreground != after["all"].on_foreground
    assert 0 <= found.iou["after"] <= 1
    assert "times chance" in found.sentence()
    empty = found.looks["attention"]["after"]["right" if not right.any() else "wrong"]
    assert empty.n or math.isnan(empty.lift)


def test_no_masks_and_patterns_on_pixels_are_sentences(tiny_clip, batch, images):
    with pytest.raises(ValueError, match="not known where the objects are"):
        foreground(learned(tiny_clip, "vpt"), [Batch.of(images, batch.labels)])
    with pytest.raises(ValueError, match="draws on the pixels"):
        foreground(build("vp", tiny_clip, CLASS_NAMES).adapter, [batch])


def test_iou_counts_pixels():
    a, b = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    a[0, :2], b[0, 1:3] = 1, 1
    assert iou(a, b).tolist() == pytest.approx([1 / 3, 1.0])
    with pytest.raises(ValueError, match="one size"):
        iou(a, torch.zeros(2, 5, 4))

"""The pre-training of `mini`: resuming, loss, optimiser, what is withheld."""

import math
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import mini_world  # noqa: E402
import pretrain_mini  # noqa: E402
from mini_captions import CaptionBatches, contrast  # noqa: E402
from mini_towers import ImageTower, Sizes, TextTower  # noqa: E402
from mini_training import Muon, kept_patches  # noqa: E402

from cliptune.clip.model import CLIP  # noqa: E402
from cliptune.clip.tokenizer import Tokenizer  # noqa: E402
from cliptune.clip.weights.mini import initial_rows, mini_state_dict  # noqa: E402
from cliptune.data.tinyworld.scene import ATTRIBUTES  # noqa: E402


def _same(one, other):
    a, b = torch.load(one, weights_only=True), torch.load(other, weights_only=True)
    assert a["step"] == b["step"]
    assert all(torch.equal(a["tower"][key], b["tower"][key]) for key in a["tower"])


def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, stops in ((whole, [None]), (parts, [1, None])):
        folder.mkdir()
        for stage in (pretrain_mini.train_attributes, pretrain_mini.train_captions):
            for stop in stops:
                stage(folder, 1, 6, 3, stop)
    _same(whole / "attributes.pt", parts / "attributes.pt")
    _same(whole / "captions.pt", parts / "captions.pt")
    pretrain_mini.export(whole, 1, tmp_path / "mini.safetensors")
    clip = CLIP.from_state_dict(mini_state_dict(tmp_path / "mini.safetensors"), "quick_gelu", tokenizer=Tokenizer())
    assert clip.config.image_layers == Sizes().layers
    assert clip.config.text_layers == Sizes().text_layers


def test_training_towers_compute_what_clip_computes():
    sizes, texts = Sizes(), CaptionBatches()
    visual = ImageTower(sizes, torch.Generator().manual_seed(0))
    text = TextTower(sizes, initial_rows(sizes.text_width, 1)[texts.ids], torch.Generator().manual_seed(1))
    tensors = {f"visual.{key}": value for key, value in visual.state_dict().items()} | text.state_dict()
    table = initial_rows(sizes.text_width, 1)
    table[texts.ids] = tensors["token_embedding.weight"]
    clip = CLIP.from_state_dict(tensors | {"token_embedding.weight": table}, "quick_gelu", tokenizer=Tokenizer())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    views = clip.normalise(images)
    with torch.no_grad():
        assert torch.allclose(visual(views)[0], clip.encode_image(views[:, None])[:, 0], atol=1e-4)
        captions = ["a photo of a red star.", "an arrow on the left"]
        assert torch.allclose(text(*texts.encode(captions)), clip.encode_text(clip.tokenize(captions))[0], atol=1e-4)


def test_contrast_shares_the_target_over_all_true_pairs():
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    true = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)
    unit = torch.nn.functional.normalize
    logits = (2.0 * unit(text, dim=1) @ unit(image, dim=1).T).tolist()

    def rows(table, right):
        total = 0.0
        for scores, mask in zip(table, right, strict=True):
            log_sum = math.log(sum(math.exp(s) for s in scores))
            total -= sum((s - log_sum) for s, m in zip(scores, mask, strict=True) if m) / sum(mask)
        return total / len(table)

    flipped = [list(column) for column in zip(*logits, strict=True)]
    expected = (rows(logits, true.tolist()) + rows(flipped, true.T.tolist())) / 2
    assert contrast(image, text, torch.tensor(2.0), true).item() == pytest.approx(expected, abs=1e-5)


def test_muon_takes_nearly_orthogonal_steps():
    p = torch.nn.Parameter(torch.zeros(6, 4))
    p.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    Muon([p], lr=1.0).step()
    step = p.detach() / (0.2 * math.sqrt(6))
    assert (torch.linalg.svdvals(step) - 1).abs().max() < 0.4


def test_patches_on_objects_are_kept_first():
    coverage = torch.zeros(2, 64, 64)
    coverage[:, 16:40, 16:40] = 1.0
    coverage[:, 20:24, 40:44] = 1.0
    kept = kept_patches(coverage, 12, torch.Generator().manual_seed(0))
    on_object = {8 * row + column for row in (2, 3, 4) for column in (2, 3, 4)} | {8 * 2 + 5}
    assert all(on_object <= set(row) for row in kept.tolist())


def test_withheld_things_are_not_shown():
    pictures = mini_world.World(1).pictures(0, 400)
    a = pictures.attributes
    objects = a["kind"] == 0
    assert {ATTRIBUTES["shape"][i] for i in a["shape"][objects].tolist()} == set(mini_world.SHAPES_SEEN)
    assert {ATTRIBUTES["land"][i] for i in a["land"][a["kind"] == 2].tolist()} <= set(mini_world.LANDS_SEEN)
    assert not bool((mini_world.withheld_pair(a["shape"], a["colour"]) & objects).any())
    assert torch.equal(mini_world.World(1).pictures(30, 2).images, pictures.images[30:32])

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cliptune.batch import Batch
from cliptune.data.items import Item, Split
from cliptune.data.masks import ExactMasks, MaskFolder
from cliptune.data.tinyworld.suites import load_suite, masks_of
from cliptune.masking import ByCLIPSeg, ByCommand, ByGradCAM, BySAM, MadeMasks, make_masks, mask_agreement
from cliptune.registry import build
from tests.conftest import CLASS_NAMES
from tests.data.pictures import noise

ITEM = Item("dog/a.jpg", 1, "dog")
BRIGHT = """
import sys
import numpy as np
from PIL import Image
grey = np.asarray(Image.open(sys.argv[1]).convert("L"))
Image.fromarray(((grey > 127) * {value}).astype(np.uint8)).save(sys.argv[2])
"""


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Four pictures, two of which share a stem."""
    names = ("cat/a.jpg", "cat/a.png", "cat/b.jpg", "dog/a.jpg")
    for i, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(i).save(tmp_path / "data" / name)
    return Split.of_files(tmp_path / "data", [Item(name, 0, name[:3]) for name in names])


def left(picture: Image.Image, item: Item) -> np.ndarray:
    return np.arange(picture.width)[None].repeat(picture.height, 0) < picture.width // 2


def test_masks_are_found_again_by_their_pictures(split, tmp_path):
    made = list(make_masks(split, tmp_path / "out", left))
    assert [one.path.relative_to(tmp_path / "out").as_posix() for one in made] == [
        "cat/a.jpg.png",
        "cat/a.png.png",
        "cat/b.png",
        "dog/a.png",
    ]
    masks = MaskFolder(tmp_path / "out")
    masks.check(split)
    for i in range(len(split)):
        mask = np.asarray(masks.mask(split, i, split.image(i).size))
        assert (mask == left(split.image(i), split[i]) * 255).all()


def test_masks_that_are_there_are_kept_and_useless_ones_passed_over(split, tmp_path):
    sometimes = lambda picture, item: left(picture, item) & (item.class_name == "cat")
    first = list(make_masks(split, tmp_path / "out", sometimes))
    assert [one.written for one in first] == [True, True, True, False]
    assert "the mask made of dog/a.jpg marks no foreground" in first[3].error
    assert not first[3].path.exists()
    second = list(make_masks(split, tmp_path / "out", left))
    assert [one.written for one in second] == [False, False, False, True]
    assert all(one.written for one in make_masks(split, tmp_path / "out", left, overwrite=True))


@pytest.mark.parametrize("host", ["zeroshot", "maple", "cocoop"])
def test_grad_cam_is_the_product_of_activation_and_mean_gradient(host, tiny_clip):
    adapter = build(host, tiny_clip, CLASS_NAMES).adapter
    maker, picture = ByGradCAM(adapter, 0.5), noise(3, 50, 40)
    mask = maker(picture, ITEM)
    assert tiny_clip.image.watch is None
    assert mask.shape == (40, 50)
    square = torch.tensor(np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC)) / 255).float().permute(2, 0, 1)
    seen = {}

    def shifted(rows, by=0.0):
        seen["rows"] = rows
        return rows + by

    def logit(by):
        # The gradient of what is added is that of the rows.
        tiny_clip.image.watch = lambda rows: shifted(rows, by)
        try:
            return adapter.eval()(Batch.of(square[None])).logits[0, 1]
        finally:
            tiny_clip.image.watch = None

    logit(0.0)
    rows = seen["rows"]
    shift = torch.zeros_like(rows, requires_grad=True)
    (gradient,) = torch.autograd.grad(logit(shift), shift)
    expected = torch.zeros(4, 4)
    for p in range(16):
        expected[p // 4, p % 4] = float(rows[0, 1 + p].detach() @ gradient[0, 1:17].mean(dim=0))
    expected = expected.relu() if expected.max() > 0 else expected - expected.min()
    large = torch.nn.functional.interpolate(expected[None, None], (40, 50), mode="bilinear", align_corners=True)[0, 0]
    assert (torch.from_numpy(mask) == (large > 0.5 * large.max())).float().mean() > 0.99


def test_grad_cam_says_where_it_cannot_look(tiny_clip, tiny_resnet):
    with pytest.raises(ValueError, match="needs the patches of a ViT"):
        ByGradCAM(build("zeroshot", tiny_resnet, CLASS_NAMES).adapter)
    with pytest.raises(ValueError, match="draws on the pixels"):
        ByGradCAM(build("vp", tiny_clip, CLASS_NAMES).adapter)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        ByGradCAM(build("zeroshot", tiny_clip, CLASS_NAMES).adapter, 1.5)


@pytest.mark.parametrize("value", [1, 255])
def test_any_program_can_make_masks(value, tmp_path):
    script = tmp_path / "with space.py"
    script.write_text(BRIGHT.format(value=value))
    picture = noise(2)
    mask = ByCommand(f"{sys.executable} '{script}' {{image}} {{mask}}")(picture, ITEM)
    assert (mask == (np.asarray(picture.convert("L")) > 127)).all()


def test_a_program_that_fails_is_explained(split, tmp_path):
    python = sys.executable
    for code, sentence in (
        ("import sys; sys.exit('no such model')", "ended with code 1 on dog/a.jpg: no such model"),
        ("pass", "wrote no mask of dog/a.jpg"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ByCommand(f'{python} -c "{code}" {{image}} {{mask}}')(noise(0), ITEM)
    with pytest.raises(OSError, match="no-such-program cannot be started"):
        ByCommand("no-such-program {image} {mask}")(noise(0), ITEM)
    with pytest.raises(ValueError, match="needs {image} and {mask}"):
        ByCommand("segment {image}")
    smaller = "import sys; from PIL import Image; Image.open(sys.argv[1]).resize((5, 4)).save(sys.argv[2])"
    (made, *_) = make_masks(split, tmp_path / "out", ByCommand(f'{python} -c "{smaller}" {{image}} {{mask}}'))
    assert "has 5 × 4 pixels, but picture cat/a.jpg has 23 × 17" in made.error


def test_models_without_transformers_say_what_to_install(monkeypatch, tiny_clip):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"--by clipseg needs .*pip install 'cliptune\[masks\]'"):
        ByCLIPSeg()
    with pytest.raises(ImportError, match=r"--by sam needs .*pip install 'cliptune\[masks\]'"):
        BySAM(ByGradCAM(build("zeroshot", tiny_clip, CLASS_NAMES).adapter))


def test_sam_cuts_out_what_it_rates_best_at_the_peak_of_the_map(tiny_clip, tmp_path):
    """As its own processor would ask it and read it."""
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
    decoder = {"hidden_size": 16, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = transformers.SamConfig(
        vision_config={
            **tower, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "window_size": 2,
            "global_attn_indexes": [1], "num_pos_feats": 8, "mlp_dim": 24, "initializer_range": 0.1,
        },
        prompt_encoder_config=tower,
        mask_decoder_config={**decoder, "attention_downsample_rate": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.SamModel(config).save_pretrained(tmp_path / "model")
    maps = ByGradCAM(build("zeroshot", tiny_clip, CLASS_NAMES).adapter)
    maker, picture = BySAM(maps, str(tmp_path / "model")), noise(2, 50, 40)
    mask = maker(picture, ITEM)
    assert mask.shape == (40, 50)
    assert mask.dtype == bool
    processor = transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    y, x = divmod(int(maps.saliency(picture, ITEM).argmax()), 50)
    asked = processor(picture, return_tensors="pt")
    point = torch.tensor([[[[(x + 0.5) * 64 / 50, (y + 0.5) * 64 / 50]]]])
    with torch.no_grad():
        out = maker.model(pixel_values=asked["pixel_values"], input_points=point)
    (masks,) = processor.post_process_masks(out.pred_masks, asked["original_sizes"], asked["reshaped_input_sizes"])
    expected = masks[0, out.iou_scores[0, 0].argmax()].numpy()
    assert (mask == expected).mean() > 0.98  # the processor rounds to bytes after resizing


def test_clipseg_gives_masks_of_the_pictures_size(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPSegConfig(
        text_config=small,
        vision_config={**small, "image_size": 64, "patch_size": 16},
        projection_dim=12,
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        extract_layers=[0, 1],
        conditional_layer=0,
    )
    torch.manual_seed(0)
    transformers.CLIPSegForImageSegmentation(config).save_pretrained(tmp_path / "model")
    maker = ByCLIPSeg(str(tmp_path / "model"))
    picture = load_suite("objects", train=1).train.image(0).resize((70, 50))
    mask = maker(picture, ITEM)
    assert mask.shape == (50, 70)
    assert mask.dtype == bool
    low, high = (ByCLIPSeg(str(tmp_path / "model"), t)(picture, ITEM).sum() for t in (0.001, 0.999))
    assert low >= mask.sum() >= high
    assert low > high


def test_agreement_of_two_sources_is_their_iou(tmp_path):
    split = load_suite("objects", test=1, train=0, val=0).test
    exact = masks_of(split, range(len(split)))
    shifted = MadeMasks(lambda picture, item: np.roll(exact[item.label].numpy(), 4, axis=1))
    found = mask_agreement(split, ExactMasks(), shifted)
    for i in range(len(split)):
        a, b = exact[i].numpy(), np.roll(exact[i].numpy(), 4, axis=1)
        assert float(found.iou[i]) == pytest.approx((a & b).sum() / (a | b).sum())
    assert found.errors == {}
    assert mask_agreement(split, ExactMasks(), ExactMasks()).mean == 1.0


def test_a_picture_without_a_mask_is_told_and_left_out():
    split = load_suite("objects", test=1, train=0, val=0).test
    exact = masks_of(split, range(len(split)))
    empty = MadeMasks(lambda picture, item: exact[item.label].numpy() & (item.label > 0))
    found = mask_agreement(split, ExactMasks(), empty)
    assert list(found.errors) == [split[0].path]
    assert "no foreground" in found.errors[split[0].path]
    assert found.mean == 1.0

"""Foreground masks: read by the field's rule, and cropped and flipped as their pictures are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cliptune.data.images import ImageError
from cliptune.data.items import Item, Split
from cliptune.data.loader import Masking, batches, gather
from cliptune.data.masks import ExactMasks, MaskFolder, open_masks
from cliptune.data.tinyworld.suites import load_suite, masks_of
from cliptune.data.transforms import test_transform as centre_transform
from cliptune.data.transforms import train_transform
from cliptune.preprocessing import Preprocessing
from tests.data.pictures import GOLDEN, noise

SIZE = (23, 17)


def label_map(value: int = 1) -> np.ndarray:
    """(17, 23), with the value in an off-centre box."""
    values = np.zeros((17, 23), np.uint8)
    values[3:11, 2:13] = value
    return values


@pytest.fixture
def pictures(tmp_path: Path) -> Split:
    """Three pictures in class folders under `data`, with masks of value 1 in the same folders under `masks`."""
    items = []
    for i, name in enumerate(("cat", "cat", "dog")):
        for root in ("data", "masks"):
            (tmp_path / root / name).mkdir(parents=True, exist_ok=True)
        noise(i).save(tmp_path / "data" / name / f"{i}.jpg")
        Image.fromarray(label_map()).save(tmp_path / "masks" / name / f"{i}.png")
        items.append(Item(f"{name}/{i}.jpg", i // 2, name))
    return Split.of_files(tmp_path / "data", items)


@pytest.fixture
def folder(tmp_path: Path, pictures: Split) -> MaskFolder:
    return MaskFolder(tmp_path / "masks")


def test_crop_and_flip_of_image_and_mask_equal_the_release():
    """The release interpolates masks bicubically and applies its reading rule afterwards: only edges may differ."""
    golden = load_file(GOLDEN / "dapt_masks.safetensors")
    picture = Image.fromarray(golden["image_hwc_u8"].numpy())
    torch.manual_seed(0)
    assert torch.equal((train_transform(64)(picture) * 255).round().to(torch.uint8), golden["image"])
    for name, value in {"one": 1, "two": 2, "v128": 128, "v255": 255}.items():
        values = np.zeros((61, 97), np.uint8)
        values[15:45, 30:70] = value
        torch.manual_seed(0)
        released = (train_transform(64)(Image.fromarray(values)) * 255).round()
        released = torch.where(released == 255, 0, released.clamp(max=1)).to(torch.uint8)
        assert torch.equal(released, golden[f"mask_{name}"])
    torch.manual_seed(0)
    nearest = train_transform(64, preprocessing=Preprocessing().of_labels)
    ours = nearest(Image.fromarray((values > 0).astype(np.uint8) * 255))
    assert torch.equal(ours.to(torch.uint8), golden["mask_one"])
    assert torch.equal(ours.to(torch.uint8), golden["mask_two"])
    assert (ours != golden["mask_v128"]).float().mean() < 0.01


@pytest.mark.parametrize("augment", [True, False])
def test_masks_follow_their_images(augment):
    """A picture that is its own mask: wherever the view is bright, its mask is 1, in every epoch."""
    values = label_map()
    split = Split.of_images([np.repeat(values[..., None] * 255, 3, axis=2)] * 4, [0] * 4, ["box"])

    class Own:
        def check(self, split):
            pass

        def mask(self, split, i, size):
            return Image.fromarray(values * 255)

    options = {"preprocessing": Preprocessing().of_labels}
    transform = train_transform(16, **options) if augment else centre_transform(16, **options)
    seen = set()
    for epoch in range(3):
        batch = gather(split, range(4), transform, seed=3, epoch=epoch, masking=Masking(Own(), transform))
        assert batch.masks.shape == (4, 1, 16, 16)
        assert torch.equal(batch.images, batch.masks.expand_as(batch.images))
        seen |= {mask.numpy().tobytes() for mask in batch.masks}
    assert len(seen) > 6 if augment else len(seen) == 1


def test_asking_for_masks_changes_no_image(pictures, folder):
    transform = train_transform(16)
    masking = Masking(folder, train_transform(16, preprocessing=Preprocessing().of_labels))
    plain = gather(pictures, [2, 0], transform, seed=1, epoch=2)
    masked = gather(pictures, [2, 0], transform, seed=1, epoch=2, masking=masking)
    assert plain.masks is None
    assert torch.equal(plain.images, masked.images)
    assert masked.masks.unique().tolist() == [0, 1]
    torch.testing.assert_close(masked[1:].masks, masked.masks[1:], rtol=0, atol=0)


def test_masks_do_not_depend_on_workers_or_the_step_that_a_pass_begins_at(pictures, folder):
    masking = Masking(folder, train_transform(16, preprocessing=Preprocessing().of_labels))

    def read(**options):
        given = {"shuffle": True, "seed": 5, "epoch": 1, "masking": masking, "drop_last": False, **options}
        return [batch.masks for batch in batches(pictures, train_transform(16), 1, **given)]

    whole = read()
    assert all(torch.equal(a, b) for a, b in zip(whole, read(workers=2), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], read(start_step=2), strict=True))


@pytest.mark.parametrize("mode", ["values", "rgb", "palette", "bilevel"])
def test_files_are_read_by_their_first_channel_and_stored_values(mode, folder, pictures):
    values, expected = label_map(), label_map() > 0
    values[4, 5], expected[4, 5] = 255, False  # to be ignored
    values[5, 5] = 77
    path = folder.folder / "cat" / "0.png"
    if mode == "values":
        Image.fromarray(values).save(path)
    elif mode == "rgb":
        Image.fromarray(np.stack([values, 255 - values, values], axis=-1)).save(path)
    elif mode == "palette":
        image = Image.fromarray(values, "L").convert("P")
        image.putpalette([0, 0, 0] * 256)
        image.save(path)
    else:
        expected = label_map() > 0
        Image.fromarray(expected).save(path)
    mask = folder.mask(pictures, 0, SIZE)
    assert (np.asarray(mask) == expected * 255).all()


def test_two_pictures_of_one_stem_keep_their_own_masks(folder, pictures):
    other = label_map()[::-1]
    Image.fromarray(other).save(folder.folder / "cat" / "0.jpg.png")
    assert (np.asarray(folder.mask(pictures, 0, SIZE)) == other * 255).all()


def test_exact_masks_are_tinyworlds():
    split = load_suite("objects", train=1, domain="night").train
    masks = open_masks("exact")
    assert isinstance(masks, ExactMasks)
    masks.check(split)
    mask = np.asarray(masks.mask(split, 3, (64, 64)))
    assert (mask == masks_of(split, [3])[0].numpy() * 255).all()


def test_a_mask_of_another_size_is_refused(folder, pictures):
    Image.fromarray(label_map()[:, :20]).save(folder.folder / "dog" / "2.png")
    with pytest.raises(ImageError, match=r"2\.png has 20 × 17 pixels, but picture dog/2\.jpg has 23 × 17"):
        folder.mask(pictures, 2, SIZE)


def test_missing_masks_and_folders_are_named(folder, pictures, tmp_path):
    folder.check(pictures)
    (folder.folder / "cat" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"picture cat/1\.jpg has no mask in .*expected .*1\.png"):
        folder.check(pictures)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_masks(str(tmp_path / "nowhere"))


def test_masks_of_nothing_and_of_everything_are_refused(folder, pictures):
    path = folder.folder / "cat" / "0.png"
    for value, sentence in ((0, "marks no foreground. "), (255, "255 means 'ignore', not 'object'")):
        Image.fromarray(label_map(value)).save(path)
        with pytest.raises(ImageError, match=sentence):
            folder.mask(pictures, 0, SIZE)
    Image.fromarray(np.ones((17, 23), np.uint8)).save(path)
    with pytest.raises(ImageError, match=r"cat/0\.png marks everything as foreground"):
        folder.mask(pictures, 0, SIZE)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"cat/0\.png cannot be decoded"):
        folder.mask(pictures, 0, SIZE)
    with pytest.raises(ImageError, match="marks no foreground"):
        ExactMasks().mask(load_suite("aerial", train=1).train, 0, (64, 64))


def test_exact_masks_are_known_of_drawn_pictures_only(pictures):
    with pytest.raises(ValueError, match="exact masks are known only for pictures that are drawn here"):
        ExactMasks().check(pictures)

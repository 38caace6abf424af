from dataclasses import replace

import pytest
import torch
from PIL import Image

from cliptune.data.images import ImageError
from cliptune.data.items import Item, Split
from cliptune.data.loader import batches
from cliptune.features import FeatureStore, View, embedded
from cliptune.features import embedding as module
from cliptune.preprocessing import Preprocessing

VIEW = View(32, Preprocessing())


@pytest.fixture
def files(tmp_path):
    """Six pictures of 40 × 36 pixels; the last has the content of the first."""
    draw = torch.Generator().manual_seed(3)
    for i in range(5):
        pixels = torch.randint(0, 256, (40, 36, 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "0.png").read_bytes())
    return Split.of_files(tmp_path, [Item(f"{i}.png", i % 2, "ab"[i % 2]) for i in range(6)])


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@pytest.mark.parametrize("view", [VIEW, replace(VIEW, augmented=(7, 2)), replace(VIEW, resize_first=True)])
def test_bits_are_those_without_a_store(tiny_clip, files, store, view):
    plain = embedded(tiny_clip, files, view)
    assert plain.shape == (6, 1, 16)
    assert torch.equal(embedded(tiny_clip, files, view, store=store), plain)
    assert torch.equal(embedded(tiny_clip, files, view, store=store), plain)
    seed, epoch = view.augmented or (0, 0)
    images = next(batches(files, view.transform, 6, shuffle=False, seed=seed, epoch=epoch)).images
    direct = tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])
    torch.testing.assert_close(plain, direct, atol=1e-5, rtol=1e-5)


def test_a_picture_passes_the_tower_once(tiny_clip, files, store, computed):
    embedded(tiny_clip, files, VIEW, store=store)
    assert computed == [5]  # the sixth equals the first
    embedded(tiny_clip, files, VIEW, store=FeatureStore(store.folder))
    embedded(tiny_clip, files.subset([4, 2]), VIEW, store=store)
    assert computed == [5]


def test_parts_complete_each_other(tiny_clip, files, store, computed):
    embedded(tiny_clip, files.subset([1, 3]), VIEW, store=store)
    whole = embedded(tiny_clip, files, VIEW, store=store)
    assert computed == [2, 3]
    assert torch.equal(whole, embedded(tiny_clip, files, VIEW))


def test_augmented_views_belong_to_their_place_and_draw(tiny_clip, files, store, computed):
    first = replace(VIEW, augmented=(1, 0))
    embedded(tiny_clip, files, first, store=store)
    assert computed == [6]  # equal files at different places are drawn differently
    for other in (replace(VIEW, augmented=(1, 1)), replace(VIEW, augmented=(2, 0)), replace(first, scale=(0.5, 1.0))):
        assert torch.equal(embedded(tiny_clip, files, other, store=store), embedded(tiny_clip, files, other))
    assert sum(computed) == 7 * 6


def test_a_part_of_the_augmented_views_is_drawn_as_in_the_whole(tiny_clip, files, store):
    view = replace(VIEW, augmented=(1, 0))
    plain = embedded(tiny_clip, files, view)
    embedded(tiny_clip, files, view, store=store)
    for space in store.spaces():
        shard = space.shards()[0]
        keys, rows = shard.keys[[0, 4]], shard.rows(torch.tensor([0, 4]).numpy())
        store.clear()
        again = FeatureStore(store.folder)
        fresh = again.space(space.name)
        fresh.described = space.described
        again.add(fresh, keys, rows)
    assert torch.equal(embedded(tiny_clip, files, view, store=FeatureStore(store.folder)), plain)


def test_several_views_are_those_of_each_alone_and_pass_as_one_list(tiny_clip, files, store, computed):
    view = replace(VIEW, augmented=(7, 2))
    alone = torch.cat([embedded(tiny_clip, files, replace(VIEW, augmented=(7, epoch))) for epoch in (2, 3, 4)], dim=1)
    assert torch.equal(embedded(tiny_clip, files, view, views=3), alone)
    embedded(tiny_clip, files, replace(VIEW, augmented=(7, 3)), store=store)
    computed.clear()
    for _ in range(2):
        found = embedded(tiny_clip, files, view, views=3, store=store)
        assert torch.equal(found, alone)
        assert found.is_contiguous()
    assert computed == [12]  # those of the epoch between were stored


def test_a_file_that_is_changed_meanwhile_is_stored_in_no_view(tiny_clip, files, store, monkeypatch):
    view, hand_over = replace(VIEW, augmented=(7, 0)), module._Passing.hand_over

    def changed(passing):
        Image.new("RGB", (36, 40), "red").save(files.source.root / "2.png")
        hand_over(passing)

    monkeypatch.setattr(module._Passing, "hand_over", changed)
    embedded(tiny_clip, files, view, views=2, store=store)
    assert sum(len(shard) for space in store.spaces() for shard in space.shards()) == 10


def test_a_test_view_is_one(tiny_clip, files):
    with pytest.raises(ValueError, match="a picture has one test view, and 2 were asked for"):
        embedded(tiny_clip, files, VIEW, views=2)


@pytest.mark.parametrize("how", [{"resize": "squash"}, {"interpolation": "bilinear"}, {"mean": (0.5, 0.5, 0.5)}])
def test_another_preprocessing_is_another_view(tiny_clip, files, store, how):
    embedded(tiny_clip, files, VIEW, store=store)
    before = tiny_clip.preprocessing
    try:
        tiny_clip.preprocessing = Preprocessing.from_dict(how)
        view = View(32, tiny_clip.preprocessing)
        stored = embedded(tiny_clip, files, view, store=store)
        assert torch.equal(stored, embedded(tiny_clip, files, view))
        assert not torch.equal(stored, embedded(tiny_clip, files, VIEW, store=store)) or "mean" in how
    finally:
        tiny_clip.preprocessing = before


def test_a_changed_file_is_another_picture(tiny_clip, files, store):
    before = embedded(tiny_clip, files, VIEW, store=store)
    Image.new("RGB", (36, 40), "red").save(files.source.root / "2.png")
    after = embedded(tiny_clip, files, VIEW, store=store)
    assert not torch.equal(after[2], before[2])
    assert torch.equal(after, embedded(tiny_clip, files, VIEW))


def test_turning_by_the_tag_is_another_picture(tiny_clip, tmp_path, store):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = torch.randint(0, 256, (40, 36, 3), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    lying, turned = (Split.of_files(tmp_path, [Item("a.png", 0, "a")], exif=way) for way in (False, True))
    one, other = (embedded(tiny_clip, split, VIEW, store=store) for split in (lying, turned))
    assert not torch.equal(one, other)


def test_what_was_computed_before_a_picture_fails_is_kept(tiny_clip, files, store, computed, monkeypatch):
    monkeypatch.setattr(module, "READ", 8)
    items = [Item(f"{i}.png", 0, "a") for i in range(5)] + [Item("broken.png", 0, "a")]
    draw = torch.Generator().manual_seed(4)
    for i in range(5, 12):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(pixels.numpy()).save(files.source.root / f"{i}.png")
        items.insert(5, Item(f"{i}.png", 0, "a"))
    (files.source.root / "broken.png").write_bytes(b"no picture")
    split = Split.of_files(files.source.root, items)
    with pytest.raises(ImageError):
        embedded(tiny_clip, split, VIEW, store=store)
    assert computed == [8]
    embedded(tiny_clip, split.subset(range(8)), VIEW, store=store)
    assert computed == [8]


def test_a_missing_file_is_told_as_without_a_store(tiny_clip, files, store):
    (files.source.root / "3.png").unlink()
    sentences = []
    for one in (None, store):
        with pytest.raises(FileNotFoundError) as error:
            embedded(tiny_clip, files, VIEW, store=one)
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]


def test_pictures_in_memory_are_known_by_their_pixels(tiny_clip, dataset, store, computed):
    embedded(tiny_clip, dataset.test, VIEW, store=store)
    again = Split.of_images(dataset.test.source.images, dataset.test.labels, dataset.class_names)
    embedded(tiny_clip, again, VIEW, store=store)
    assert computed == [15]


def test_workers_change_nothing(tiny_clip, files, store):
    assert torch.equal(embedded(tiny_clip, files, VIEW, store=store, workers=2), embedded(tiny_clip, files, VIEW))


def test_an_empty_split_is_refused(tiny_clip, files):
    with pytest.raises(ValueError, match="empty"):
        embedded(tiny_clip, files.subset([]), VIEW)

from __future__ import annotations

import pytest
import torch

from cliptune.batch import Batch
from cliptune.data import transforms
from cliptune.data.cache import ImageCache
from cliptune.data.images import ImageError
from cliptune.data.items import Item, Split
from cliptune.data.loader import batches, gather, order, steps_per_epoch
from tests.data.pictures import noise

TRAIN = transforms.train_transform(8)


@pytest.fixture(scope="module")
def split():
    return Split.of_images([noise(i) for i in range(11)], [i % 3 for i in range(11)], ["a", "b", "c"])


def run(split, size=4, **options):
    options = {"shuffle": True, "seed": 1, "epoch": 2, **options}
    return list(batches(split, TRAIN, size, **options))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.index, b.index)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(
    ("n", "size", "shuffle", "drop_last", "steps"),
    [
        (80, 32, True, "field", 2),
        (32, 32, True, "field", 1),
        (5, 32, True, "field", 1),
        (80, 32, False, "field", 3),
        (5, 32, True, True, 0),
        (80, 32, True, False, 3),
        (7, 1, True, "field", 7),
    ],
)
def test_steps_per_epoch(n, size, shuffle, drop_last, steps):
    assert steps_per_epoch(n, size, shuffle=shuffle, drop_last=drop_last) == steps


def test_a_batch_holds_images_labels_and_positions(split):
    steps = run(split)
    assert [len(batch) for batch in steps] == [4, 4]
    positions = torch.cat([batch.index for batch in steps])
    assert positions.tolist() == order(11, seed=1, epoch=2)[:8]
    for batch in steps:
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, 8, 8), torch.float32)
        assert torch.equal(batch.labels, split.labels[batch.index])
        assert 0 <= float(batch.images.min()) <= float(batch.images.max()) <= 1


def test_an_ordered_pass_sees_every_image_once_in_order(split):
    steps = run(split, shuffle=False)
    assert [len(batch) for batch in steps] == [4, 4, 3]
    assert torch.cat([batch.index for batch in steps]).tolist() == list(range(11))


def test_the_order_changes_with_seed_and_epoch_alone(split):
    orders = [order(30, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(positions) for positions in orders}) == 9
    assert all(sorted(positions) == list(range(30)) for positions in orders)
    first = run(split)
    torch.manual_seed(99)
    assert same(run(split), first)
    assert not same(run(split, epoch=3), first)


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_resuming_yields_the_remaining_batches_bit_for_bit(split, start):
    assert same(run(split, 2, start_step=start), run(split, 2)[start:])


def test_drawing_batches_leaves_the_global_generator_alone(split, tmp_path):
    for workers in (0, 1):
        torch.manual_seed(7)
        run(split, workers=workers)
        drawn = torch.rand(2)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(2))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_each_batch_in_contiguous_slices(split, world_size, shuffle):
    whole = run(split, shuffle=shuffle)
    ranks = [run(split, shuffle=shuffle, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks if step < len(rank)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        joined = Batch(*(torch.cat([getattr(p, f) for p in parts]) for f in ("images", "labels", "index")))
        assert same([joined], [batch])


def files(tmp_path, n=6):
    for i in range(n):
        noise(i).save(tmp_path / f"{i}.png")
    return Split.of_files(tmp_path, [Item(f"{i}.png", 0, "thing") for i in range(n)])


def test_workers_and_cache_change_nothing(tmp_path):
    split, cache = files(tmp_path), ImageCache()
    plain = run(split, 2)
    assert same(run(split, 2, cache=cache), plain)
    assert same(run(split, 2, workers=2), plain)
    filled = ImageCache()
    assert same(run(split, 2, workers=2, cache=filled, start_step=1), plain[1:])
    assert len(filled) == 4  # what this pass still shows


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_gives_its_sentence_after_the_batches_before_it(tmp_path, workers):
    split = files(tmp_path)
    (tmp_path / "4.png").write_bytes(b"")
    steps = batches(split, TRAIN, 2, shuffle=False, seed=0, workers=workers)
    assert [len(next(steps)), len(next(steps))] == [2, 2]
    with pytest.raises(ImageError, match=r"4\.png is empty \(0 bytes\)"):
        next(steps)


@pytest.mark.parametrize("workers", [0, 1])
def test_several_passes_are_those_of_the_epochs_one_after_the_other(tmp_path, workers):
    split = files(tmp_path)
    together = run(split, 4, shuffle=False, passes=3, workers=workers, cache=ImageCache())
    alone = [batch for epoch in (2, 3, 4) for batch in run(split, 6, shuffle=False, epoch=epoch)]
    for name in ("images", "labels", "index"):
        joined = [torch.cat([getattr(batch, name) for batch in found]) for found in (together, alone)]
        assert torch.equal(*joined)
    some = run(split, 3, shuffle=False, passes=3, only=[1, 7, 17])
    assert torch.equal(some[0].images, torch.stack([alone[0].images[1], alone[1].images[1], alone[2].images[5]]))


def test_gather_gives_the_very_views_of_the_pass(split):
    batch = run(split)[1]
    again = gather(split, batch.index.tolist(), TRAIN, seed=1, epoch=2)
    assert same([again], [batch])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "batch_size must be at least 1, got 0"),
        ({"start_step": 3}, "start_step in 0 … 2"),
        ({"workers": -1}, "workers ≥ 0"),
        ({"rank": 2, "world_size": 2}, "rank in 0"),
        ({"world_size": 5}, "4 images cannot be shared by 5 ranks"),
        ({"passes": 2}, "`passes` are for a pass in order, this one is shuffled"),
    ],
)
def test_wrong_numbers_are_refused_at_once(split, options, sentence):
    size = options.pop("size", 4)
    with pytest.raises(ValueError, match=sentence):
        batches(split, TRAIN, size, **{"shuffle": True, "seed": 0, **options})


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="the split is empty"):
        batches(Split.empty(), TRAIN, 4, shuffle=False, seed=0)

import multiprocessing
import os
import signal
import time
import warnings

import numpy as np
import pytest

from cliptune.features import FeatureStore
from cliptune.features.store import MANY
from tests.features.test_shard import keys, rows

TOWER = {"backbone": "tiny", "group": 8}


def filled(folder, n: int = 5, salt: str = "", **options):
    store = FeatureStore(folder, **options)
    space = store.space("tower")
    space.described = TOWER
    assert store.add(space, keys(n, salt), rows(n))
    return store


def read(store, n: int, salt: str = ""):
    found, values = store.space("tower").read(keys(n, salt))
    return found, values


def test_another_process_finds_what_was_added(tmp_path):
    filled(tmp_path)
    found, values = read(FeatureStore(tmp_path), 7)
    assert found.tolist() == [True] * 5 + [False] * 2
    assert (values[:5] == rows(5)).all()
    assert FeatureStore(tmp_path).spaces()[0].described == TOWER


def test_an_open_store_sees_what_another_adds(tmp_path):
    store = filled(tmp_path)
    assert not read(store, 3, "more")[0].any()
    filled(tmp_path, 3, "more")
    assert read(store, 3, "more")[0].all()


def test_keys_of_many_shards_are_read_in_whatever_order_they_are_asked_for(tmp_path):
    for salt in ("b", "a", "c"):
        store = filled(tmp_path, 4, salt)
    wanted = [("c", 2), ("gone", 0), ("a", 3), ("c", 0), ("b", 1), ("a", 3), ("gone", 1)]
    found, values = store.space("tower").read(np.stack([keys(4, salt)[i] for salt, i in wanted]))
    assert found.tolist() == [salt != "gone" for salt, _ in wanted]
    assert (values == np.stack([rows(4)[i] if salt != "gone" else 0 * rows(4)[i] for salt, i in wanted])).all()
    assert not store.space("tower").read(keys(3, "gone"))[0].any()


def test_nothing_is_made_before_something_is_added(tmp_path):
    store = FeatureStore(tmp_path / "store")
    found, values = read(store, 2)
    assert not found.any()
    assert values is None
    assert store.spaces() == []
    assert not (tmp_path / "store").exists()


def test_a_damaged_shard_is_removed_with_a_warning_and_can_be_made_again(tmp_path):
    filled(tmp_path)
    filled(tmp_path, 2, "whole")
    path = next(p for p in (tmp_path / "tower").glob("*.rows") if p.stat().st_size > 400)
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    store = FeatureStore(tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged .* computed again") as told:
        found, _ = read(store, 5)
    assert told[0].category is UserWarning  # a sweep shows no warning that is a note as well, and this is none
    assert not found.any()
    assert read(store, 2, "whole")[0].all()
    filled(tmp_path)
    assert read(store, 5)[0].all()


def test_a_damaged_description_is_written_anew(tmp_path):
    filled(tmp_path)
    (tmp_path / "tower" / "space.json").write_text("{")
    assert FeatureStore(tmp_path).spaces() == []
    filled(tmp_path, 1, "more")
    assert len(FeatureStore(tmp_path).spaces()) == 1


def test_the_longest_unused_makes_room(tmp_path):
    size = filled(tmp_path / "one").bytes()
    limit = 3 * size
    for number in range(5):
        store = filled(tmp_path / "store", 5, str(number), limit_bytes=limit, in_use=0)
        newest = max((tmp_path / "store" / "tower").glob("*.rows"), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, (1e9 + number, 1e9 + number))
        assert store.bytes() <= limit
    there = [bool(read(store, 5, str(number))[0].all()) for number in range(5)]
    assert there[-1]
    assert not there[0]
    assert there == sorted(there)


def test_what_is_in_use_is_not_removed_and_what_has_no_room_is_told_once(tmp_path):
    size = filled(tmp_path / "one").bytes()
    store = filled(tmp_path / "store", limit_bytes=size + 300)
    with pytest.warns(UserWarning, match="at their limit"):
        assert not store.add(store.space("tower"), keys(5, "more"), rows(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not store.add(store.space("tower"), keys(5, "more"), rows(5))
    assert read(store, 5)[0].all()


def test_the_disk_is_not_filled(tmp_path):
    store = FeatureStore(tmp_path / "store", free_bytes=2**60)
    with pytest.warns(UserWarning, match="of the disk free"):
        assert not store.add(store.space("tower"), keys(1), rows(1))


def test_a_folder_that_cannot_be_written_is_told_and_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file" / "store")
    with pytest.warns(UserWarning, match="could not be written"):
        assert not store.add(store.space("tower"), keys(1), rows(1))


def test_many_small_shards_become_one(tmp_path):
    for number in range(MANY - 1):
        filled(tmp_path, 2, str(number), in_use=0)
    store = filled(tmp_path, 2, str(MANY - 1), in_use=0)
    assert len(list((tmp_path / "tower").glob("*.rows"))) == 1
    assert all(read(store, 2, str(number))[0].all() for number in range(MANY))
    assert (read(FeatureStore(tmp_path), 2, "3")[1] == rows(2)).all()


def test_clear_takes_what_was_not_used(tmp_path):
    store = filled(tmp_path)
    assert store.clear(unused_for=3600) == 0
    assert store.clear() > 0
    assert not tmp_path.exists() or list(tmp_path.iterdir()) == []
    assert not read(store, 5)[0].any()


def _write_for_ever(folder, counted):
    store = FeatureStore(folder)
    space = store.space("tower")
    space.described = TOWER
    number = 0
    while True:
        store.add(space, keys(200, str(number)), rows(200, 64))
        number += 1
        counted.value = number


def test_a_process_killed_while_it_writes_loses_nothing_that_it_handed_over(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        counted = context.Value("i", 0)
        process = context.Process(target=_write_for_ever, args=(folder, counted))
        process.start()
        while counted.value < 2:
            time.sleep(0.001)
        time.sleep(0.0007 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        store = FeatureStore(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for number in range(counted.value):
                found, values = read(store, 200, str(number))
                assert found.all()
                assert (values == rows(200, 64)).all()
            assert all(len(shard) == 200 for shard in store.space("tower").shards())


def _write_some(folder, salt):
    for number in range(10):
        filled(folder, 3, f"{salt}-{number}", in_use=0)


def test_processes_write_into_one_folder_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    team = [context.Process(target=_write_some, args=(tmp_path, str(i % 3))) for i in range(4)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    assert [process.exitcode for process in team] == [0] * 4
    store = FeatureStore(tmp_path)
    assert all(read(store, 3, f"{i}-{number}")[0].all() for i in range(3) for number in range(10))

import hashlib

import numpy as np
import pytest

from cliptune.features.shard import DamagedShard, open_shard, write_shard


def keys(n: int, salt: str = "") -> np.ndarray:
    return np.frombuffer(b"".join(hashlib.sha256(f"{salt}{i}".encode()).digest() for i in range(n)), np.uint8).reshape(
        -1, 32
    )


def rows(n: int, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)


def test_rows_come_back_bit_for_bit(tmp_path):
    values = rows(7)
    values[2, :3] = (np.nan, np.inf, -0.0)
    shard = open_shard(write_shard(tmp_path, keys(7), values))
    assert (shard.keys == keys(7)).all()
    assert shard.rows(np.array([2, 0, 6])).tobytes() == values[[2, 0, 6]].tobytes()


def test_the_same_is_written_once(tmp_path):
    first, again = (write_shard(tmp_path, keys(3), rows(3)) for _ in range(2))
    assert first == again
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_row_of_512_values_takes_at_most_2150_bytes(tmp_path):
    path = write_shard(tmp_path, keys(100), rows(100, 512))
    assert path.stat().st_size <= 100 * 2.1 * 1024


@pytest.mark.parametrize("place", ["magic", "key", "row", "end"])
def test_every_change_of_the_file_is_found(tmp_path, place):
    path = write_shard(tmp_path, keys(4), rows(4))
    content = bytearray(path.read_bytes())
    at = {"magic": 3, "key": 70, "row": len(content) - 5, "end": len(content)}[place]
    if place == "end":
        content = content[:-8]
    else:
        content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedShard):
        open_shard(path).rows(np.arange(4))


def test_a_file_cut_after_it_was_opened_is_found(tmp_path):
    path = write_shard(tmp_path, keys(4), rows(4))
    shard = open_shard(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedShard):
        shard.rows(np.arange(4))

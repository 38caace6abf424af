from __future__ import annotations

import numpy as np
import pytest

from cliptune.data import load_data
from cliptune.doctor.duplicates import TAIL, _ones, alike, equal_files
from tests.data.pictures import write_classes


def plainly(hashes, most):
    """Groups of positions that are linked, by looking at all pairs again and again."""
    group = list(range(len(hashes)))
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(hashes):
            for j, b in enumerate(hashes):
                if bin(int(a) ^ int(b)).count("1") <= most and group[i] != group[j]:
                    group[i] = group[j] = min(group[i], group[j])
                    changed = True
    members = {k: {i for i, g in enumerate(group) if g == k} for k in set(group)}
    return {frozenset(m) for m in members.values() if len(m) > 1}


@pytest.mark.parametrize("most", [0, 1, 4, 6, 16])
def test_look_alikes_are_those_of_all_pairs(most):
    draw = np.random.default_rng(most)
    seeds = draw.integers(0, 2**64, 12, dtype=np.uint64)
    near = [seed ^ np.uint64(sum(1 << int(b) for b in draw.choice(64, n))) for seed in seeds for n in (0, 1, 3, 5, 9)]
    hashes = np.array([*near, *near[:3]], dtype=np.uint64)
    places = [("train", i) for i in range(len(hashes))]
    found = {frozenset(i for _, i in group) for group in alike(places, hashes, most)}
    assert found == plainly(hashes, most)


def test_of_no_pictures_none_look_alike():
    assert alike([], np.array([], dtype=np.uint64), 4) == []


def test_set_bits_are_counted():
    values = np.array([0, 1, 2**64 - 1, 2**63 + 2**20], dtype=np.uint64)
    assert _ones(values).tolist() == [0, 1, 64, 2]


def test_equal_files_are_equal_in_every_byte(tmp_path):
    write_classes(tmp_path, {"cat": 8, "dog": 8})
    begin, end = b"x" * TAIL, b"y" * TAIL
    contents = {"a": begin + end, "b": begin + end, "c": b"z" * TAIL + end, "d": end + begin, "e": b"z" * TAIL + end}
    for name, content in contents.items():
        (tmp_path / "cat" / f"{name}.png").write_bytes(content)
    data = load_data(tmp_path, fractions=(1, 0, 0))
    names = [{data[split][i].path for split, i in group} for group in equal_files(data)]
    assert sorted(names, key=sorted) == [{"cat/a.png", "cat/b.png"}, {"cat/c.png", "cat/e.png"}]

from __future__ import annotations

import numpy as np
import pytest

from cliptune.data import load_data
from cliptune.doctor import duplicates
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


@pytest.mark.parametrize("most", [0, 2, 4])
def test_parts_are_compared_with_whole_pictures_and_not_with_parts(most, monkeypatch):
    monkeypatch.setattr(duplicates, "_ROWS", 3)
    draw = np.random.default_rng(most)
    hashes = draw.integers(0, 2**64, 40, dtype=np.uint64)
    hashes[-1] = hashes[0]
    cuts = draw.integers(0, 2**64, (40, 5), dtype=np.uint64)
    cuts[3, 2] = cuts[4, 1]  # two parts alike are not two pictures alike
    for whole, part, bits in ((7, 8, 0), (8, 9, 2), (11, 30, 3), (20, 21, 4), (22, 23, 5), (5, 39, 0)):
        cuts[part, whole % 5] = hashes[whole] ^ np.uint64(sum(1 << int(b) for b in draw.choice(64, bits, False)))
    expected = {(i, j) for i in range(40) for j in range(40) if i < j and hashes[i] == hashes[j]}
    for i in range(40):
        for j in range(40):
            if any(bin(int(hashes[i]) ^ int(cut)).count("1") <= most for cut in cuts[j]):
                expected.add((min(i, j), max(i, j)))
    found = alike([("train", i) for i in range(40)], hashes, 0, cuts, most)
    groups = [{i for _, i in group} for group in found]
    assert all(any({i, j} <= group for group in groups) for i, j in expected)
    assert set().union(*groups) == {i for pair in expected for i in pair}


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

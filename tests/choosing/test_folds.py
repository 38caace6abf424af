from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliptune.choosing import stratified_folds


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(0, 5), st.integers(2, 6))
def test_every_class_is_shared_out_and_none_is_held_out_whole(labels, seed, most):
    cut = stratified_folds(labels, seed, most)
    count = Counter(labels)
    if max(count.values(), default=0) < 2:
        assert cut.held == ()
        return
    assert sorted((*cut.always, *cut.scored)) == list(range(len(labels)))
    assert {labels[i] for i in cut.always} == {label for label, n in count.items() if n == 1}
    for fold, held in enumerate(cut.held):
        assert held
        rest = cut.rest(fold)
        assert sorted((*held, *rest)) == list(range(len(labels)))
        assert {labels[i] for i in held} <= {labels[i] for i in rest}
    for label, n in count.items():
        if n > 1:
            parts = [sum(labels[i] == label for i in held) for held in cut.held]
            assert max(parts) - min(parts) <= 1


def test_there_are_no_more_parts_than_images_of_a_class():
    assert len(stratified_folds([0] * 9 + [1] * 3, 1).held) == 5
    assert len(stratified_folds([0, 0, 1, 1, 1], 1).held) == 3
    assert stratified_folds([], 1).held == ()


def test_the_parts_follow_the_seed():
    labels = [i % 4 for i in range(40)]
    assert stratified_folds(labels, 1) == stratified_folds(labels, 1)
    assert stratified_folds(labels, 1) != stratified_folds(labels, 2)


def test_one_part_is_no_cross_validation():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        stratified_folds([0, 0], 1, 1)

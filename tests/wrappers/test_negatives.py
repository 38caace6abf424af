from random import Random

import torch

from cliptune.wrappers.negatives import choose_negatives

POSITIONS = {c: [10 * c + i for i in range(3)] for c in range(6)}


def choose(scores, labels, top, positions=POSITIONS, seed=0, rule="paper"):
    chosen = choose_negatives(torch.tensor(scores), labels, top, positions, Random(seed), rule)
    return [[p // 10 for p in some] for some in chosen]


def test_hard_classes_come_in_order_without_their_own_and_used_ones():
    scores = [[9.0, 8.0, 7.0, 6.0, 5.0, 4.0], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]]
    # The first takes 1 and 2; for the second 0, 1 and 2 are used, 3 is its own, two classes are left.
    assert choose(scores, [0, 3], top=3) in ([[1, 2], [4, 5]], [[1, 2], [5, 4]])


def test_the_paper_takes_one_less_than_k_even_if_the_label_is_not_among_the_best():
    assert choose([[0.0, 8.0, 7.0, 6.0, 5.0, 4.0]], [0], top=3) == [[1, 2]]


def test_too_few_hard_classes_are_filled_from_all_unused_ones():
    """Also from the first and the last class, which the release never draws."""
    scores = [[9.0, 0.0, 0.0, 8.0, 0.0, 0.0]]
    drawn = {c for seed in range(60) for c in choose(scores, [0], 2, seed=seed)[0][1:]}
    assert drawn == {1, 2, 4, 5}
    scores = [[0.0, 9.0, 0.0, 8.0, 0.0, 0.0]]
    assert 0 in {c for seed in range(60) for c in choose(scores, [1], 2, seed=seed)[0][1:]}


def test_classes_without_images_are_never_chosen():
    some = {c: POSITIONS[c] for c in (0, 3)}
    assert choose([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]], [0], 4, some) == [[3]]


def test_no_class_is_left_and_nothing_is_drawn():
    assert choose([[9.0, 8.0, 7.0], [9.0, 8.0, 7.0], [9.0, 8.0, 7.0]], [0, 1, 2], 3) == [[], [], []]


def test_all_images_of_a_class_are_drawn_sooner_or_later():
    scores = torch.tensor([[9.0, 8.0, 7.0, 0.0, 0.0, 0.0]])
    drawn = {choose_negatives(scores, [0], 3, POSITIONS, Random(seed))[0][0] for seed in range(40)}
    assert drawn == set(POSITIONS[1])


def test_random_classes_are_as_many_and_follow_no_score():
    scores = [[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]]
    drawn = [choose(scores, [0], 4, seed=seed, rule="random")[0] for seed in range(300)]
    assert all(len(set(some)) == len(choose(scores, [0], 4)[0]) == 3 for some in drawn)
    counts = [sum(c in some for some in drawn) for c in range(6)]
    assert counts[0] == 0
    assert all(140 < count < 220 for count in counts[1:])  # 3 of 5 classes each time: 180

from __future__ import annotations

import hashlib
import json
import random

import pytest

from cliptune.data.fewshot import few_shot_indices, pick
from tests.data.pictures import GOLDEN

REPLAY = json.loads((GOLDEN / "data_fewshot.json").read_text())
VISUAL = json.loads((GOLDEN / "vr_fewshot.json").read_text())
PUBLISHED = json.loads((GOLDEN / "fewshot_published.json").read_text())


@pytest.mark.parametrize("case", REPLAY["chosen"])
def test_picks_and_generator_equal_the_reference(case):
    name, shots, seed = case.split("/")
    lists, expected = REPLAY["lists"][name], REPLAY["chosen"][case]
    shots, rng = int(shots.removeprefix("shots")), random.Random(int(seed.removeprefix("seed")))
    train = pick([label for _, label, _ in lists["train"]], shots, rng)
    val = pick([label for _, label, _ in lists["val"]], min(shots, 4), rng)
    assert [lists["train"][i][0] for i in train] == expected["train"]
    assert [lists["val"][i][0] for i in val] == expected["val"]
    assert rng.random() == expected["random_after"]


@pytest.mark.parametrize("seed", [1, 2])
def test_picks_equal_those_of_visual_reprogramming_without_its_cache(seed):
    """The release draws alike, but its cache is "seed_0" for every seed: the first picks serve all later runs."""
    expected = VISUAL["runs"][f"--seed {seed}, no cache"]
    train, val = ([label for _, label, _ in VISUAL["split"][name]] for name in ("train", "val"))
    rng, shots = random.Random(seed), VISUAL["shots"]
    chosen = pick(train, shots, rng)
    assert [VISUAL["split"]["train"][i][0] for i in chosen] == expected["train"]
    pick(val, shots, rng)
    assert rng.random() == expected["next random.random()"]
    # whichever seed was asked for before
    few_shot_indices(train, val, shots, seed=3 - seed)
    assert few_shot_indices(train, val, shots, seed)[0] == chosen
    cached = VISUAL["runs"]["--seed 2, cache of the previous run"]["train"]
    assert (cached == expected["train"]) is (seed == 1)


@pytest.mark.parametrize("dataset", PUBLISHED["datasets"])
def test_picks_equal_the_published_ones(dataset):
    sizes = PUBLISHED["constant_class_sizes"][dataset]
    train_labels = [label for label in range(sizes["classes"]) for _ in range(sizes["train"])]
    val_labels = [label for label in range(sizes["classes"]) for _ in range(sizes["val"])]
    for case, expected in PUBLISHED["datasets"][dataset].items():
        shots, seed = (int("".join(filter(str.isdigit, part))) for part in case.split("-"))
        train, val = few_shot_indices(train_labels, val_labels, shots, seed)
        text = ",".join(map(str, train)) + "|" + ",".join(map(str, val))
        assert (len(train), len(val)) == (expected["n_train"], expected["n_val"])
        assert (train[:4], train[-2:], val[:4]) == (
            expected["train_head"],
            expected["train_tail"],
            expected["val_head"],
        )
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected["digest"], case


def test_a_small_class_is_used_whole_without_a_draw():
    rng = random.Random(3)
    assert pick([5, 5, 2], 4, rng) == [0, 1, 2]
    assert rng.random() == random.Random(3).random()


def test_repeat_draws_small_classes_with_replacement():
    chosen = pick([7, 7, 1, 1, 1, 1, 1], 4, random.Random(0), repeat=True)
    again = random.Random(0)
    assert chosen == again.choices([0, 1], k=4) + again.sample([2, 3, 4, 5, 6], 4)


@pytest.mark.parametrize("shots", [0, -1])
def test_shots_below_one_mean_everything(shots):
    assert few_shot_indices([1, 0, 1], [0, 1], shots, seed=1) == ([0, 1, 2], [0, 1])

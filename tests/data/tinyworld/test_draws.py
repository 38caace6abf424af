"""Random numbers of a picture depend on its key alone."""

import pytest
import torch

from cliptune.data.tinyworld.draws import Draws, seed_of


def test_numbers_depend_on_the_key_alone():
    one, many = Draws(["b"]), Draws(["a", "b", "c"])
    assert torch.equal(one.take(5)[0], many.take(5)[1])
    assert torch.equal(one.noise((2, 3), "n")[0], many.noise((2, 3), "n")[1])
    assert not torch.equal(one.noise((2, 3), "n"), one.noise((2, 3), "m"))


def test_seed_is_the_same_on_every_machine():
    assert seed_of("tinyworld") == 8450635948625008439


def test_choices_stay_below_their_own_counts():
    draws = Draws([str(i) for i in range(400)])
    count = torch.arange(400) % 3 + 1
    chosen = draws.choose(count)
    assert bool((chosen < count).all())
    assert set(chosen[count == 3].tolist()) == {0, 1, 2}


def test_running_out_of_numbers_is_said():
    with pytest.raises(ValueError, match="larger width"):
        Draws(["a"], width=2).take(3)

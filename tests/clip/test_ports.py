"""The algebra of ports: compose refuses two writers, mix interpolates what enters the tower."""

from __future__ import annotations

import pytest
import torch

from cliptune.clip import Ports, TowerPorts, compose, mix


def ports(value: float, condition=None) -> Ports:
    return Ports(
        image=TowerPorts({0: torch.full((2, 40), value)}, {(1, "mlp_out", "all"): torch.full((40,), -value)}),
        text=TowerPorts({0: torch.full((3, 24), 2 * value)}),
        condition=condition,
    )


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_mix_interpolates_every_leaf(weight):
    mixed = mix(ports(1.0), ports(5.0), weight)
    value = weight * 5.0 + (1 - weight) * 1.0
    torch.testing.assert_close(mixed.image.tokens[0], torch.full((2, 40), value))
    torch.testing.assert_close(mixed.image.bias[1, "mlp_out", "all"], torch.full((40,), -value))
    torch.testing.assert_close(mixed.text.tokens[0], torch.full((3, 24), 2 * value))


def test_mix_calls_conditions_before_it_mixes():
    def double(text: TowerPorts, image_features: torch.Tensor) -> TowerPorts:
        return text.map(lambda t: t * image_features.sum())

    mixed = mix(ports(1.0), ports(5.0, double), 0.5)
    given = mixed.text_given(torch.tensor([2.0]))
    torch.testing.assert_close(given.tokens[0], torch.full((3, 24), 0.5 * 2.0 + 0.5 * 10.0 * 2.0))


def test_mix_refuses_prompts_of_other_depth():
    with pytest.raises(ValueError, match="different places"):
        mix(Ports(text=TowerPorts({0: torch.zeros(1, 2)})), Ports(), 0.5)


def test_compose_joins_and_refuses_two_writers():
    text, image = Ports(text=ports(1.0).text), Ports(image=ports(1.0).image)
    joined = compose(text, image)
    assert joined.text.tokens.keys() == {0}
    assert joined.image.bias.keys() == {(1, "mlp_out", "all")}
    with pytest.raises(ValueError, match=r"both write text.tokens\[0\]"):
        compose(text, joined)
    with pytest.raises(ValueError, match="both set the `features` port"):
        compose(Ports(features=torch.neg), Ports(features=torch.abs))
    with pytest.raises(ValueError, match="both set the `text_features` port"):
        compose(Ports(text_features=torch.neg), Ports(text_features=torch.abs))
    assert compose(Ports(text_features=torch.neg), text).text_features is torch.neg


def test_mix_refuses_what_cannot_be_interpolated():
    assert mix(Ports(text_features=torch.neg), Ports(text_features=torch.neg), 0.5).text_features is torch.neg
    with pytest.raises(ValueError, match="different `text_features` ports"):
        mix(Ports(text_features=torch.neg), Ports(text_features=torch.abs), 0.5)


def test_ports_name_their_mistakes():
    with pytest.raises(ValueError, match="must start at layer 0"):
        TowerPorts({1: torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="one of attn_out, mlp_out, got 'keys'"):
        TowerPorts({}, {(0, "keys", "all"): torch.zeros(3)})

"""The average of a prompt over the epochs of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.params import LowRank


def gaussian_weights(epochs: int, mean: float, std: float) -> Tensor:
    """Weights of epochs t = 1 … E, w_t ∝ exp(−(t − μ)² / 2σ²), summing to one; (E,) float64."""
    t = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-((t - mean) ** 2) / (2 * std**2), dim=0)


class GaussianAveraging:
    """Gaussian prompt aggregation: the final prompt is Σ_t w_t P_t over the prompts P_t at the ends of the epochs.

    Training itself is not altered. After the last epoch the average takes the place of the prompt, so what is saved
    then is the average: a run that was interrupted before goes on exactly, because the sum so far is part of its
    state; training an averaged prompt further is a new training that starts at the average. While a run is under way,
    and in a selection of epochs by validation images, epochs before the last stand for themselves.

    Only what the prompt learns is averaged, in float32; the released code also averages the frozen towers, in half
    precision. Matrices of low rank are averaged as the matrices they make, not factor by factor.

    Args:
        mean, std: μ and σ in epochs, counted from 1; σ > 0.
    Source: PromptSRC (arXiv:2307.06948, Sec. 3.3).
    """

    def __init__(self, mean: float, std: float) -> None:
        if not std > 0:
            raise ValueError(f"GaussianAveraging: the standard deviation must be above 0 epochs, got {std}.")
        self.mean, self.std = mean, std
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, adapter: Any, epoch: int, epochs: int) -> None:
        """End of epoch `epoch`, counted from 0, of a stage of `epochs`."""
        weight = float(gaussian_weights(epochs, self.mean, self.std)[epoch])
        matrices = _matrices(adapter.prompt)
        if epoch == 0:
            self.sums = {name: torch.zeros_like(value) for name, value in matrices.items()}
        for name, value in matrices.items():
            self.sums[name] = self.sums[name].to(value.device) + weight * value
        if epoch == epochs - 1:
            _replace(adapter.prompt, self.sums)

    def state_dict(self) -> dict[str, Tensor]:
        """The weighted sum so far."""
        return {name: value.cpu() for name, value in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums = dict(state)


def _matrices(prompt: nn.Module) -> dict[str, Tensor]:
    """What is learned: parameters as they are, matrices of low rank multiplied out."""
    low = {name: module for name, module in prompt.named_modules() if isinstance(module, LowRank)}
    inside = tuple(f"{name}." for name in low)
    learning = {name: p for name, p in prompt.named_parameters() if p.requires_grad}
    plain = {name: p.detach() for name, p in learning.items() if not name.startswith(inside or ("\0",))}
    return plain | {
        name: module.merged() for name, module in low.items() if any(p.requires_grad for p in module.parameters())
    }


def _replace(prompt: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        place = prompt.get_submodule(name) if name in dict(prompt.named_modules()) else prompt.get_parameter(name)
        if isinstance(place, LowRank):
            # The average of products is of higher rank: the frozen start takes what the factors cannot say.
            place.start += value - place.merged()
        elif isinstance(place, nn.Parameter):
            place.copy_(value)

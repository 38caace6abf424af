"""Optimisers over the learnables, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.recipe import OptimiserConfig

# Values of a learnable from which passes over memory are what a step of the optimiser takes.
LARGE = 2**18


def build_optimiser(
    config: OptimiserConfig, parameters: Iterable[nn.Parameter] | Mapping[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """SGD (no Nesterov, no dampening), Adam or AdamW over `parameters`; named where `config.factors` tells them apart.

    The plain per-tensor update is used, not the fused or multi-tensor one: learnables are few and small, and the
    plain one rounds the same way on every machine and in every grouping. The exception is Adam or AdamW on the CPU if
    one learnable has `LARGE` values, such as a key for each training image: the dozen passes over memory of the plain
    update cost as much as the gradient's products there, and the fused one, which all learnables then get, takes one.

    Raises: ValueError if there is nothing to train.
    """
    named = parameters if isinstance(parameters, Mapping) else {str(i): p for i, p in enumerate(parameters)}
    if not named:
        raise ValueError(
            "The stage has an optimiser but the adapter has no parameter that trains. "
            "Use a stage with optimiser=None, or a method that has learnables."
        )
    groups = _groups(config, named)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=False
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    # The fused update goes through memory whatever the strides, which moments read from a checkpoint need not share.
    plain = all(p.device.type == "cpu" and p.is_contiguous() for p in named.values())
    fused = plain and any(p.numel() >= LARGE for p in named.values())
    return kind(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        foreach=False,
        fused=fused,
    )


def _groups(config: OptimiserConfig, named: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """One group per factor on the rate, in order of first appearance."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(config.factor(name), []).append(parameter)
    return [{"params": members, "factor": factor} for factor, members in groups.items()]


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def optimiser_tensors(optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimiser's memory as `<field>/<parameter name>` → tensor (momentum, first and second moments, step)."""
    return {
        f"{field}/{name}": value
        for name, parameter in parameters.items()
        for field, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimiser_tensors(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimiser_tensors`; moments go to their parameter's device, step counts stay on the CPU.

    Raises: ValueError if a tensor belongs to no parameter.
    """
    for key, value in tensors.items():
        field, _, name = key.partition("/")
        if name not in parameters:
            raise ValueError(f"The saved optimiser state holds {key!r}, but no parameter of that name trains here.")
        device = "cpu" if field == "step" else parameters[name].device
        optimiser.state[parameters[name]][field] = value.to(device, copy=True)

"""Shifted domains: the same pictures as a sketch, at night, with noise ..."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cliptune.data.tinyworld.draws import Draws

_GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def _sketch(images: Tensor, draws: Draws) -> Tensor:
    grey = (images * _GREY).sum(1, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strokes = (2.2 * torch.hypot(dx, dy) - 0.12).clamp(0, 1)
    return (0.96 - 0.85 * strokes).expand(-1, 3, -1, -1)


def _night(images: Tensor, draws: Draws) -> Tensor:
    tint = torch.tensor([0.26, 0.30, 0.46])[:, None, None]
    return images * tint + 0.02 * draws.noise((1, *images.shape[2:]), "night")


def _noise(images: Tensor, draws: Draws) -> Tensor:
    return images + 0.18 * draws.noise(tuple(images.shape[1:]), "noise")


def _faded(images: Tensor, draws: Draws) -> Tensor:
    grey = (images * _GREY).sum(1, keepdim=True)
    return 0.62 + 0.3 * (0.45 * images + 0.55 * grey - 0.5)


def _inverted(images: Tensor, draws: Draws) -> Tensor:
    return 1 - images


def _blurred(images: Tensor, draws: Draws) -> Tensor:
    return F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _pixelated(images: Tensor, draws: Draws) -> Tensor:
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4.0, mode="nearest")


_DOMAINS: dict[str, Callable[[Tensor, Draws], Tensor]] = {
    "photo": lambda images, draws: images,
    "sketch": _sketch,
    "night": _night,
    "noise": _noise,
    "faded": _faded,
    "inverted": _inverted,
    "blurred": _blurred,
    "pixelated": _pixelated,
}
DOMAINS = tuple(_DOMAINS)


def shift(images: Tensor, domain: str, draws: Draws) -> Tensor:
    """The pictures (n, 3, h, w) in [0, 1] in another domain, same shape and range.

    Raises: ValueError for an unknown domain.
    """
    if domain not in _DOMAINS:
        raise ValueError(f"Tinyworld: unknown domain {domain!r}. Choose one of: {', '.join(DOMAINS)}.")
    return _DOMAINS[domain](images, draws).clamp(0, 1)

"""Patterns on the pixels: drawn over the image, or as a frame around a smaller one. One pattern gives one view."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cliptune.clip.model import CLIP
from cliptune.clip.pictures import fitted
from cliptune.clip.ports import Ports
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt

STRIPS = ("up", "down", "left", "right")


class PixelPattern(Prompt):
    """V patterns of which only the pixels of a mask are kept and learn.

    Args:
        clip: gives resolution R, mean and standard deviation; it is not kept.
        live: (R, R) bool, the pixels that learn.
        patterns: V ≥ 1. Each makes a view of the image.
        param: what the learnable matrix is: (3 V, n), one row per pattern and channel, n live pixels. With a low rank
            the patterns are mixtures of r shared ones.
        start: "zero", or "normal" for N(0, 1).
    """

    pixel: Tensor

    def __init__(
        self,
        clip: CLIP,
        live: Tensor,
        patterns: int = 1,
        param: Parameterisation = FullRank,
        start: Literal["zero", "normal"] = "zero",
    ) -> None:
        super().__init__()
        if patterns < 1:
            raise ValueError(f"{type(self).__name__}: at least one pattern is needed, got {patterns}.")
        if start not in ("zero", "normal"):
            raise ValueError(f"{type(self).__name__}: start must be 'zero' or 'normal', got {start!r}.")
        self.side, self.patterns = clip.image.resolution, patterns
        self.mean, self.std = clip.mean, clip.std
        self.register_buffer("pixel", live.flatten().nonzero()[:, 0], persistent=False)
        shape = (3 * patterns, len(self.pixel))
        self.program = param(torch.zeros(shape) if start == "zero" else torch.randn(shape))

    def forward(self, seen: bool = True) -> Ports:
        # One sample of the matrix per step, whatever is shown to the port.
        program = self.program()
        return Ports(pixels=lambda images, batch: self._views(images, program))

    def _views(self, images: Tensor, program: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] → (B, V, 3, R, R), normalised."""
        raise NotImplementedError

    def spread(self, values: Tensor) -> Tensor:
        """Values of the live pixels (3 V, n) → pictures (V, 3, R, R), 0 elsewhere."""
        flat = values.new_zeros(len(values), self.side**2).index_copy(1, self.pixel, values)
        return flat.view(-1, 3, self.side, self.side)

    def normalised(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (images - mean) / std


class PixelOverlay(PixelPattern):
    """VP: x̃ = N(x) + W ⊙ δ, a border of width p over the image, added after normalisation and never clamped.

    Args:
        clip, patterns, param, start: as in `PixelPattern`. At the zero start the image passes unchanged.
        border: p in pixels; R / 2 covers the whole image. None for 30 / 224 of the side.
    Raises: ValueError if 2 p > R or p < 1.
    Source: VP (arXiv:2203.17274, Sec. 3) as released for CLIP. Values: 3 V (R² − (R − 2p)²).
    """

    def __init__(self, clip: CLIP, border: int | None = None, patterns: int = 1, **more: Any) -> None:
        side = clip.image.resolution
        self.border = round(side * 30 / 224) if border is None else border
        notes = (f"PixelOverlay: border was left out and is {self.border} of {side} pixels.",) if border is None else ()
        if not 1 <= self.border <= side // 2:
            raise ValueError(
                f"PixelOverlay: the border must be between 1 and {side // 2} pixels, half the side of the "
                f"{side}-pixel image that this CLIP takes, got {self.border}."
            )
        super().__init__(clip, around(side, self.border, side - 2 * self.border), patterns, **more)
        self.notes = notes

    def _views(self, images: Tensor, program: Tensor) -> Tensor:
        return self.normalised(fitted(images, self.side))[:, None] + self.spread(program)


class PixelFrame(PixelPattern):
    """AR: x̃ = N(pad(x) + P ⊙ sigmoid(δ)), a frame around an image of inner side s; N comes last.

    Every pixel stays in [0, 1]. At the zero start the frame is mid-grey, 0.5.

    Args:
        clip, patterns, param, start: as in `PixelPattern`.
        inner: s in pixels, 1 ≤ s < R; None for `usual_inner`.
        strips: views that share one pattern and have the same pixels, while the gradient of each reaches only its own
            strip: up and down are rows as wide as the tower's image, left and right what is between them. Patterns
            must be 1. Where no gradient is taken there is one view.
    Raises: ValueError for an inner side that does not fit.
    Source: AR (arXiv:2007.08714, Sec. 3.1); DVP (arXiv:2506.01000) for several. Values: 3 V (R² − s²).
    """

    strip: Tensor

    def __init__(
        self, clip: CLIP, inner: int | None = None, patterns: int = 1, strips: bool = False, **more: Any
    ) -> None:
        side = clip.image.resolution
        self.inner = usual_inner(clip) if inner is None else inner
        if not 1 <= self.inner < side:
            raise ValueError(
                f"PixelFrame: the inner image must have a side of 1 to {side - 1} pixels, smaller than the {side} "
                f"pixels that this CLIP takes, got {self.inner}. Give a smaller inner size."
            )
        if strips and patterns != 1:
            raise ValueError(f"PixelFrame: strips divide one pattern among views, got {patterns} patterns.")
        self.before = (side - self.inner + 1) // 2
        live = around(side, self.before, self.inner)
        super().__init__(clip, live, patterns, **more)
        if inner is None:
            self.notes = (f"PixelFrame: inner was left out and is {self.inner} of {side} pixels.",)
        self.resolution, self.strips = self.inner, strips
        row, column = self.pixel // side, self.pixel % side
        sides = [row < self.before, row >= self.before + self.inner, column < self.before]
        number = torch.full_like(row, len(sides))
        for i in reversed(range(len(sides))):
            number[sides[i]] = i
        # 0 … 3 as in STRIPS; corners belong to up and down
        self.register_buffer("strip", number, persistent=False)

    def _views(self, images: Tensor, program: Tensor) -> Tensor:
        if self.strips and torch.is_grad_enabled() and program.requires_grad:
            own = self.strip == torch.arange(len(STRIPS), device=program.device)[:, None]
            program = torch.where(own[:, None], program, program.detach()).flatten(0, 1)
        framed = self._padded(fitted(images, self.inner))[:, None] + self.spread(program.sigmoid())
        return self.normalised(framed)

    def _padded(self, images: Tensor) -> Tensor:
        after = self.side - self.inner - self.before
        return torch.nn.functional.pad(images, (self.before, after, self.before, after))

    @torch.no_grad()
    def constant(self) -> Tensor:
        """What is added to images that are normalised first and padded with 0 then: P ⊙ (sigmoid(δ) − μ) / σ.

        (V, 3, R, R) float32, 0 in the interior. It lets an exported model keep CLIP's usual preprocessing.
        """
        frame = self.spread(torch.ones_like(self.program()))
        return frame * self.normalised(self.spread(self.program().sigmoid()))


def usual_inner(clip: CLIP) -> int:
    """192 of 224 pixels, or the same share of another side.

    A tower with at least 8 patches to a side gets a margin of whole patches, as 16 pixels are for ViT-B/16: a frame
    that cuts through patches shifts the image against the grid, which harms small towers badly.
    """
    side, patch = clip.image.resolution, clip.config.patch
    margin = side * 16 / 224
    if patch and side // patch >= 8:
        return side - 2 * patch * max(1, round(margin / patch))
    return round(side - 2 * margin)


def around(side: int, before: int, inner: int) -> Tensor:
    """(side, side) bool: true around an inner square that starts `before` pixels from the top and the left."""
    live = torch.ones(side, side, dtype=torch.bool)
    live[before : before + inner, before : before + inner] = False
    return live

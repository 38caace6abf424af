"""Frames around the whole image, one for each level of a hierarchy of classes, and around crops of several sizes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.quasirandom import SobolEngine

from cliptune.clip.model import CLIP
from cliptune.clip.pictures import fitted
from cliptune.clip.ports import Ports
from cliptune.prompts.pixels import PixelFrame


class GranularFrame(PixelFrame):
    """1 + L + E patterns that make 1 + L + E n views: the whole image for every level, and n crops for every scale.

    | views | what is framed | pattern |
    |---|---|---|
    | 0 | the whole image | (δ_0 + … + δ_L) / (L + 1) |
    | l = 1 … L | the whole image | δ_l |
    | n for each e = 1 … E | crops of side S_e = s − Δ e, brought back to s | δ_{L + e} |

    Crops stand at random places, others for every image and step, while the module trains. In evaluation they stand at
    the same places in every image: the points of the Sobol sequence in the room that they have, the centre first.

    Args:
        clip, inner, more: as in `PixelFrame`; s is the inner side.
        levels: L ≥ 0. scales: E ≥ 0. crops: n ≥ 1 per scale.
        step: Δ ≥ 1 in pixels, with s − Δ E ≥ 1; None for s / 6, which is 32 of 192.

    Attributes:
        bare: the only view is the image without a frame, as the zero-shot CLIP sees it.

    Raises: ValueError for numbers out of range, or crops without a pixel.
    Source: DGA (CVPR 2026, pp. 29347-29356): δ_global and S_e. The number of levels, scales and crops, Δ, places in
        evaluation, and that patterns are averaged before the sigmoid, are ours. Values: 3 (1 + L + E) (R² − s²).
    """

    def __init__(
        self,
        clip: CLIP,
        inner: int | None = None,
        levels: int = 2,
        scales: int = 2,
        crops: int = 4,
        step: int | None = None,
        **more: Any,
    ) -> None:
        for name, value, least in (("levels", levels, 0), ("scales", scales, 0), ("crops", crops, 1)):
            if value < least:
                raise ValueError(f"GranularFrame: {name} must be at least {least}, got {value}.")
        super().__init__(clip, inner, patterns=1 + levels + scales, **more)
        self.levels, self.scales, self.crops = levels, scales, crops
        self.step = max(1, round(self.inner / 6)) if step is None else step
        if self.step < 1 or self.inner - self.step * scales < 1:
            raise ValueError(
                f"GranularFrame: step must be at least 1 pixel and leave one of {self.inner} after {scales} scales, "
                f"got {self.step}. Use a smaller step or fewer scales."
            )
        if step is None and scales:
            self.notes += (f"GranularFrame: step was left out and is {self.step} of {self.inner} pixels.",)
        self.bare = False
        # The first point of the sequence is a corner, the second the centre.
        self.places: list[list[float]] = SobolEngine(2).fast_forward(1).draw(crops).tolist()

    def forward(self, seen: bool = True) -> Ports:
        program = self.program()
        return Ports(pixels=lambda images, batch: self._seen(images, program, batch))

    def _seen(self, images: Tensor, program: Tensor, batch: Any) -> Tensor:
        """(B, 3, h, w) in [0, 1] → (B, V, 3, R, R), normalised; which images they are, the batch knows."""
        if self.bare:
            return self.normalised(fitted(images, self.side))[:, None]
        images = fitted(images, self.inner)
        whole = images[:, None].expand(-1, 1 + self.levels, -1, -1, -1)
        shown = torch.cat([whole, *self._cropped(images, batch)], dim=1)
        return self.normalised(self._padded(shown) + self.spread(self._entering(program).sigmoid()))

    def _entering(self, program: Tensor) -> Tensor:
        """The pattern of each view, (3 V, n), of what is learned, (3 P, n)."""
        own = program.unflatten(0, (self.patterns, 3))
        shared = own[: 1 + self.levels].mean(dim=0, keepdim=True)
        crops = own[1 + self.levels :].repeat_interleave(self.crops, dim=0)
        return torch.cat([shared, own[1 : 1 + self.levels], crops]).flatten(0, 1)

    def _cropped(self, images: Tensor, batch: Any) -> list[Tensor]:
        """n crops of each image (B, 3, s, s) for every scale, each as large as the image: (B, n, 3, s, s)."""
        places = self._random_places(batch) if self.training and self.scales else None
        made = []
        for scale in range(self.scales):
            side = self.inner - self.step * (scale + 1)
            room = self.inner - side
            if places is None:
                at = [[round(p * room) for p in place] for place in self.places]
                cut = torch.stack([images[..., y : y + side, x : x + side] for y, x in at], dim=1)
            else:
                cut = _cut(images, (places[:, scale] * (room + 1)).long().clamp_max(room).to(images.device), side)
            large = F.interpolate(cut.flatten(0, 1), size=(self.inner, self.inner), mode="bilinear")
            made.append(large.unflatten(0, (-1, self.crops)))
        return made

    def _random_places(self, batch: Any) -> Tensor:
        """(B, E, n, 2) in [0, 1), of the step and the image alone: not of what else is in a piece of the batch."""
        step = int(torch.randint(2**31, ()))
        shape = (self.scales, self.crops, 2)
        drawn = [
            torch.rand(shape, generator=torch.Generator().manual_seed(step * 2**31 + index))
            for index in batch.index.tolist()
        ]
        return torch.stack(drawn)


def _cut(images: Tensor, corner: Tensor, side: int) -> Tensor:
    """(B, 3, s, s) → (B, n, 3, side, side), squares with these upper left corners (B, n, 2)."""
    along = torch.arange(side, device=images.device)
    rows = (corner[..., 0, None] + along)[..., :, None]  # (B, n, side, 1)
    columns = (corner[..., 1, None] + along)[..., None, :]  # (B, n, 1, side)
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    # Indices on both sides of the channels put these last: (B, n, side, side, 3).
    cut: Tensor = images[image, :, rows, columns]
    return cut.movedim(-1, 2)

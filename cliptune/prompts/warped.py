"""A pattern that moves, colours and surrounds the image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.model import CLIP
from cliptune.clip.pictures import fitted
from cliptune.clip.ports import Ports
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class WarpedPattern(Prompt):
    """ACAVP: x̃ = N(c · A(x) + P ⊙ δ), one view; A an affine map, c = r · sigmoid(κ) per pixel and channel, δ added
    where nothing of the image is.

    A shears, scales, rotates and shifts, in this order, about the upper left corner, with bilinear interpolation; what
    it leaves is black. P is where A reads outside the image alone, so it moves with A. Nothing is clamped.

    Args:
        clip: gives resolution R, mean and standard deviation; it is not kept.
        scale: of both sides at the start, in (0, 1). Scales stay in (0, 1).
        colour_range: r > 1; colours start at 1.
        angle_range: largest rotation and shear in radians. shift_range: largest shift, as a share of R.
        param: what κ and δ are, (3, R²) each.

    Learnable values: 6 R² + 7. Raises: ValueError for sizes out of range.
    Source: ACAVP (arXiv:2510.07823), models/prompters.py and configs/ACAVP.yaml of its release. There P is where all
    images of a batch are black, here it is read off the map, so that images do not change each other's answers.
    """

    def __init__(
        self,
        clip: CLIP,
        scale: float = 0.73,
        colour_range: float = 6.0,
        angle_range: float = 0.1,
        shift_range: float = 0.05,
        param: Parameterisation = FullRank,
    ) -> None:
        super().__init__()
        if not 0 < scale < 1:
            raise ValueError(f"acavp: scale must be between 0 and 1, both left out, got {scale}.")
        if not 1 < colour_range < math.inf:
            raise ValueError(f"acavp: colour_range must be above 1, got {colour_range}.")
        if not 0 <= angle_range < math.pi / 4 or not 0 <= shift_range < 1:
            raise ValueError(
                f"acavp: angle_range must be between 0 and π/4, and shift_range between 0 and 1, got {angle_range} and "
                f"{shift_range}."
            )
        self.side, self.mean, self.std = clip.image.resolution, clip.mean, clip.std
        self.colour_range, self.angle_range, self.shift_range = colour_range, angle_range, shift_range
        # Two scales, rotation, two shears, two shifts; what they mean is in `matrix`.
        start = torch.zeros(7)
        start[:2] = math.log(scale / (1 - scale))
        self.affine = nn.Parameter(start)
        pixels = (3, self.side**2)
        self.colour = param(torch.full(pixels, -math.log(colour_range - 1)))
        self.program = param(torch.zeros(pixels))

    def forward(self, seen: bool = True) -> Ports:
        matrix = self.matrix()
        colour = self.colour_range * self._picture(self.colour()).sigmoid()
        program = self._picture(self.program())

        def views(images: Tensor, batch: object) -> Tensor:
            images = fitted(images, self.side)
            grid, outside = self._reading(matrix)
            warped = F.grid_sample(images, grid.expand(images.shape[0], -1, -1, -1), align_corners=False)
            mean, std = (images.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
            return ((colour * warped + outside * program - mean) / std)[:, None]

        return Ports(pixels=views)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The map of places, in pixels from the upper left corner: (2, 2) matrix and (2,) shift, p → M p + t."""
        scale, bend = self.affine[:2].sigmoid(), self.angle_range * self.affine[2:5].tanh()
        shift = self.shift_range * self.side * self.affine[5:].tanh()
        cosine, sine, shears = bend[0].cos(), bend[0].sin(), bend[1:].tan()
        one = torch.ones_like(cosine)
        turned = torch.stack([torch.stack([cosine, sine]), torch.stack([-sine, cosine])]) * scale
        sheared = torch.stack(
            [torch.stack([one, -shears[0]]), torch.stack([-shears[1], one + shears[0] * shears[1]])],
        )
        return turned @ sheared, shift

    def _reading(self, matrix: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Where each pixel reads, (1, R, R, 2) in [−1, 1] inside the image; and 1 where that is outside, (R, R)."""
        (rows, shift), side = matrix, self.side
        place = torch.arange(side, device=rows.device, dtype=rows.dtype)
        down, across = torch.meshgrid(place, place, indexing="ij")
        moved = torch.stack([across, down], dim=-1) - shift
        # The inverse of a 2 × 2 matrix written out, which every exported graph can say.
        determinant = rows[0, 0] * rows[1, 1] - rows[0, 1] * rows[1, 0]
        inverse = torch.stack([torch.stack([rows[1, 1], -rows[0, 1]]), torch.stack([-rows[1, 0], rows[0, 0]])])
        read = moved @ (inverse / determinant).T  # in pixels of the image
        with torch.no_grad():
            outside = ((read <= -1) | (read >= side)).any(dim=-1).to(rows.dtype)
        return ((2 * read + 1) / side - 1)[None], outside

    def _picture(self, values: Tensor) -> Tensor:
        return values.view(3, self.side, self.side)

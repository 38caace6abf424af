"""What every exported classifier can do, whatever answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cliptune.exported.description import Description
from cliptune.exported.pictures import pixels


class ExportedClassifier:
    """Pictures in, probabilities out.

    Attributes:
        description: what the export says of itself.
    """

    description: Description

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of the probabilities."""
        return self.description.classes

    def probabilities(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        """Pictures, or prepared pixels (B, 3, R, R) uint8 → (B, C) float32, rows that sum to 1.

        Raises: ValueError for no picture, or an array of another shape or type.
        """
        if not isinstance(images, np.ndarray):
            if not images:
                raise ValueError(f"{type(self).__name__}: at least one picture is needed, got none.")
            images = np.stack([pixels(image, self.description.resolution) for image in images])
        side = self.description.resolution
        if images.ndim != 4 or images.shape[1:] != (3, side, side) or images.dtype != np.uint8:
            raise ValueError(
                f"{type(self).__name__}: prepared pixels must be uint8 of shape (B, 3, {side}, {side}), got "
                f"{images.dtype} {images.shape}. Give pictures, or what cliptune.exported.pixels makes of them."
            )
        return self._answer(images)

    def _answer(self, prepared: np.ndarray) -> np.ndarray:
        """(B, 3, R, R) uint8 → (B, C) float32."""
        raise NotImplementedError

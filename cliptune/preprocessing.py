"""How a CLIP wants its pictures brought to pixels: what its configuration declares and no tensor tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Statistics = tuple[float, float, float]

MEAN: Statistics = (0.48145466, 0.4578275, 0.40821073)
STD: Statistics = (0.26862954, 0.26130258, 0.27577711)

RESIZES = ("shortest", "squash", "longest")
INTERPOLATIONS = ("bicubic", "bilinear", "random")


@dataclass(frozen=True)
class Preprocessing:
    """From an RGB picture of any size to R × R pixels of a tower of resolution R; the defaults are OpenAI's.

    Args:
        resize: "shortest" brings the short side to R and cuts the centre out; "squash" brings both sides to R;
            "longest" brings the long side to R and pads around the picture. Names as in open_clip.
        interpolation: of resizing, "bicubic" or "bilinear"; "random" is bicubic in testing and either of them, picture
            by picture, in training.
        oversize: R is multiplied by it for resizing, and the R × R centre is then cut out; at least 1.
        fill: grey value of the padding, 0 to 255.
        mean, std: per channel, of images in [0, 1].
    Raises: ValueError for a value out of range.
    """

    resize: Literal["shortest", "squash", "longest"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "random", "nearest"] = "bicubic"
    oversize: float = 1.0
    fill: int = 0
    mean: Statistics = MEAN
    std: Statistics = STD

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"Preprocessing: resize must be one of {', '.join(RESIZES)}, got {self.resize!r}.")
        if self.interpolation not in (*INTERPOLATIONS, "nearest"):
            raise ValueError(
                f"Preprocessing: interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}."
            )
        if not 1 <= self.oversize <= 16:
            raise ValueError(f"Preprocessing: oversize must be from 1 to 16, got {self.oversize}.")
        if type(self.fill) is not int or not 0 <= self.fill <= 255:
            raise ValueError(f"Preprocessing: fill must be a whole number from 0 to 255, got {self.fill!r}.")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError(
                f"Preprocessing: mean and std must be three numbers, std above 0, got {self.mean} and {self.std}."
            )

    @classmethod
    def before_0_2(cls) -> dict[str, Any]:
        """What stood for every CLIP in version 0.1, which noted nothing in its runs and took statistics alone from
        configurations.
        """
        return {"resize": "shortest", "interpolation": "bicubic", "oversize": 1.0}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], base: Preprocessing | None = None) -> Preprocessing:
        """What `asdict` gave, or some of its entries; the others are those of `base`.

        Raises: ValueError for an unknown entry or a value that cannot be.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in fields if name not in known]
        if unknown:
            raise ValueError(f"Preprocessing: {unknown[0]!r} is not one of {', '.join(known)}.")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        try:
            return dataclasses.replace(base or cls(), **given)
        except TypeError as error:
            raise ValueError(f"Preprocessing: a value of {dict(fields)} is of a wrong kind ({error}).") from error

    def asdict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return dataclasses.asdict(self)

    @property
    def geometry(self) -> Preprocessing:
        """The same without statistics, for who normalises elsewhere."""
        return dataclasses.replace(self, mean=MEAN, std=STD)

    @property
    def of_labels(self) -> Preprocessing:
        """The same geometry for masks, whose values must not be mixed and are background in the padding."""
        return dataclasses.replace(self, interpolation="nearest", fill=0)

    def side(self, resolution: int) -> int:
        """Pixels to resize to, for a tower (or pattern) that takes `resolution` pixels."""
        return round(resolution * self.oversize)

    def told(self, resolution: int) -> str:
        """A phrase, such as "short side to 224 pixels (bicubic), centre cut out; mean 0.481 0.458 0.408, …"."""
        side = self.side(resolution)
        cut = f", {resolution} × {resolution} cut out of the centre"
        how = {
            "shortest": f"short side to {side} pixels ({self.interpolation}){cut}",
            "squash": f"squashed to {side} × {side} pixels ({self.interpolation}){cut if side > resolution else ''}",
            "longest": f"long side to {side} pixels ({self.interpolation}), padded with grey {self.fill}"
            + (cut if side > resolution else ""),
        }[self.resize]
        numbers = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return how + "; mean {}, deviation {}".format(*numbers)

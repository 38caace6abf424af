"""What an exported classifier says of itself: its classes, and what has to be done to a picture before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cliptune.preprocessing import Preprocessing
from cliptune.reading import json_value, shown

FORMAT = "cliptune-classifier/1"
KEY = "cliptune"
"""Of the description, in the metadata of an ONNX file and of a `torch.export` program."""
INPUTS = ("uint8", "float32")
_GEOMETRY = ("resize", "interpolation", "oversize", "fill")


@dataclass(frozen=True)
class Description:
    """A classifier's own words.

    Args:
        classes: C names, in the order of the probabilities.
        resolution: R, side in pixels of the pictures that it takes.
        input: "uint8", values 0 to 255; or "float32", values 0 to 1. Normalisation is inside.
        dtype: of the towers, "float32" or "float16".
        method, backbone: that it was made of.
        mean, std: per channel, of the normalisation inside.
        pictures: how they become R × R pixels; its statistics are not used.
        weight: ω of two prompts that were mixed, in [0, 1]; None where there is one prompt.
        temperature: T > 0 of the run's calibration, inside; 1 where it was not calibrated for these classes.
        checked: how far it was from the adapter when it was made: "pictures", how many; "of", which;
            "largest_difference" of probabilities; "allowed".
        version: of cliptune.
    """

    classes: tuple[str, ...]
    resolution: int
    input: Literal["uint8", "float32"] = "uint8"
    dtype: Literal["float32", "float16"] = "float32"
    method: str = ""
    backbone: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pictures: Preprocessing = field(default_factory=Preprocessing)
    weight: float | None = None
    checked: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    temperature: float = 1.0

    @property
    def plain(self) -> dict[str, Any]:
        """Plain values for JSON, with the preprocessing spelled out for programs that are not ours."""
        preprocessing = {
            "colours": "RGB",
            "exif": "turned as the picture's EXIF tag says",
            "resize": {**self._resize, "rounding": "uint8"},
            "centre_crop": [self.resolution, self.resolution],
            "layout": "batch, channel, row, column",
            "values": [0, 255] if self.input == "uint8" else [0.0, 1.0],
            "normalisation": "inside the graph; do not normalise",
        }
        said = {name: value for name, value in asdict(self).items() if name not in ("mean", "std", "pictures")}
        if self.temperature == 1:
            del said["temperature"]
        if self.pictures != Preprocessing():
            said["pictures"] = {name: getattr(self.pictures, name) for name in _GEOMETRY}
        inside = {"mean": list(self.mean), "std": list(self.std)}
        return {"format": FORMAT, **said, "normalised_inside_with": inside, "preprocessing": preprocessing}

    @property
    def _resize(self) -> dict[str, Any]:
        """In words of who does not know ours."""
        side = self.pictures.side(self.resolution)
        kept = {
            "shortest": {"short_side": side},
            "squash": {"both_sides": side},
            "longest": {"long_side": side, "padding": self.pictures.fill},
        }[self.pictures.resize]
        mode = "bilinear" if self.pictures.interpolation == "bilinear" else "bicubic"
        return {**kept, "interpolation": f"{mode}, antialiased"}

    @property
    def text(self) -> str:
        return json.dumps(self.plain, ensure_ascii=False)

    @classmethod
    def read(cls, text: str, who: str) -> Description:
        """From `text`. Raises: ValueError beginning with `who` if it is not such."""
        try:
            said = json_value(text)
            if said["format"] != FORMAT:
                raise ValueError(f"it is of format {shown(repr(said['format']))}, this version reads {FORMAT!r}")
            inside = said["normalised_inside_with"]
            found = cls(
                tuple(said["classes"]),
                said["resolution"],
                mean=tuple(inside["mean"]),
                std=tuple(inside["std"]),
                pictures=Preprocessing.from_dict(said.get("pictures", {})),
                temperature=float(said.get("temperature", 1.0)),
                **{
                    name: said[name]
                    for name in ("input", "dtype", "method", "backbone", "weight", "checked", "version")
                },
            )
            found._check()
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{shown(str(error))} is missing" if isinstance(error, KeyError) else shown(str(error), 200)
            raise ValueError(f"{who}: its description cannot be read ({reason}). Export the run again.") from error
        return found

    def _check(self) -> None:
        """Raises: ValueError with a phrase for values that no export writes."""
        if not self.classes or not all(isinstance(name, str) for name in self.classes):
            raise ValueError("the classes are no list of names")
        if not isinstance(self.resolution, int) or not 1 <= self.resolution <= 4096:
            raise ValueError("the resolution is no number of pixels from 1 to 4096")
        if not 0 < self.temperature < float("inf"):
            raise ValueError("the temperature is no number above 0")
        if self.input not in INPUTS:
            raise ValueError(f"the input is none of {', '.join(INPUTS)}")

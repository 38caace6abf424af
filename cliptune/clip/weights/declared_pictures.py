"""What configurations of open_clip and transformers declare of preprocessing, as fields of `Preprocessing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cliptune.clip.weights.json_parts import MOST, number, part
from cliptune.preprocessing import INTERPOLATIONS, RESIZES, Statistics
from cliptune.reading import shown

# Pillow's numbers of resampling filters, which transformers writes.
_RESAMPLING = {2: "bilinear", 3: "bicubic"}
_OTHER_RESAMPLING = {0: "nearest", 1: "lanczos", 4: "box", 5: "hamming"}
_PIXEL = 1 / 255


@dataclass(frozen=True)
class Pictures:
    """What a configuration says of pictures.

    Args:
        fields: of `Preprocessing`, those that are declared.
        size: side in pixels that the tower is said to take; None if it is not said.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None


def open_clip_pictures(config: Mapping[str, Any], path: Path) -> Pictures:
    """Of `preprocess_cfg` in open_clip's configuration.

    Raises: ValueError with a sentence for what is not among open_clip's values.
    """
    if config.get("mode") not in (None, "RGB"):
        raise ValueError(f"{path}: preprocess_cfg.mode must be RGB, got {shown(repr(config['mode']))}.")
    fields: dict[str, Any] = _statistics(config, "mean", "std", path)
    for theirs, ours, allowed in (
        ("resize_mode", "resize", RESIZES),
        ("interpolation", "interpolation", INTERPOLATIONS),
    ):
        value = config.get(theirs)
        if value is None:
            continue
        if value not in allowed:
            raise ValueError(
                f"{path}: preprocess_cfg.{theirs} must be one of {', '.join(allowed)}, as in open_clip, got "
                f"{shown(repr(value))}."
            )
        fields[ours] = value
    fill = config.get("fill_color")
    if fill is not None:
        if type(fill) is not int or not 0 <= fill <= 255:
            raise ValueError(
                f"{path}: preprocess_cfg.fill_color must be a whole number from 0 to 255, got {shown(repr(fill))}."
            )
        fields["fill"] = fill
    return Pictures(fields, square(config.get("size"), "preprocess_cfg.size", path))


def hugging_face_pictures(config: Mapping[str, Any], path: Path) -> Pictures:
    """Of an image processor of transformers that resizes, cuts the centre out, rescales and normalises.

    Raises: ValueError with a sentence for a processor that does something else.
    """
    _check_steps(config, path)
    fields: dict[str, Any] = _statistics(config, "image_mean", "image_std", path)
    if config.get("do_normalize") is False:
        fields.update(mean=(0.0,) * 3, std=(1.0,) * 3)
    resample = config.get("resample")
    if resample is not None:
        if resample not in _RESAMPLING:
            called = _OTHER_RESAMPLING.get(resample, "unknown") if type(resample) is int else "unknown"
            raise ValueError(
                f"{path}: resample must be 2 (bilinear) or 3 (bicubic), got {shown(repr(resample))} ({called})."
            )
        fields["interpolation"] = _RESAMPLING[resample]
    crop = square(config.get("crop_size"), "crop_size", path) if config.get("do_center_crop", True) else None
    size, squashed = _resized_to(config, path)
    if size is None:
        return Pictures(fields, crop)
    if not squashed and not config.get("do_center_crop", True):
        raise ValueError(
            f"{path}: the short side is resized and nothing is cut out, so pictures would not be square as the tower "
            "wants them."
        )
    fields["resize"] = "squash" if squashed else "shortest"
    if crop is not None and crop != size:
        if crop > size:
            raise ValueError(f"{path}: crop_size {crop} is above size {size}; padding by a crop is not done here.")
        fields["oversize"] = size / crop
    return Pictures(fields, crop or size)


def square(size: Any, name: str, path: Path) -> int | None:
    """The side in pixels, of a number, [h, w] or {"height", "width"}; None of None.

    Raises: ValueError if it is not square.
    """
    if size is None:
        return None
    if isinstance(size, dict):
        both = [number(part({name: size}, name, path), key, 0, path) for key in ("height", "width")]
    else:
        both = size if isinstance(size, list) else [size]
        if len(both) not in (1, 2) or not all(type(side) is int and 1 <= side <= MOST for side in both):
            raise ValueError(f"{path}: {name} must be a number of pixels, got {shown(repr(size))}.")
    if len(set(both)) != 1:
        raise ValueError(f"{path}: {name} must be square, got {' × '.join(map(str, both))}. Only square towers load.")
    side: int = both[0]
    return side


def _check_steps(config: Mapping[str, Any], path: Path) -> None:
    for step in ("do_resize", "do_rescale"):
        if config.get(step) is False:
            raise ValueError(f"{path}: {step} is false, but pictures of any size and of 8 bits are taken here.")
    if config.get("do_pad"):
        raise ValueError(f"{path}: do_pad is true, which CLIP's processor does not do.")
    factor = config.get("rescale_factor", _PIXEL)
    if type(factor) not in (int, float) or abs(factor - _PIXEL) > 1e-6:
        raise ValueError(f"{path}: rescale_factor must be 1/255, got {shown(repr(factor))}.")


def _resized_to(config: Mapping[str, Any], path: Path) -> tuple[int | None, bool]:
    """Side to resize to, and whether both sides are brought to it."""
    size = config.get("size")
    if isinstance(size, dict):
        if "shortest_edge" in size and "longest_edge" not in size:
            return number(size, "shortest_edge", 0, path), False
        if {"height", "width"} <= set(size):
            return square(size, "size", path), True
        raise ValueError(
            f"{path}: size must have a shortest_edge, or a height and a width, got {shown(repr(sorted(size)))}."
        )
    # Early files of CLIP give the short side as a number.
    return square(size, "size", path), False


def _statistics(config: Mapping[str, Any], mean: str, std: str, path: Path) -> dict[str, Any]:
    found = {"mean": _three(config.get(mean), path), "std": _three(config.get(std), path)}
    if found["std"] is not None and min(found["std"]) <= 0:
        raise ValueError(f"{path}: {std} must be above 0, got {shown(repr(config[std]))}. Download it again.")
    return {name: value for name, value in found.items() if value is not None}


def _three(value: Any, path: Path) -> Statistics | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(type(number) in (int, float) and abs(number) < MOST for number in numbers):
        raise ValueError(
            f"{path}: mean and std must be three numbers, one per channel, got {shown(repr(value))}. Download it again."
        )
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue

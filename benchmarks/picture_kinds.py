"""How far the pixels of other programs lie from ours, for every kind of picture file.

    python benchmarks/picture_kinds.py

A drawn picture of 130 × 90 pixels is saved as grey, palette, 1-bit, transparent, CMYK, LAB and so on, and prepared by
cliptune for 64 pixels, by `image_transform` of open_clip, and by both image processors of transformers.
Shown are the largest and the mean difference in levels of 255. Needs open_clip_torch and transformers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from torch import Tensor

from cliptune.data.images import read_image
from cliptune.data.transforms import test_transform

_SIDE = 64
_WIDTH, _HEIGHT = 130, 90


def pictures() -> dict[str, Image.Image]:
    """Kind → the same picture, as nearly as the kind allows; 16-bit grey is a ramp."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    colours = np.stack([x * 255 // _WIDTH, y * 255 // _HEIGHT, (x + y) * 7 % 256], -1).astype(np.uint8)
    alpha = np.where((x // 13 + y // 13) % 2, 255, 64).astype(np.uint8)
    base, see_through = Image.fromarray(colours), Image.fromarray(np.dstack([colours, alpha]))
    palette = base.quantize(32)
    with_hole = palette.copy()
    with_hole.info["transparency"] = 3
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(base, *profiles, outputMode="LAB")
    assert lab is not None  # it is None only where the picture is changed in place
    return {
        "RGB": base,
        "grey (L)": base.convert("L"),
        "palette (P)": palette,
        "palette, one colour transparent": with_hole,
        "1-bit (1)": base.convert("1"),
        "grey with alpha (LA)": see_through.convert("LA"),
        "alpha (RGBA)": see_through,
        "CMYK": base.convert("CMYK"),
        "YCbCr": base.convert("YCbCr"),
        "LAB": lab,
        "16-bit grey (I;16)": Image.fromarray((x * 65535 // _WIDTH).astype(np.uint16)),
    }


def others() -> dict[str, Callable[[Image.Image], Tensor]]:
    """Program → an opened picture file as (3, 64, 64) in [0, 1]."""
    from open_clip.transform import image_transform
    from transformers import CLIPImageProcessor, CLIPImageProcessorPil

    size = {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}, "do_normalize": False}
    # A mean of 0 counts as left out there.
    found: dict[str, Callable[[Image.Image], Tensor]] = {
        "open_clip": image_transform(_SIDE, False, mean=(1e-9, 1e-9, 1e-9), std=(1.0, 1.0, 1.0))
    }
    for name, kind in (("transformers (Pillow)", CLIPImageProcessorPil), ("transformers", CLIPImageProcessor)):
        processor = kind(**size)
        found[name] = lambda picture, of=processor: of(picture, return_tensors="pt").pixel_values[0]
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    programs, ours = others(), test_transform(_SIDE)
    print("| kind |", " | ".join(programs), "|")
    print("|---|" + "---|" * len(programs))
    with tempfile.TemporaryDirectory() as folder:
        for kind, picture in pictures().items():
            path = Path(folder) / ("picture.tif" if picture.mode in ("LAB", "CMYK", "YCbCr") else "picture.png")
            picture.save(path)
            here, cells = ours(read_image(path)), []
            for prepare in programs.values():
                with Image.open(path) as opened:
                    levels = 255 * (prepare(opened) - here).abs()
                cells.append(f"{levels.max():.0f} ({levels.mean():.2f})")
            print(f"| {kind} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

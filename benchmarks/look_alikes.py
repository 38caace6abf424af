"""How many altered copies of pictures `cliptune data doctor` finds, and how many pairs it names that are no copies.

    python benchmarks/look_alikes.py photos/

Every picture below the folder is altered in each way, and held against its original by the hashes of both and of their
cuts, as the doctor does. Pictures of the folder itself that count as look-alikes are listed: of pictures that are all
different, they are false.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cliptune.data.images import is_image_name, read_image
from cliptune.doctor.duplicates import alike
from cliptune.doctor.looks import NEAR, STRICTER, cuts_of, perceptual


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these shares of its sides."""
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * top), width - round(width * right), height - round(height * bottom))
    )


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def alterations(draw: random.Random) -> dict[str, Callable[[Image.Image], Image.Image]]:
    def one_side(image: Image.Image) -> Image.Image:
        sides = [0.0] * 4
        sides[draw.randrange(4)] = draw.uniform(0.02, 0.12)
        return cut(image, *sides)

    return {
        "half the size": lambda image: scaled(image, 0.5),
        "four times the size": lambda image: scaled(image, 4),
        "JPEG of quality 30": lambda image: as_jpeg(image, 30),
        "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        "cut by 5 % at each side": lambda image: cut(image, *[0.05] * 4),
        "cut by 10 % at each side": lambda image: cut(image, *[0.1] * 4),
        "cut by 2 to 12 % at each side, JPEG": lambda image: as_jpeg(cut(image, *[draw.uniform(0.02, 0.12)] * 4), 70),
        "cut by 2 to 12 % at one side": one_side,
        "cut by 0 to 10 % at each side, each otherwise": lambda image: cut(
            image, *(draw.uniform(0, 0.1) for _ in range(4))
        ),
        "mirrored": ImageOps.mirror,
        "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=400, help="pictures, drawn by chance")
    arguments = parser.parse_args()
    hashed = perceptual()
    assert hashed is not None, "pip install imagehash"
    draw = random.Random(0)
    paths = sorted(path for path in arguments.folder.rglob("*") if is_image_name(path.name))
    images = [read_image(path) for path in draw.sample(paths, min(len(paths), arguments.most))]
    looks = np.array([hashed(image) for image in images], dtype=np.uint64)
    cuts = np.stack([cuts_of(image, hashed) for image in images])
    print(f"{len(images)} pictures. Copies that are found: by hashes of whole pictures; of cuts as well, with those of")
    print("the copy and of the original\n\n| copies | whole | with cuts |\n|---|---|---|")
    for name, alter in alterations(draw).items():
        found = [0, 0]
        for look, of_cuts, image in zip(looks, cuts, images, strict=True):
            copy = alter(image)
            pair = np.array([look, hashed(copy)], dtype=np.uint64)
            parts = np.stack([of_cuts, cuts_of(copy, hashed)])
            places = [("train", 0), ("train", 1)]
            found[0] += bool(alike(places, pair, NEAR))
            found[1] += bool(alike(places, pair, NEAR, parts, NEAR - STRICTER))
        print(f"| {name} | {found[0] / len(images):.0%} | {found[1] / len(images):.0%} |", flush=True)
    places = [("train", i) for i in range(len(images))]
    for name, groups in (
        ("whole", alike(places, looks, NEAR)),
        ("with cuts", alike(places, looks, NEAR, cuts, NEAR - STRICTER)),
    ):
        print(f"\nLook-alikes among the {len(images)} pictures themselves, {name}: {len(groups)} groups")
        for group in groups[:10]:
            print("  " + " = ".join(str(i) for _, i in group))


if __name__ == "__main__":
    main()

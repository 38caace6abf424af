"""A folder of drawings with everything wrong that can be, and the same without."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import cliptune
from tests.data.pictures import write_further

CLASSES = ("cross", "heart", "ring", "star")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Four classes of twelve drawings, split by hand."""
    data = cliptune.load_data("tinyworld/symbols", shots=12)
    for i, item in enumerate(data.train.items):
        if item.label < len(CLASSES):
            k = i % 12
            split = "train" if k < 8 else "test"
            folder = tmp_path / "photos" / split / CLASSES[item.label]
            folder.mkdir(parents=True, exist_ok=True)
            data.train.image(i).resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{k:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def ill(sound: Path) -> Path:
    """The same with a case of each illness."""
    train, test = sound / "train", sound / "test"
    pictures = {(p.parent.parent.name, p.parent.name, p.stem): p for p in sorted(sound.glob("*/*/*.png"))}
    copies = {
        ("train", "cross", "00"): test / "cross" / "copied.png",  # leak
        ("train", "heart", "00"): train / "ring" / "copied.png",  # conflict
        ("train", "star", "00"): train / "star" / "copied.png",  # duplicate
    }
    for key, target in copies.items():
        target.write_bytes(pictures[key].read_bytes())
    with Image.open(pictures["train", "ring", "01"]) as image:  # equal pixels in other bytes
        image.convert("RGB").save(test / "ring" / "stored.bmp")
    with Image.open(pictures["train", "ring", "02"]) as image:  # looks alike
        image.convert("RGB").resize((64, 64)).save(test / "ring" / "smaller.jpg", quality=70)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(train / "star" / "blank.png")
    pictures["train", "star", "02"].rename(train / "star" / ".hidden.png")
    with Image.open(pictures["train", "star", "03"]) as image:
        image.resize((20, 28)).save(train / "star" / "tiny.png")
        image.resize((400, 40)).save(train / "star" / "long.png")
    (train / "star" / "half.png").write_bytes(pictures["train", "star", "04"].read_bytes()[:300])
    (train / "star" / "page.txt").write_text("mine")
    write_further(train / "star" / "phone.mov", "HEIC")
    return sound

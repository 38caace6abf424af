"""A toy CLIP as a file, folders of awkward pictures, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import cliptune.runs.loading  # noqa: F401  before any test puts another load_clip in its place
from cliptune.cli.main import main
from cliptune.clip.model import openai_key
from cliptune.protocols import by_spec
from tests.conftest import TINY, random_clip

# Heads of the usual width, because a file of weights does not tell it.
FILED = replace(TINY, image_width=128, text_width=64, head_width=64, image_layers=2, text_layers=2)
COLOURS = {"red_fox": (210, 80, 30), "blue jay": (40, 70, 200), "green frog": (40, 180, 60), "snow": (240, 240, 245)}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _data_opened_anew() -> Iterator[None]:
    """A grid keeps the data that it opened last; tests see others under the same name."""
    yield
    by_spec._dataset.cache_clear()
    by_spec._target.cache_clear()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy CLIP in OpenAI's layout."""
    clip = random_clip(FILED)
    path = tmp_path_factory.mktemp("clip") / "toy.safetensors"
    save_file({openai_key(key): value.contiguous() for key, value in clip.state_dict().items()}, path)
    # Its tensors do not tell the activation.
    said = {"model_cfg": {"quick_gelu": FILED.activation == "quick_gelu", "text_cfg": {"heads": FILED.text_heads}}}
    (path.parent / "open_clip_config.json").write_text(json.dumps(said))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, offline, with no downloaded weights, as if nobody watched."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setenv("CLIPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLIPTUNE_DEBUG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # tables at full width, whoever runs the tests


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command line, given as words."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


def picture(colour: tuple[int, int, int], size: tuple[int, int], seed: int) -> Image.Image:
    """A noisy field of one colour with a brighter top-left corner, so that turning it shows."""
    noise = np.random.default_rng(seed).integers(-30, 30, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    pixels[: size[1] // 3, : size[0] // 3] = 255
    return Image.fromarray(pixels)


def write_photos(root: Path, per_class: int = 8) -> Path:
    """Class folders of JPEG and PNG files of mixed sizes: one grey, one palette, one CMYK, one EXIF-rotated."""
    for label, (name, colour) in enumerate(COLOURS.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            image = picture(colour, (40 + 7 * i, 64 - 3 * i), seed=100 * label + i)
            odd = i == label
            if odd and name == "red_fox":
                image.convert("L").save(folder / "grey.png")
            elif odd and name == "blue jay":
                image.convert("P").save(folder / "palette.png")
            elif odd and name == "green frog":
                image.convert("CMYK").save(folder / "cmyk.jpg")
            elif odd:
                exif = Image.Exif()
                exif[274] = 6
                image.save(folder / "rotated.jpg", exif=exif)
            else:
                image.save(folder / f"{i:02d}.{'jpg' if i % 2 else 'png'}")
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")

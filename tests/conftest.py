"""Small random CLIPs in which all sizes differ, so that a swapped axis or a hard-wired width fails at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from cliptune.clip import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.data import Dataset, from_images
from cliptune.features import embedding
from cliptune.features.tower import encoded
from cliptune.variables import FEATURES

NAMES = ("lynx", "puma", "red fox", "snow", "blue jay")

TINY = CLIPConfig(
    embed=16,
    resolution=32,
    image_width=40,
    image_layers=3,
    patch=8,
    context=77,
    vocab=49408,
    text_width=24,
    text_layers=4,
    head_width=8,
)
GOLDEN = Path(__file__).parent / "golden"


def random_clip(config: CLIPConfig = TINY, seed: int = 0) -> CLIP:
    """A CLIP whose every tensor is random, biases and norms included."""
    torch.manual_seed(seed)
    clip = CLIP(config, tokenizer=default_tokenizer(), name="tiny")
    generator = torch.Generator().manual_seed(seed)
    for name, value in clip.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if name == "logit_scale":
            continue
        if value.ndim == 1:
            value.data.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif "embedding" in name:
            value.data.copy_(0.3 * noise)
        else:
            value.data.copy_(noise * value.shape[-1] ** -0.5)
    return clip


@pytest.fixture(autouse=True, scope="session")
def features_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that is stored for later runs goes into the home; subprocesses are told alike."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FEATURES, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_features(features_of_all: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """No test finds what another stored. The folder is made when something is."""
    folder = features_of_all / hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FEATURES, str(folder))
        yield folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images whose embedding is computed, batch by batch; those that fill up a group are not among them."""
    counts: list[int] = []

    def counting(clip: CLIP, batches: Iterable[torch.Tensor], group: int) -> Iterator[torch.Tensor]:
        for rows in encoded(clip, batches, group):
            counts.append(len(rows))
            yield rows

    monkeypatch.setattr(embedding, "encoded", counting)
    return counts


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws does not depend on the tests that ran before it in the same process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_clip() -> CLIP:
    return random_clip()


@pytest.fixture(scope="session")
def tiny_resnet() -> CLIP:
    config = CLIPConfig(
        embed=16,
        resolution=64,
        image_width=8,
        image_layers=(1, 2, 1, 1),
        patch=0,
        context=77,
        vocab=49408,
        text_width=24,
        text_layers=2,
        head_width=8,
    )
    return random_clip(config)


@pytest.fixture
def images() -> torch.Tensor:
    """Three images of the tiny CLIP's size, (3, 3, 32, 32) in [0, 1]."""
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


CLASS_NAMES = ("golden retriever", "forest", "Boeing 737-800", "red panda", "lemon meringue pie")


@pytest.fixture
def dataset() -> Dataset:
    """Five classes of noisy colours, 32 pixels: 4 train, 2 val, 3 test pictures each."""
    draw = torch.Generator().manual_seed(0)
    colours = torch.rand(len(NAMES), 3, 1, 1, generator=draw)

    def pictures(per_class: int) -> tuple[torch.Tensor, list[int]]:
        labels = [label for label in range(len(NAMES)) for _ in range(per_class)]
        noise = 0.2 * torch.rand(len(labels), 3, 32, 32, generator=draw)
        return (0.8 * colours[labels] + noise).clamp(0, 1), labels

    return from_images(*pictures(4), NAMES, val=pictures(2), test=pictures(3), template="a drawing of a {}.")


def without_manifest(folder: Path) -> Path:
    """The run as version 0.1 would have left it, so that its files can be changed without being found out."""
    (folder / "manifest.json").unlink()
    result = json.loads((folder / "result.json").read_text())
    del result["manifest"]
    (folder / "result.json").write_text(json.dumps(result))
    return folder

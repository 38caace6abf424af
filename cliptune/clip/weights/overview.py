"""What backbones there are by name, how large they are, and what is known of them without their weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.weights.architectures import architecture
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, OPEN_CLIP_CONFIG
from cliptune.clip.weights.json_parts import read_object
from cliptune.clip.weights.openai import OPENAI_CONFIGS, canonical_name
from cliptune.clip.weights.other_towers import OTHERS
from cliptune.clip.weights.others import OtherWeights, other_weights
from cliptune.clip.weights.pretrained import Listed, listed_weights, named_weights
from cliptune.preprocessing import Preprocessing
from cliptune.reading import shown

_VIT_PORTS = ("pixels", "tokens", "bias", "delta", "features")
_RESNET_PORTS = ("pixels", "features")
_TEXT_PORTS = ("tokens", "bias", "delta")
_COMPARED = "a random input against the library's own pass, each time it is loaded"
_MINI = "shipped, and compared with the values that it gave when it was made"
_OPENAI = "the archives by their SHA-256; towers with random weights, against open_clip 3.3.0"
_LISTED = "random weights of the architecture, against open_clip 3.3.0"
OF_LIBRARY = "of the library"
"""The activation of towers of other libraries."""


@dataclass(frozen=True)
class Backbone:
    """One backbone.

    Args:
        name: that `load_clip` and `--backbone` take.
        source: where its weights come from.
        resolution: R in pixels. width: of the image tower. layers: its blocks. embed: D. context: tokens of a text.
        parameters: of both towers; None where a library alone knows. megabytes: of them in float32, as they are kept in
            memory.
        activation: "quick_gelu", "gelu", or that it is the library's.
        pictures: how they are prepared, in words.
        image_ports, text_ports: that are open.
        licence: as the configuration says; "" if it says none.
        verified: how it is known that it computes what its publisher's code does.
    """

    name: str
    source: str
    resolution: int
    width: int
    layers: int
    embed: int
    context: int
    parameters: int | None
    megabytes: float | None
    activation: str
    pictures: str
    image_ports: Sequence[str]
    text_ports: Sequence[str]
    licence: str
    verified: str

    @classmethod
    def of(
        cls,
        name: str,
        source: str,
        config: CLIPConfig,
        how: Preprocessing,
        verified: str,
        licence: str = "",
        parameters: int | None = None,
    ) -> Backbone:
        layers = config.image_layers
        parameters = count_parameters(config) if parameters is None else parameters
        return cls(
            name=name,
            source=source,
            resolution=config.resolution,
            width=config.image_width,
            layers=layers if isinstance(layers, int) else sum(layers),
            embed=config.embed,
            context=config.context,
            parameters=parameters,
            megabytes=4 * parameters / 2**20,
            activation=config.activation,
            pictures=how.told(config.resolution),
            image_ports=_VIT_PORTS if config.patch else _RESNET_PORTS,
            text_ports=_TEXT_PORTS if config.text_layers else (),
            licence=licence,
            verified=verified,
        )


def known_backbones() -> Iterator[Backbone]:
    """All that have a name: `mini`, OpenAI's nine, and what open_clip lists, of the same kind and with other towers."""
    from cliptune.clip.weights.load import load_clip

    yield described(load_clip("mini"), _MINI)
    for name, config in OPENAI_CONFIGS.items():
        yield Backbone.of(name, "OpenAI", config, Preprocessing(), _OPENAI)
    for line in listed_weights():
        other_name = named_weights(line.architecture.removesuffix("-quickgelu"), line.tag) != line
        if line.tag != "openai" and not other_name:
            yield _listed(line)
    yield from map(_other, other_weights())


def listed_backbone(name: str) -> Backbone | None:
    """The one that `load_clip` calls `name`, in any spelling of it; None if it has no name."""
    from cliptune.clip.weights.load import load_clip

    if name == "mini":
        return described(load_clip("mini"), _MINI)
    architecture_name, colon, tag = name.partition(":")
    line = named_weights(architecture_name, tag) if colon and tag != "openai" else None
    if line is not None:
        return _listed(line)
    other = next((line for line in other_weights() if line.name.lower() == name.lower()), None)
    if other is not None:
        return _other(other)
    canonical = canonical_name(architecture_name) if tag in ("", "openai") else None
    if canonical is None or Path(name).exists():
        return None
    return Backbone.of(canonical, "OpenAI", OPENAI_CONFIGS[canonical], Preprocessing(), _OPENAI)


def _listed(line: Listed) -> Backbone:
    config = replace(architecture(line.architecture).config, activation=line.activation)
    pictures = Preprocessing.from_dict(line.pictures)
    return Backbone.of(line.name, f"hf-hub:{line.repository}", config, pictures, _LISTED)


def _other(line: OtherWeights) -> Backbone:
    of = line.architecture
    return Backbone(
        name=line.name,
        source=f"hf-hub:{line.repository}" if line.repository.count("/") == 1 else line.repository,
        resolution=of.resolution,
        width=of.width,
        layers=of.layers,
        embed=of.embed,
        context=of.context,
        parameters=of.parameters,
        megabytes=None if of.parameters is None else 4 * of.parameters / 2**20,
        activation=OF_LIBRARY,
        pictures=line.pictures.told(of.resolution),
        image_ports=_VIT_PORTS if of.image_open else _RESNET_PORTS,
        text_ports=_TEXT_PORTS if of.text_open else (),
        licence="",
        verified=f"{_LISTED}; and {_COMPARED}",
    )


def described(clip: CLIP, verified: str = "", licence: str = "") -> Backbone:
    """A CLIP that is loaded."""
    source = str(clip.origin.get("source", "built in memory"))
    parameters = sum(parameter.numel() for parameter in clip.parameters())
    if clip.origin.get("layout") in OTHERS:
        verified = verified or _COMPARED
    return Backbone.of(clip.name, source, clip.config, clip.preprocessing, verified, licence, parameters)


@cache
def count_parameters(config: CLIPConfig) -> int:
    """Parameters of both towers, counted without memory."""
    with torch.device("meta"):
        clip = CLIP(config)
    return sum(parameter.numel() for parameter in clip.parameters())


def stated_licence(clip: CLIP) -> str:
    """What a configuration beside the weights, or the head of a README.md there, says; "" if neither does."""
    path = Path(str(clip.origin.get("source", "")))
    folder = path if path.is_dir() else path.parent
    for file in (OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG):
        if path.exists() and (folder / file).is_file():
            said = read_object(folder / file).get("license")
            if isinstance(said, str):
                return shown(said)
    readme = folder / "README.md"
    if not path.exists() or not readme.is_file():
        return ""
    head = readme.read_text(encoding="utf-8", errors="replace")[:4000]
    found = re.search(r"\A---\n(?:.*\n)*?license:[ \t]*(.+)\n", head)
    return shown(found[1].strip()) if found else ""


def as_dict(backbone: Backbone) -> dict[str, Any]:
    """Plain values for JSON."""
    return {**vars(backbone), "image_ports": list(backbone.image_ports)}

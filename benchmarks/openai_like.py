"""Every architecture of open_clip that our own towers build: sizes and features against open_clip itself.

    python benchmarks/openai_like.py [NAME …]

Of each architecture the parameters are counted at full size, without memory. Then one block per tower is made with
random weights, saved by torch with its configuration, opened by `load_clip`, and asked for two images and two texts.
Shown are the relative errors |ours − theirs| / |theirs|. Needs open_clip_torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP as Theirs
from torch import Tensor

from cliptune.clip.weights.architectures import architecture, architecture_names
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.overview import count_parameters

_TEXTS = ["a photo of a cat", "two dogs, barking"]


def configuration(name: str) -> dict[str, Any]:
    found: dict[str, Any] = open_clip.get_model_config(name)
    return found


def build(config: dict[str, Any]) -> Theirs:
    quick = config.get("quick_gelu", False)
    return Theirs(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=quick).eval()


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """One block per tower, or per stage of a ResNet."""
    found = copy.deepcopy(config)
    deep = isinstance(found["vision_cfg"]["layers"], list)
    found["vision_cfg"]["layers"] = [1, 1, 1, 1] if deep else 1
    found["text_cfg"]["layers"] = 1
    return found


def errors(config: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Of image and text features."""
    torch.manual_seed(0)
    theirs = build(config)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.save(theirs.state_dict(), folder / "weights.pt")
    ours = load_clip(folder / "weights.pt")
    images = torch.randn(2, 3, ours.config.resolution, ours.config.resolution)
    with torch.no_grad():
        image = relative(ours.encode_image(images[:, None])[:, 0], theirs.encode_image(images))
        text = relative(ours.encode_text(ours.tokenize(_TEXTS))[0], theirs.encode_text(open_clip.tokenize(_TEXTS)))
    return image, text


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="architectures; all if left out")
    names = parser.parse_args().names or architecture_names()
    print("| architecture | parameters here | in open_clip | image | text |\n|---|---|---|---|---|")
    for name in names:
        config = configuration(name)
        with torch.device("meta"):
            theirs = sum(parameter.numel() for parameter in build(config).parameters())
        with tempfile.TemporaryDirectory() as folder:
            image, text = errors(shallow(config), Path(folder))
        ours = count_parameters(architecture(name).config)
        print(f"| {name} | {ours:,} | {theirs:,} | {image:.1e} | {text:.1e} |", flush=True)


if __name__ == "__main__":
    main()

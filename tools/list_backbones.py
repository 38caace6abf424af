"""Write what open_clip's architectures with other towers are, and where their weights lie, into the package's tables.

    python -m tools.list_backbones

Models are built without memory, so that their sizes are counted and not guessed. Text towers of transformers, whose
sizes are on the hub, are left uncounted. Run it with the release of open_clip that docs/backbones.md names.
"""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
import transformers

from cliptune.clip.foreign.build import foreign_model
from cliptune.clip.foreign.configuration import needs_libraries
from cliptune.clip.foreign.image import ClosedTower, image_tower
from cliptune.clip.foreign.text import ClosedText, text_tower
from cliptune.clip.weights.others import ARCHITECTURES, WEIGHTS

# Any sizes: only their towers are asked, and nothing is counted.
_SMALL = {"vocab_size": 100, "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


def without_hub(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with a small language model of transformers in place of one whose sizes are on the hub."""
    config = copy.deepcopy(config)
    name = config["text_cfg"].get("hf_model_name")
    if name:
        small = {"vocab_size": 100, "d_model": 48, "encoder_layers": 1, "encoder_attention_heads": 4}
        made = (
            transformers.M2M100Config(**small, decoder_layers=1, decoder_attention_heads=4)
            if "nllb" in name
            else (transformers.XLMRobertaConfig if "xlm" in name else transformers.RobertaConfig)(**_SMALL)
        )
        made.save_pretrained(folder / name.replace("/", "-"))
        config["text_cfg"]["hf_model_name"] = str(folder / name.replace("/", "-"))
    return config


def architecture(name: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One line of the table of architectures."""
    with torch.device("meta"):
        model = foreign_model(without_hub(config, folder), name)
    image, text = image_tower(model.visual, config["embed_dim"]), text_tower(model, config["embed_dim"])
    towers = [*image.parameters(), *text.parameters()]
    closed = isinstance(text, ClosedText)
    return {
        "architecture": name,
        "image_tower": image.kind,
        "image_open": "no" if isinstance(image, ClosedTower) else "yes",
        "text_open": "no" if closed else "yes",
        "resolution": image.resolution,
        "width": image.width,
        "layers": getattr(image, "layers", 0),
        "embed": config["embed_dim"],
        "context": text.context,
        "parameters": "" if closed else sum({id(value): value.numel() for value in towers}.values()) + 1,
    }


def weights(name: str, tag: str) -> dict[str, Any]:
    """One line of the table of weights."""
    found = open_clip.pretrained.get_pretrained_cfg(name, tag)
    return {
        "architecture": name,
        "tag": tag,
        "repository": str(found.get("hf_hub") or "").strip("/") or found.get("url", ""),
        "resize": found.get("resize_mode", "shortest"),
        "interpolation": found.get("interpolation", "bicubic"),
        "mean": json.dumps(list(found["mean"])) if found.get("mean") else "",
        "std": json.dumps(list(found["std"])) if found.get("std") else "",
    }


def main() -> None:
    pairs = [pair for pair in open_clip.list_pretrained() if needs_libraries(open_clip.get_model_config(pair[0]))]
    names = list(dict.fromkeys(name for name, _ in pairs))
    with TemporaryDirectory() as folder:
        towers = [architecture(name, open_clip.get_model_config(name), Path(folder)) for name in names]
    for path, lines in ((ARCHITECTURES, towers), (WEIGHTS, [weights(*pair) for pair in pairs])):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        print(f"{len(lines)} lines in {path}")


if __name__ == "__main__":
    main()

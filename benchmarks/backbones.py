"""Every architecture of open_clip with published weights, against the library's own pass, without a network.

    python benchmarks/backbones.py [NAME ...] [--depth 2] [--vocabulary 1000] [--out parity.md]

Weights are random, blocks few, vocabularies other than OpenAI's small; widths, resolutions, patches, pooling and
everything else are those of the architecture. Towers that CLIP's own blocks are enough for are built here from the
library's tensors, as a file is loaded; the others are walked. Text towers of transformers, whose sizes are on the hub,
get small ones of their kind.

The exit code is 1 if an architecture differs from the library by more than 1e-5, or fewer answer than should.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cliptune.clip import CLIP
from cliptune.clip.foreign.build import behind_ports, check_parity, foreign_model
from cliptune.clip.foreign.configuration import needs_libraries
from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.clip.weights.key_layouts import to_openai_layout

LARGEST = 1e-5
ANSWERING, OPEN = 100, 60
"""Architectures that must answer, and that must take image tokens."""


@dataclass(frozen=True)
class Row:
    """What became of an architecture; `why` is a sentence where it does not answer, and differences are relative."""

    name: str
    own: bool = False
    tower: str = ""
    tokens: bool = False
    text: str = ""
    image_off: float = float("inf")
    text_off: float = float("inf")
    why: str = ""

    @property
    def answers(self) -> bool:
        return not self.why and max(self.image_off, self.text_off) <= LARGEST


@contextmanager
def shallow(depth: int) -> Iterator[None]:
    """Trunks of timm with few blocks, whatever their names stand for."""
    import timm

    whole = timm.create_model

    def create(name: str, **options: Any) -> Any:
        refused: Exception | None = None
        stages = 5 if name in ("fastvit_mci3", "fastvit_mci4") else 4
        for fewer in ({"depth": depth}, {"depths": (1,) * stages}, {"layers": (1,) * stages}):
            try:
                return whole(name, **options, **fewer)
            except TypeError as error:
                refused = error
        raise TypeError(f"{name} cannot be made shallow") from refused

    timm.create_model = create
    try:
        yield
    finally:
        timm.create_model = whole


def shrunk(config: dict[str, Any], depth: int, vocabulary: int, folder: Path) -> dict[str, Any]:
    """The configuration with few blocks and words; a text tower of transformers is a small one, made in the folder."""
    config = deepcopy(config)
    image, text = config["vision_cfg"], config["text_cfg"]
    if isinstance(image.get("layers"), list):
        image["layers"] = [1, 1, 1, 1]
    elif "layers" in image:
        image["layers"] = depth
    if text.get("hf_model_name"):
        text["hf_model_name"] = _language_model(text["hf_model_name"], vocabulary, folder)
    else:
        text["layers"] = depth
        if text["vocab_size"] != VOCAB_SIZE:
            text["vocab_size"] = vocabulary
    if config.get("multimodal_cfg"):
        config["multimodal_cfg"] |= {"layers": 1, "vocab_size": vocabulary}
    return config


def _language_model(name: str, vocabulary: int, folder: Path) -> str:
    import transformers

    sizes = {"vocab_size": vocabulary, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if "nllb" in name:
        few = {"vocab_size": vocabulary, "d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4}
        config = transformers.M2M100Config(**few, decoder_layers=1, decoder_attention_heads=4)
    elif "xlm" in name:
        config = transformers.XLMRobertaConfig(**sizes)
    else:
        config = transformers.RobertaConfig(**sizes)
    place = folder / name.replace("/", "-")
    config.save_pretrained(place)
    return str(place)


def tried(name: str, depth: int, vocabulary: int, folder: Path) -> Row:
    """One architecture, built small and compared."""
    import open_clip

    whole = open_clip.get_model_config(name)
    config = shrunk(whole, depth, vocabulary, folder)
    own = not needs_libraries(whole)
    try:
        with shallow(depth):
            model = foreign_model(config, name)
        for value in model.parameters():
            value += 0.02 * torch.randn_like(value)
        clip = _own_clip(model, config) if own else behind_ports(model, config, name, None)
        image_off, text_off = check_parity(model, clip, name)
    except ValueError as error:
        return Row(name, own, why=str(error))
    tower, tokens = getattr(clip.image, "kind", type(clip.image).__name__), hasattr(clip.image, "layers")
    text = "closed" if not hasattr(clip.text, "layers") else "cropped" if clip.text.croppable else "whole context"
    return Row(name, own, tower, tokens, text, image_off, text_off)


def _own_clip(model: Any, config: dict[str, Any]) -> CLIP:
    """As a file of such weights is loaded, with what its configuration declares."""
    tensors, _ = to_openai_layout(model.state_dict())
    image, text = config["vision_cfg"], config["text_cfg"]
    known = {
        "head_width": text["width"] // text["heads"],
        "image_head_width": image.get("head_width", 64),
    }
    return CLIP.from_state_dict(tensors, "quick_gelu" if config.get("quick_gelu") else "gelu", **known)


def table(rows: list[Row]) -> str:
    lines = [
        "| architecture | image tower | image tokens | text tower | image differs by | text differs by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.why:
            lines.append(f"| {row.name} | {row.why} | | | | |")
            continue
        tower = "CLIP's own" if row.own else row.tower
        tokens = "open" if row.tokens else "no place"
        lines.append(f"| {row.name} | {tower} | {tokens} | {row.text} | {row.image_off:.0e} | {row.text_off:.0e} |")
    return "\n".join(lines)


def families(rows: list[Row]) -> str:
    """How many architectures of each image tower answer, with the largest differences."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault("refused" if row.why else "CLIP's own" if row.own else row.tower, []).append(row)
    lines = [
        "| image tower | architectures | answer | take image tokens | image differs by | text differs by |",
        "|---|---|---|---|---|---|",
    ]
    for kind, of in sorted(kinds.items()):
        answering = [row for row in of if row.answers]
        image = max((row.image_off for row in answering), default=0.0)
        text = max((row.text_off for row in answering), default=0.0)
        taking = sum(row.tokens for row in answering)
        lines.append(f"| {kind} | {len(of)} | {len(answering)} | {taking} | {image:.0e} | {text:.0e} |")
    return "\n".join(lines)


def main() -> int:
    import open_clip

    parser = argparse.ArgumentParser(description="Parity of every architecture of open_clip.")
    parser.add_argument("names", nargs="*", help="parts of names; all by default")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the table there")
    asked = parser.parse_args()
    torch.manual_seed(0)
    names = sorted({name for name, _ in open_clip.list_pretrained()})
    chosen = [name for name in names if not asked.names or any(part in name for part in asked.names)]
    rows = []
    with TemporaryDirectory() as folder, torch.no_grad():
        for name in chosen:
            rows.append(tried(name, asked.depth, asked.vocabulary, Path(folder)))
            gc.collect()
            print(table([rows[-1]]).splitlines()[-1], flush=True)
    answering, tokens = sum(row.answers for row in rows), sum(row.answers and row.tokens for row in rows)
    own = sum(row.answers and row.own for row in rows)
    print(f"\n{families(rows)}\n")
    print(
        f"{answering} of {len(rows)} architectures answer as open_clip {open_clip.__version__} does, to {LARGEST:.0e}; "
        f"{tokens} of them take image tokens. CLIP's own towers are enough for {own}."
    )
    if asked.out:
        asked.out.write_text(table(rows) + "\n", encoding="utf-8")
    differing = [row.name for row in rows if not row.why and not row.answers]
    if differing:
        print(f"These differ: {', '.join(differing)}.")
    enough = bool(asked.names) or (answering >= ANSWERING and tokens >= OPEN)
    return 0 if enough and not differing else 1


if __name__ == "__main__":
    sys.exit(main())

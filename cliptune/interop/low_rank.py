"""Checkpoints of CLIP-LoRA's release: factors of numbered layers, and which layers those are.

As released (`lora_weights.pt`), a file holds `weights`, "layer_0" … → "q_proj", "k_proj", "v_proj", "proj" → `w_lora_A`
(r, d) and `w_lora_B` (d, r); and `metadata`: r, alpha, encoder ("text", "vision", "both"), params, and position, a name
for some blocks. The layers are those of the text tower, then those of the image tower. Here the same tensors have flat
names, `weights.layer_0.q_proj.w_lora_A`, and what is text in the metadata stands as its place in a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.prompts.deltas import Factors, LowRankDeltas
from cliptune.recipe import Recipe
from cliptune.registry.building import build
from cliptune.texts import ClassSet

LOW_RANK = ("clip_lora",)
_ENCODERS = {"both": ("text", "image"), "text": ("text",), "vision": ("image",)}
_TWELVE = {
    "all": range(12),
    "bottom": range(4),
    "mid": range(4, 8),
    "up": range(8, 12),
    "half-up": range(6, 12),
    "half-bottom": range(6),
    "top": range(11, 12),
    "top1": range(11, 12),
    "top2": range(10, 12),
    "top3": range(9, 12),
}
# ViT-L/14 has 24 blocks. Earlier commits of the release took 21 of them for all, and counted halves as if of twelve.
_TWENTY_FOUR = {"all": (range(24), range(21)), "half-up": (range(12, 24),), "half-bottom": (range(12),)}
_PROJECTIONS = {"q_proj": "q", "k_proj": "k", "v_proj": "v"}
_NAME = re.compile(r"weights\.layer_(\d+)\.(\w+)\.w_lora_([AB])")


def is_low_rank(content: Any) -> bool:
    """Whether a file's content is of that form."""
    return isinstance(content, dict) and isinstance(content.get("weights"), dict) and "metadata" in content


def flattened(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a released file under flat names. Raises: ValueError if it is not as the release writes it."""
    try:
        said = content["metadata"]
        flat = {
            f"weights.{layer}.{projection}.{name}": value
            for layer, parts in content["weights"].items()
            for projection, factors in parts.items()
            for name, value in factors.items()
        }
        flat |= {
            "metadata.alpha": torch.tensor(float(said["alpha"])),
            "metadata.encoder": torch.tensor([*_ENCODERS].index(said["encoder"])),
            "metadata.position": torch.tensor([*_TWELVE].index(said["position"])),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"read_published: the file has weights and metadata as CLIP-LoRA's release writes them, but not what "
            f"stands in them there ({type(error).__name__}: {error}). Give the file that its save_lora wrote."
        ) from error
    if not all(isinstance(value, Tensor) for value in flat.values()):
        raise ValueError("read_published: the weights of a CLIP-LoRA file must be tensors. Save it once more.")
    return flat


def nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the release's `load_lora` reads, from flat names."""
    weights: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, value in tensors.items():
        if found := _NAME.fullmatch(name):
            layer, projection, factor = found.groups()
            weights.setdefault(f"layer_{layer}", {}).setdefault(projection, {})[f"w_lora_{factor}"] = value
    first = next(iter(weights.values()))
    alpha = float(tensors["metadata.alpha"])
    metadata = {
        "r": len(next(iter(first.values()))["w_lora_A"]),
        "alpha": int(alpha) if alpha.is_integer() else alpha,
        "encoder": [*_ENCODERS][int(tensors["metadata.encoder"])],
        "params": [_PROJECTIONS[projection] for projection in first],
        "position": [*_TWELVE][int(tensors["metadata.position"])],
    }
    return {"weights": weights, "metadata": metadata}


def low_rank_from_published(
    method: str, tensors: Mapping[str, Tensor], clip: CLIP, class_names: Sequence[str] | ClassSet, **options: Any
) -> Recipe:
    """A recipe with the factors of a released checkpoint; blocks that it leaves alone stay as they are.

    Args:
        options: of the method; rank, α, towers and projections are read from the file. The sentence of the class texts
            is not in it.
    Raises: ValueError naming what is missing or does not fit this backbone.
    """
    found = {
        (int(match[1]), match[2], match[3]): value
        for name, value in tensors.items()
        if (match := _NAME.fullmatch(name)) is not None
    }
    missing = [name for name in ("alpha", "encoder", "position") if f"metadata.{name}" not in tensors]
    if missing or not found:
        raise ValueError(
            f"from_published: this is not a released checkpoint of {method}: expected weights of layers and metadata "
            f"with alpha, encoder and position, found {', '.join(sorted(tensors)[:5]) or 'nothing'}."
        )
    if any(projection not in _PROJECTIONS for _, projection, _ in found):
        raise ValueError(
            "from_published: the checkpoint changes the output projection of attention (--params o of the release), "
            "and only queries, keys and values are changed here. Train it with --params q k v."
        )
    towers = _ENCODERS[[*_ENCODERS][int(tensors["metadata.encoder"])]]
    position = [*_TWELVE][int(tensors["metadata.position"])]
    layers = 1 + max(layer for layer, _, _ in found)
    places = _places(clip, towers, position, layers)
    projections = "".join(
        letter for name, letter in _PROJECTIONS.items() if any(projection == name for _, projection, _ in found)
    )
    implied = {
        "rank": len(next(value for (_, _, factor), value in found.items() if factor == "A")),
        "alpha": float(tensors["metadata.alpha"]),
        "towers": "both" if len(towers) == 2 else towers[0],
        "projections": projections,
    }
    recipe = build(method, clip, class_names, **{**implied, **options})
    own = recipe.adapter.learnables()
    given = {
        f"prompt.towers.{tower}.{block}.{_PROJECTIONS[projection]}.{'down' if factor == 'A' else 'up'}": value
        for (layer, projection, factor), value in found.items()
        for tower, block in [places[layer]]
    }
    whole = {f"prompt.towers.{tower}.{block}.{p}.{f}" for tower, block in places for p in projections for f in _FACTORS}
    if set(given) != whole or not set(given) <= set(own):
        raise ValueError(
            f"from_published: a checkpoint of {method} holds two factors of each projection of each layer, and here "
            f"{len(whole - set(given))} are missing and {len(set(given) - whole)} too many. Save it once more."
        )
    recipe.adapter.load_learnables(own | {name: value.to(own[name].dtype) for name, value in given.items()})
    return recipe


_FACTORS = ("down", "up")


def low_rank_to_published(method: str, adapter: Adapter) -> dict[str, Tensor]:
    """The factors under the release's names, float32, with its metadata; all blocks, as position "all".

    Raises: ValueError for towers of more blocks than the release changes.
    """
    prompt = adapter.prompt
    assert isinstance(prompt, LowRankDeltas)
    towers = tuple(tower for tower in ("text", "image") if tower in prompt.towers)
    for tower in towers:
        layers = getattr(adapter.clip, tower).layers
        if layers > 12 and not (tower == "image" and layers == 24):
            raise ValueError(
                f"to_published: the release changes at most 12 blocks of a {tower} tower, or the 24 of ViT-L/14, and "
                f"this one has {layers}. Share the run itself."
            )
    flat: dict[str, Tensor] = {}
    layer = 0
    for tower in towers:
        for block in cast("Sequence[Mapping[str, Factors]]", prompt.towers[tower]):
            for projection, letter in _PROJECTIONS.items():
                if letter in block:
                    flat[f"weights.layer_{layer}.{projection}.w_lora_A"] = block[letter].down.detach().cpu().float()
                    flat[f"weights.layer_{layer}.{projection}.w_lora_B"] = block[letter].up.detach().cpu().float()
            layer += 1
    rank = len(next(iter(flat.values())))
    encoder = next(name for name, known in _ENCODERS.items() if known == towers)
    return flat | {
        "metadata.alpha": torch.tensor(round(prompt.scale * math.sqrt(rank), 6)),
        "metadata.encoder": torch.tensor([*_ENCODERS].index(encoder)),
        "metadata.position": torch.tensor([*_TWELVE].index("all")),
    }


def _places(clip: CLIP, towers: Sequence[str], position: str, layers: int) -> list[tuple[str, int]]:
    """Tower and block of each numbered layer. Raises: ValueError if there are not so many on this backbone."""
    for tower in towers:
        if not hasattr(getattr(clip, tower), "layers"):
            raise ValueError(
                f"from_published: the checkpoint changes blocks of the {tower} tower, and that of {clip.name} has "
                "none. Give the backbone that it was trained with."
            )
    text = _some(_TWELVE[position], clip.text.layers) if "text" in towers else []
    blocks = [("text", block) for block in text]
    if "image" in towers:
        depth = cast(int, clip.image.layers)  # a tower with blocks, see above
        known = [_TWELVE[position], *(_TWENTY_FOUR.get(position, ()) if depth == 24 else ())]
        fitting = next((some for some in known if len(_some(some, depth)) == layers - len(text)), range(0))
        blocks += [("image", block) for block in _some(fitting, depth)]
    if len(blocks) != layers:
        raise ValueError(
            f"from_published: the checkpoint changes {layers} blocks (position {position!r} of "
            f"{' and '.join(towers)}), which do not fit the towers of {clip.name}. Give the backbone that it was "
            "trained with."
        )
    return blocks


def _some(blocks: range, layers: int) -> list[int]:
    return [block for block in blocks if block < layers]

"""Which methods work on which kinds of image towers, as their constructors say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from cliptune.clip.foreign.blocks import ForeignBlock, Stack
from cliptune.clip.foreign.image import ClosedTower, End, PatchTower, Stem
from cliptune.clip.model import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.towers.image import ImageTower
from cliptune.registry.building import build, find, names
from cliptune.registry.combinations import CLASSES, SIZES
from cliptune.registry.plugins import is_add_on


@dataclass(frozen=True)
class Tower:
    """A kind of image tower, and what decides whether a method finds a place in it.

    Args:
        name: of its best-known model. kind: what sentences call it; "" for CLIP's own.
        blocks: has it blocks of attention over patches? class_token: is one of its rows read out?
        projects: does it end in a linear map?
    """

    name: str
    kind: str = ""
    blocks: bool = True
    class_token: bool = True
    projects: bool = True


TOWERS = (
    Tower("ViT"),
    Tower("ResNet", blocks=False),
    Tower("SigLIP", "VisionTransformer of timm", class_token=False, projects=False),
    Tower("PE-Core", "Eva of timm"),
    Tower("EVA-02", "Eva of timm"),
    Tower("MobileCLIP2-B", "VisionTransformer of timm"),
    Tower("ViTamin", "VisionTransformer of timm", class_token=False),
    Tower("ConvNeXt", "ConvNeXt of timm", blocks=False),
    Tower("FastViT", "FastVit of timm", blocks=False),
)


@dataclass(frozen=True)
class TowerCell:
    """A method on a tower: whether it can be built, and if not why, as a sentence."""

    method: str
    tower: str
    accepted: bool
    note: str

    @property
    def mark(self) -> str:
        return "✓" if self.accepted else "✗"


def on_towers(methods: Sequence[str] | None = None) -> list[TowerCell]:
    """Every method, or those given, on every kind of tower, method by method; an add-on is tried beside `zeroshot`.

    No other library is needed: constructors look at what a tower has, not at what it computes.
    """
    clips = {tower.name: _clip(tower) for tower in TOWERS}
    asked = names() if methods is None else methods
    return [_cell(method, name, clip) for method in asked for name, clip in clips.items()]


def _cell(method: str, tower: str, clip: CLIP) -> TowerCell:
    whole = f"zeroshot+{method}" if all(is_add_on(find(part)) for part in method.split("+")) else method
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the made-up classes have no descriptions, which does not matter here
            build(whole, clip, CLASSES)
    except ValueError as error:
        return TowerCell(method, tower, False, str(error))
    return TowerCell(method, tower, True, "")


def _clip(tower: Tower) -> CLIP:
    """A small CLIP with such an image tower, for counting and asking, never for computing."""
    sizes = SIZES if tower.blocks or tower.kind else replace(SIZES, image_layers=(1, 1, 1, 1), patch=0, image_width=8)
    clip = CLIP.of_sizes(sizes, default_tokenizer(), f"a small {tower.name}")
    if tower.kind:
        clip.image = _stand_in(tower)
    return clip


def _stand_in(tower: Tower) -> ImageTower:
    width, resolution, embed = SIZES.image_width, SIZES.resolution, SIZES.embed
    end = nn.Identity()
    end.head = nn.Linear(width, embed) if tower.projects else nn.Identity()
    if not tower.blocks:
        return ClosedTower(end, tower.kind, "it has no blocks", width, resolution, embed)
    module: Any = nn.Identity()
    module.attn = nn.Identity()
    blocks = [ForeignBlock(module, ("", "", "", "")) for _ in range(int(SIZES.image_layers))]  # type: ignore[arg-type]
    return PatchTower(
        module,
        Stem(module),
        Stack(blocks),
        End(end),
        kind=tower.kind,
        resolution=resolution,
        width=width,
        embed=embed,
        patches=(resolution // SIZES.patch) ** 2,
        prefix=int(tower.class_token),
        gathers=not tower.class_token,
    )

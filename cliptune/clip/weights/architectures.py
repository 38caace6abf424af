"""Architectures by the names that open_clip gives them: what `load_clip(…, arch=NAME)` decides."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from cliptune.clip.model import CLIPConfig
from cliptune.clip.tokenizer import VOCAB_SIZE

_QUICK = "-quickgelu"

# (embed, resolution, image width, image layers, patch), as open_clip 3.3.0 lists them; a ResNet has no patch.
_SIZES: dict[str, tuple[int, int, int, int | tuple[int, ...], int]] = {
    "RN50": (1024, 224, 64, (3, 4, 6, 3), 0),
    "RN101": (512, 224, 64, (3, 4, 23, 3), 0),
    "RN50x4": (640, 288, 80, (4, 6, 10, 6), 0),
    "RN50x16": (768, 384, 96, (6, 8, 18, 8), 0),
    "RN50x64": (1024, 448, 128, (3, 15, 36, 10), 0),
    "ViT-S-16": (384, 224, 384, 12, 16),
    "ViT-S-16-alt": (256, 224, 384, 12, 16),
    "ViT-S-32": (384, 224, 384, 12, 32),
    "ViT-S-32-alt": (256, 224, 384, 12, 32),
    "ViT-M-16": (512, 224, 512, 12, 16),
    "ViT-M-32": (512, 224, 512, 12, 32),
    "ViT-M-32-alt": (384, 224, 512, 12, 32),
    "ViT-B-16": (512, 224, 768, 12, 16),
    "ViT-B-16-plus": (640, 224, 896, 12, 16),
    "ViT-B-16-plus-240": (640, 240, 896, 12, 16),
    "ViT-B-32": (512, 224, 768, 12, 32),
    "ViT-B-32-256": (512, 256, 768, 12, 32),
    "ViT-B-32-plus-256": (640, 256, 896, 12, 32),
    "ViT-L-14": (768, 224, 1024, 24, 14),
    "ViT-L-14-280": (768, 280, 1024, 24, 14),
    "ViT-L-14-336": (768, 336, 1024, 24, 14),
    "ViT-L-16": (768, 224, 1024, 24, 16),
    "ViT-L-16-320": (768, 320, 1024, 24, 16),
    "ViT-H-14": (1024, 224, 1280, 32, 14),
    "ViT-H-14-378": (1024, 378, 1280, 32, 14),
    "ViT-H-16": (1024, 224, 1280, 32, 16),
    "ViT-g-14": (1024, 224, 1408, 40, 14),
    "ViT-bigG-14": (1280, 224, 1664, 48, 14),
    "ViT-e-14": (1280, 224, 1792, 56, 14),
}
# (width, layers) of the text tower, where it is not (512, 12).
_TEXT = {
    "RN50x4": (640, 12),
    "RN50x16": (768, 12),
    "RN50x64": (1024, 12),
    **dict.fromkeys(("ViT-S-16", "ViT-S-32", "ViT-M-32-alt"), (384, 12)),
    **dict.fromkeys(("ViT-S-16-alt", "ViT-S-32-alt"), (256, 10)),
    **dict.fromkeys(("ViT-B-16-plus", "ViT-B-16-plus-240", "ViT-B-32-plus-256"), (640, 12)),
    **dict.fromkeys(("ViT-L-14", "ViT-L-14-280", "ViT-L-14-336", "ViT-L-16", "ViT-L-16-320"), (768, 12)),
    **dict.fromkeys(("ViT-H-14", "ViT-H-14-378", "ViT-H-16", "ViT-g-14"), (1024, 24)),
    "ViT-bigG-14": (1280, 32),
    "ViT-e-14": (1280, 36),
}
# Width of the image tower → inner width of its MLPs, where it is not four times that; and width of its heads, not 64.
_IMAGE_MLPS = {1408: 6144, 1664: 8192, 1792: 15360}
IMAGE_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
CONTEXT = 77


@dataclass(frozen=True)
class Architecture:
    """An architecture of open_clip.

    Args:
        name: as open_clip spells it, with or without "-quickgelu".
        activation: "quick_gelu" where the name says so, else "gelu".
    """

    name: str
    activation: str

    @property
    def config(self) -> CLIPConfig:
        """Its sizes."""
        base = self.name.removesuffix(_QUICK)
        embed, resolution, width, layers, patch = _SIZES[base]
        text_width, text_layers = _TEXT.get(base, (512, 12))
        return CLIPConfig(
            embed=embed,
            resolution=resolution,
            image_width=width,
            image_layers=layers,
            patch=patch,
            context=CONTEXT,
            vocab=VOCAB_SIZE,
            text_width=text_width,
            text_layers=text_layers,
            activation=self.activation,
            image_head_width=IMAGE_HEAD_WIDTHS.get(width),
            image_mlp=_IMAGE_MLPS.get(width),
        )

    def check(self, config: CLIPConfig) -> None:
        """Raises: ValueError with a sentence if the sizes are of another architecture."""
        fields = ("embed", "resolution", "image_width", "image_layers", "patch")
        expected = dict(zip(fields, _SIZES[self.name.removesuffix(_QUICK)], strict=True))
        differing = [
            f"{key} should be {v}, is {getattr(config, key)}"
            for key, v in expected.items()
            if getattr(config, key) != v
        ]
        if differing:
            raise ValueError(f"it is not a {self.name}: {', '.join(differing)}. Give the architecture that it is.")


def architecture_names() -> list[str]:
    """Without those that end in "-quickgelu"."""
    return list(_SIZES)


def architecture(name: str) -> Architecture:
    """The architecture that open_clip calls `name`, such as "ViT-B-16" (GELU) or "ViT-B-16-quickgelu".

    OpenAI's spelling ("ViT-B/16") is refused, because OpenAI's model of that name has the other activation.

    Raises: ValueError with a sentence for any other name.
    """
    base = name.removesuffix(_QUICK)
    if base in _SIZES:
        return Architecture(name, "quick_gelu" if name != base else "gelu")
    dashed = base.replace("/", "-").replace("@", "-").removesuffix("px")
    if dashed in _SIZES:
        raise ValueError(
            f"load_clip: arch={name!r} can be read in two ways. Write {dashed} for open_clip's architecture, with "
            f"GELU, or {dashed}{_QUICK} for the one with OpenAI's QuickGELU."
        )
    near = difflib.get_close_matches(base, _SIZES, n=2, cutoff=0.4)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
        f"load_clip: arch must be a name that open_clip gives to a CLIP like OpenAI's, with or without {_QUICK}, got "
        f"{name!r}. {meant}Known are {', '.join(_SIZES)}."
    )

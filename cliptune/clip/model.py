"""The one frozen CLIP: two towers, a scale, and sizes read from tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cliptune.clip.ports import EMPTY, TowerPorts
from cliptune.clip.tokens import TokenBatch
from cliptune.clip.towers.image import ImageTower, VisionTransformer
from cliptune.clip.towers.products import gains, kernel, learned_linear
from cliptune.clip.towers.resnet import ModifiedResNet
from cliptune.clip.towers.text import TextTower
from cliptune.preprocessing import Preprocessing, Statistics
from cliptune.reading import listed

# Width of a head in every transformer of CLIP; the checkpoints do not store it.
HEAD_WIDTH = 64

Tokenizer = Callable[..., Tensor]


@runtime_checkable
class OffsetTokenizer(Protocol):
    """A tokenizer of another vocabulary than OpenAI's, which says where the tokens of a text stand in it."""

    def __call__(self, texts: Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """K texts → ids (K, context_length), padded."""

    def marks(self, ids: Tensor) -> dict[str, Any]:
        """`ends` and `head` of a `TokenBatch` with these ids (K, T)."""

    def pieces(self, text: str) -> tuple[str, list[int], list[int]]:
        """The text as it is read, the ids of its tokens without those that frame it, and the character at which each
        begins.
        """

    def framed(self, pieces: Sequence[Sequence[int]], context_length: int) -> Tensor:
        """The inverse: tokens of K texts → ids (K, context_length) with what frames and pads them."""

    def notes(self, names: Sequence[str]) -> list[str]:
        """What cleaning does to these class names that a user would want to know, a sentence each."""


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes of a CLIP.

    Args:
        embed: D, joint embedding size.
        resolution: R, image side in pixels.
        image_width: d of a ViT, or channels after the stem of a ResNet.
        image_layers: blocks of a ViT, or bottlenecks of the four stages of a ResNet.
        patch: side of a ViT's patch in pixels; 0 for a ResNet.
        context, vocab, text_width, text_layers: of the text tower.
        activation: "quick_gelu" or "gelu".
        head_width: width of a head. image_head_width: the same for the image tower, where it differs.
        image_mlp, text_mlp: inner width of the blocks' MLPs; None for four times that of the tower.
    """

    embed: int
    resolution: int
    image_width: int
    image_layers: int | tuple[int, ...]
    patch: int
    context: int
    vocab: int
    text_width: int
    text_layers: int
    activation: str = "quick_gelu"
    head_width: int = HEAD_WIDTH
    image_head_width: int | None = None
    image_mlp: int | None = None
    text_mlp: int | None = None

    @property
    def text_heads(self) -> int:
        return self._heads(self.text_width, self.head_width)

    @property
    def image_heads(self) -> int:
        """Heads of a ViT's blocks, or of a ResNet's attention pool, which is 32 times as wide as the stem."""
        width = self.image_width if self.patch else 32 * self.image_width
        return self._heads(width, self.image_head_width or self.head_width)

    @staticmethod
    def _heads(width: int, head_width: int) -> int:
        if width % head_width:
            raise ValueError(
                f"CLIPConfig: a width of {width} is not a multiple of the head width {head_width}. "
                "Give the head width that this checkpoint was trained with."
            )
        return width // head_width

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor], activation: str = "quick_gelu", **known: Any) -> CLIPConfig:
        """Read the sizes from tensors in OpenAI's layout (`visual.*`, `transformer.*`, …).

        Raises: ValueError naming the first tensor that is missing, or has not the axes that it must have.
        """

        def shape(key: str, axes: int) -> tuple[int, ...]:
            return _shape(tensors, key, axes)

        context, text_width = shape("positional_embedding", 2)
        if "visual.proj" in tensors or "visual.class_embedding" in tensors:
            image_width, _, patch, _ = shape("visual.conv1.weight", 4)
            cells = shape("visual.positional_embedding", 2)[0] - 1
            image_layers: int | tuple[int, ...] = _count(tensors, "visual.transformer.resblocks.")
        else:
            image_width, patch = shape("visual.layer1.0.conv1.weight", 4)[0], 0
            cells = shape("visual.attnpool.positional_embedding", 2)[0] - 1
            image_layers = tuple(_count(tensors, f"visual.layer{s}.") for s in (1, 2, 3, 4))
        side = round(cells**0.5)
        config = cls(
            embed=shape("text_projection", 2)[1],
            resolution=side * (patch or 32),
            image_width=image_width,
            image_layers=image_layers,
            patch=patch,
            context=context,
            vocab=shape("token_embedding.weight", 2)[0],
            text_width=text_width,
            text_layers=_count(tensors, "transformer.resblocks."),
            activation=activation,
            image_mlp=_mlp(tensors, "visual.transformer.resblocks.0.", image_width),
            text_mlp=_mlp(tensors, "transformer.resblocks.0.", text_width),
        )
        return replace(config, **known)


class CLIP(nn.Module):
    """A frozen CLIP, open at ports.

    Attributes:
        image, text: the towers. logit_scale: scalar, log of the scale.
        tokenizer: `tokenizer(texts, context_length=…) → ids (K, context)`.
        name: of the backbone; origin: where the weights come from.
        preprocessing: how pictures become pixels. mean, std: its statistics, for images in [0, 1].
        notes: what was left out, converted or decided in reading the weights, a sentence each.
        logit_bias: scalar that a CLIP trained with a sigmoid loss adds to every similarity (SigLIP, arXiv:2303.15343);
            None for the others. Softmax over classes does not see it.

    Towers of other libraries are given as `towers`, image and text; None makes CLIP's own.
    """

    image: ImageTower
    text: TextTower
    logit_bias: Tensor | None

    def __init__(
        self,
        config: CLIPConfig,
        tokenizer: Tokenizer | None = None,
        name: str = "clip",
        towers: tuple[ImageTower, TextTower] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.tokenizer, self.name = config, tokenizer, name
        self.origin: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        self.image, self.text = _own_towers(config) if towers is None else towers
        self.logit_scale = nn.Parameter(torch.tensor(math.log(100.0)))
        self.register_buffer("logit_bias", None)
        self.preprocessing = Preprocessing()
        self.freeze()

    @classmethod
    def from_state_dict(
        cls,
        tensors: Mapping[str, Tensor],
        activation: str = "quick_gelu",
        name: str = "clip",
        tokenizer: Tokenizer | None = None,
        dtype: torch.dtype = torch.float32,
        **known: Any,
    ) -> CLIP:
        """Build from tensors in OpenAI's layout. Raises: ValueError naming missing, spare or misshapen tensors."""
        config = CLIPConfig.from_state_dict(tensors, activation, **known)
        with torch.device("meta"):
            clip = cls(config, tokenizer, name)
        ours = {our_key(key): value for key, value in tensors.items() if key not in _NOT_WEIGHTS}
        expected = clip.state_dict()
        missing, spare = sorted(set(expected) - set(ours)), sorted(set(ours) - set(expected))
        if missing or spare:
            raise ValueError(
                f"CLIP {name!r}: the weights do not fit the layout that their sizes imply: "
                f"missing {_few(missing)}; unexpected {_few(spare)}. Is the file a complete CLIP checkpoint?"
            )
        for key, value in ours.items():
            if value.is_floating_point() != expected[key].is_floating_point():
                raise ValueError(
                    f"CLIP {name!r}: tensor {key} must hold numbers like {expected[key].dtype}, got {value.dtype}. Is "
                    "the file damaged?"
                )
            if value.shape != expected[key].shape:
                raise ValueError(
                    f"CLIP {name!r}: tensor {key} must have shape {tuple(expected[key].shape)}, "
                    f"got {tuple(value.shape)}. Is the file damaged, or from another architecture?"
                )
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in ours.items()}
        clip.load_state_dict(cast, assign=True)
        return clip.freeze()

    @classmethod
    def of_sizes(cls, config: CLIPConfig, tokenizer: Tokenizer | None = None, name: str = "clip") -> CLIP:
        """A CLIP of these sizes whose weights are unset memory: for counting, never for computing. Costs nothing."""
        with torch.device("meta"):
            clip = cls(config, tokenizer, name)
        return clip.to_empty(device="cpu")

    def freeze(self) -> CLIP:
        """No parameter learns, and BatchNorm stays in evaluation mode for good."""
        self.requires_grad_(False)
        super().train(False)
        return self

    def train(self, mode: bool = True) -> CLIP:
        """The frozen CLIP is always in evaluation mode, whatever contains it."""
        return super().train(False)

    @property
    def scale(self) -> Tensor:
        """s = exp(logit_scale), float32 scalar."""
        return self.logit_scale.float().exp()

    @property
    def mean(self) -> Statistics:
        return self.preprocessing.mean

    @property
    def std(self) -> Statistics:
        return self.preprocessing.std

    @property
    def dtype(self) -> torch.dtype:
        weight: Tensor = self.text.token_embedding.weight
        return weight.dtype

    @property
    def device(self) -> torch.device:
        weight: Tensor = self.text.token_embedding.weight
        return weight.device

    @property
    def products(self) -> str:
        """Which of torch's kernels large float32 products with frozen weights take on this processor, as a word."""
        return kernel()

    def normalise(self, images: Tensor) -> Tensor:
        """(..., 3, h, w) in [0, 1] → normalised with the statistics CLIP was trained with."""
        mean, std = (
            torch.tensor(v, device=images.device, dtype=images.dtype)[:, None, None] for v in (self.mean, self.std)
        )
        return (images - mean) / std

    def encode_image(self, views: Tensor, ports: TowerPorts = EMPTY) -> Tensor:
        """Normalised views (B, V, 3, R, R) → (B, V, D) float32, not unit-norm."""
        features: Tensor = self.image(views, ports)
        return features.float()

    def encode_text(self, texts: TokenBatch, ports: TowerPorts = EMPTY) -> Tensor:
        """K texts → (I, K, D) float32, not unit-norm; I = 1 unless the ports depend on the image."""
        features: Tensor = self.text(texts, ports)
        return features.float()

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """s · cosines (B, V, K) of unit image features (B, V, D) with unit texts (I, K, D); I = 1 or B."""
        scaled = self.scale * image
        return learned_linear(scaled, text[0]) if len(text) == 1 and gains(scaled, text[0]) else scaled @ text.mT

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Texts without prompt places. Raises: ValueError for a text longer than the context."""
        if self.tokenizer is None:
            raise ValueError(f"CLIP {self.name!r} was built without a tokenizer; pass `tokenizer=` to encode texts.")
        ids = self.tokenizer(list(texts), context_length=self.text.context).to(self.device)
        marks = self.tokenizer.marks(ids) if isinstance(self.tokenizer, OffsetTokenizer) else {}
        return TokenBatch.plain(ids, **marks)


def _own_towers(c: CLIPConfig) -> tuple[ImageTower, TextTower]:
    image: ImageTower
    if c.patch:
        if not isinstance(c.image_layers, int):
            raise ValueError(f"CLIPConfig: a ViT has one number of image layers, got {c.image_layers}.")
        image = VisionTransformer(
            c.resolution, c.patch, c.image_width, c.image_layers, c.image_heads, c.embed, c.activation, c.image_mlp
        )
    else:
        if isinstance(c.image_layers, int):
            raise ValueError("CLIPConfig: a ResNet has a tuple of image layers, one count per stage.")
        image = ModifiedResNet(c.resolution, c.image_width, c.image_layers, c.image_heads, c.embed)
    text = TextTower(c.context, c.vocab, c.text_width, c.text_layers, c.text_heads, c.embed, c.activation, c.text_mlp)
    return image, text


_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}


def our_key(key: str) -> str:
    """Name of an OpenAI tensor here: `visual.*` is `image.*`, the rest `text.*`, but for the scale."""
    if key == "logit_scale":
        return key
    return "image." + key.removeprefix("visual.") if key.startswith("visual.") else "text." + key


def openai_key(key: str) -> str:
    """The inverse of `our_key`."""
    if key == "logit_scale":
        return key
    return "visual." + key.removeprefix("image.") if key.startswith("image.") else key.removeprefix("text.")


def _need(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in tensors:
        raise ValueError(
            f"CLIPConfig: tensor {key!r} is missing, so this is not a CLIP in OpenAI's layout "
            f"(found {len(tensors)} tensors, such as {_few(sorted(tensors))})."
        )
    return tensors[key]


def _shape(tensors: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    """Raises: ValueError for a tensor that is missing, empty, or has more or fewer axes."""
    shape = tuple(_need(tensors, key).shape)
    if len(shape) != axes or not all(shape):
        raise ValueError(
            f"CLIPConfig: tensor {key!r} must have {axes} axes, none of length 0, got shape {shape}. Is the file "
            "damaged?"
        )
    return shape


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in tensors if key.startswith(prefix)})


def _mlp(tensors: Mapping[str, Tensor], block: str, width: int) -> int | None:
    """Inner width of the MLPs, where it is not 4 d; a ResNet has none."""
    weight = tensors.get(f"{block}mlp.c_fc.weight")
    return None if weight is None or weight.ndim != 2 or len(weight) == 4 * width else len(weight)


def _few(names: Sequence[str]) -> str:
    return listed(names, 3) or "none"

"""An adapter as one graph, from the pixels of an image to probabilities, with its texts folded in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.adapter import Adapter, without_drift
from cliptune.calibration import softened
from cliptune.clip.ports import Ports, TowerPorts
from cliptune.heads import Head
from cliptune.texts import TextBatch


class Graph(nn.Module):
    """The adapter's probabilities of images, without anything that could be computed before the image is known.

    The ports are evaluated once, for the adapter's present classes, and the class texts are encoded once. Where the
    head is linear in the similarities, texts and head are one matrix per view (`Adapter.fold`). Where the texts depend
    on the image, the text tower is part of the graph and runs for every image.

    Args:
        adapter: in float32, in any mode; it is left as it is.
        dtype: of the towers, float32 or float16. What comes after them stays float32.

    forward: images (B, 3, R, R), uint8, or float32 in [0, 1], not normalised; R is `resolution` → (B, C) float32, rows
    that sum to 1.
    """

    def __init__(self, adapter: Adapter, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        clip = adapter.clip
        self.resolution, self.mean, self.std = adapter.resolution, clip.mean, clip.std
        self.temperature = adapter.temperature
        with adapter.evaluating(), torch.no_grad():
            ports = adapter.prompt(seen=adapter.seen)
            self.tower = copy.deepcopy(clip.image).to(dtype)
            self.entering = _Constants(ports.image)
            self.pixels, self.features = _held(ports.pixels), _held(ports.features)
            self.answer = _answer(adapter, ports, dtype)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        views = self._normalised(pixels)[:, None] if self.pixels is None else self.pixels(pixels, None)
        embedding = self.tower(views, self.entering()).float()
        if self.features is not None:
            embedding = self.features(embedding)
        logits: Tensor = self.answer(embedding)
        return softened(logits, self.temperature)

    def _normalised(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return (images - mean) / std


class _Constants(nn.Module):
    """Ports of a tower whose leaves are numbers now."""

    def __init__(self, ports: TowerPorts) -> None:
        super().__init__()
        self.ports = ports
        for place, (_, value) in enumerate(ports.leaves()):
            self.register_buffer(f"leaf{place}", value.detach().clone())

    def forward(self) -> TowerPorts:
        leaves = iter(self.buffers())
        return self.ports.map(lambda _: next(leaves))


class _Held(nn.Module):
    """A port that is a function, with the module that it belongs to."""

    def __init__(self, port: Callable[..., Tensor]) -> None:
        super().__init__()
        self.port = port
        owner = getattr(port, "__self__", None)
        if isinstance(owner, nn.Module):
            self.owner = copy.deepcopy(owner)
            self.port = getattr(self.owner, port.__name__)

    def forward(self, *given: Any) -> Tensor:
        return self.port(*given)


def _held(port: Callable[..., Tensor] | None) -> _Held | None:
    return None if port is None else _Held(port)


class _Matrix(nn.Module):
    """Texts, head and scale as one matrix per view."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.transpose(1, 2).flatten(0, 1).contiguous())  # (V D, C)

    def forward(self, embedding: Tensor) -> Tensor:
        return F.normalize(embedding, dim=-1).flatten(1) @ self.weight


class _Voted(nn.Module):
    """A head that looks at similarities with texts that are known."""

    features: Tensor

    def __init__(self, head: Head, texts: TextBatch, features: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.head, self.texts, self.scale = copy.deepcopy(head), texts, float(scale)
        self.register_buffer("features", features.detach().clone())

    def forward(self, embedding: Tensor) -> Tensor:
        similarity = self.scale * F.normalize(embedding, dim=-1) @ self.features.mT
        return self.head(similarity, self.texts, embedding)


class _Conditional(nn.Module):
    """Texts that are encoded anew for every image."""

    frozen: Tensor | None

    def __init__(self, adapter: Adapter, ports: Ports, dtype: torch.dtype) -> None:
        super().__init__()
        # A head that depends on the texts is not joined to texts that depend on the image.
        head = adapter.head_for(torch.zeros(0, len(adapter.texts), adapter.clip.image.embed))
        self.prompt, self.head = copy.deepcopy(adapter.prompt), copy.deepcopy(head)
        self.seen, self.scale = adapter.seen, float(adapter.clip.scale)
        self.tower = copy.deepcopy(adapter.clip.text).to(dtype)
        self.tower.plain = True  # the other path is planned for a known number of images
        # Nothing behind the last end of a text is read, and only the words that occur: their order keeps the end last.
        ids = adapter.texts.ids[:, : int(adapter.texts.eot.max()) + 1]
        words, ids = ids.unique(return_inverse=True)
        self.tower.token_embedding = nn.Embedding.from_pretrained(self.tower.token_embedding.weight[words])
        self.texts = replace(adapter.texts, ids=ids)
        frozen = adapter.reference_texts().detach().clone() if adapter.corrects_drift else None
        self.register_buffer("frozen", frozen)

    def forward(self, embedding: Tensor) -> Tensor:
        image = F.normalize(embedding, dim=-1)
        ports = self.prompt(seen=self.seen)
        embedding = self.tower(self.texts, ports.text_given(image)).float()
        if ports.text_features is None:
            features = self.texts.reduce(embedding)
        else:
            features = ports.compared(ports.text_features(self.texts.mean(embedding)))
        if self.frozen is not None:
            features = without_drift(features, self.frozen)
        return self.head(self.scale * image @ features.mT, self.texts, embedding)


def check_alone(adapter: Adapter) -> None:
    """Raises: ValueError for an adapter whose answer to a picture depends on those before, which an export has not."""
    if adapter.head.order is not None:
        raise ValueError(
            "export: this method answers a picture by those that came before it, and an export answers each one alone. "
            "Export zeroshot, which is what it is without them, or a method that learns from training images."
        )


def _answer(adapter: Adapter, ports: Ports, dtype: torch.dtype) -> nn.Module:
    """What makes logits (B, C) of image embeddings (B, V, D)."""
    check_alone(adapter)
    if ports.condition is not None:
        return _Conditional(adapter, ports, dtype)
    features = adapter.text_features()
    assert features is not None  # without a condition there are some
    try:
        return _Matrix(adapter.fold().weight)
    except ValueError:  # not linear in the similarities
        return _Voted(adapter.head_for(features), adapter.texts, features, adapter.clip.scale)

"""TextRefiner: class texts that read from a cache of what patches of the images look like.  (arXiv:2412.08176)"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.clip.ports import Ports, called
from cliptune.clip.towers.image import VisionTransformer
from cliptune.prompts import Together
from cliptune.prompts.refiner import LocalCache, Refined
from cliptune.recipe import Objective, Recipe

PAPER = "2412.08176"
ENTERS = "text_features, read from a cache of patches"
EXACT = "gradients with textrefiner in bfloat16 had a cosine of down to 0.997 with float32's"
# After what adds words; its cache and maps are no matrices of low rank.
ORDER = 15
PUBLISHED_ADVICE = ", or give the file Memory/model.pth.tar-… of the same epoch as well (--memory)"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        textrefiner_slots: M, of the cache. textrefiner_momentum: of a slot when a batch moves it, in [0, 1].
        textrefiner_share: α, of what a text reads.
        textrefiner_patches: patches of each image, those that the class token attends to most, that are told to be of
            its class, beside the class token and the mean.
        textrefiner_local, textrefiner_near: weights of that loss, and of the mean absolute difference between refined
            and plain texts; ≥ 0.
    """

    textrefiner_slots: int = 25
    textrefiner_momentum: float = 0.8
    textrefiner_share: float = 0.2
    textrefiner_patches: int = 5
    textrefiner_local: float = 1 / 50
    textrefiner_near: float = 20.0


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    adapter = recipe.adapter
    for name in ("textrefiner_local", "textrefiner_near", "textrefiner_share"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"textrefiner: {name} must be a number of at least 0, got {getattr(config, name)}.")
    patches = _check_host(recipe)
    if not 1 <= config.textrefiner_patches <= patches:
        raise ValueError(
            f"textrefiner: textrefiner_patches must be between 1 and the {patches} patches of this backbone, got "
            f"{config.textrefiner_patches}."
        )
    cache = LocalCache(
        adapter.clip.image.embed, config.textrefiner_slots, config.textrefiner_share, config.textrefiner_momentum
    )
    adapter.prompt = Together(host=adapter.prompt, refiner=cache)
    adapter.extras["patches"] = LocalViews(config.textrefiner_patches)
    for stage in recipe.stages:
        if stage.optimiser is not None and stage.objective is not None:
            stage.objective = RefinerLoss(stage.objective, config.textrefiner_local, config.textrefiner_near)
            stage.whole_batch = True  # of the BatchNorm, and of the cache, which moves once per step
            stage.optimiser = stage.optimiser.moved("prompt.", "prompt.parts.host.")
    recipe.exact = recipe.exact or EXACT
    return recipe


def _check_host(recipe: Recipe) -> int:
    """Patches of the backbone. Raises: ValueError where the host has no place for refined texts."""
    adapter, tower = recipe.adapter, recipe.adapter.clip.image
    if not isinstance(tower, VisionTransformer):
        raise ValueError(
            f"textrefiner: the cache needs the patches of a ViT of CLIP, but this backbone has a {called(tower)}. "
            "Use a ViT backbone."
        )
    if not any(stage.optimiser is not None for stage in recipe.stages):
        raise ValueError(
            "textrefiner: this host takes no gradient steps, by which texts would learn to read. Use a host that is "
            "trained, such as coop or maple."
        )
    ports = adapter.prompt()
    if adapter.known_texts is not None:
        raise ValueError(
            "textrefiner: this host keeps texts of another CLIP, and patches of this one are not in their space. The "
            "release has a version of its own for PromptKD, which maps patches into the teacher's space and is not "
            "built here. Use a host such as coop or maple."
        )
    if ports.pixels is not None or ports.features is not None:
        raise ValueError(
            "textrefiner: this host draws on the pixels or maps image embeddings into another space, and patches are "
            "compared with texts as CLIP itself sees them. Use a host such as coop or maple."
        )
    if ports.text_features is not None:
        raise ValueError(
            "textrefiner: this host changes text embeddings behind the text tower itself (a `text_features` port). Use "
            "a host such as coop or maple."
        )
    if adapter.corrects_drift:
        raise ValueError(
            "textrefiner: this host takes off its texts what moved them all alike, which refined texts of another "
            "length do not have. Use a host such as coop or maple, or turn its drift_correction off."
        )
    if not adapter.texts.one_vote_each or adapter.head.state_dict():
        raise ValueError(
            "textrefiner: this host says each class in several texts, or has a head of its own, and one text per class "
            "is refined. Use a host such as coop or maple."
        )
    return tower.patches


class LocalViews:
    """What `Adapter.extras` holds: for each batch, an object that keeps what the last image block sees of the patches.

    Args:
        top: patches of each image that are told to be of its class.
    """

    def __init__(self, top: int) -> None:
        self.top = top

    @contextmanager
    def __call__(self, adapter: Adapter, batch: Batch) -> Iterator[Locals]:
        """Around a forward pass."""
        kept = Locals(self.top, adapter, batch)
        with kept.shown():
            yield kept


class Locals:
    """The mapped class token and patches of one batch, and the texts before and after they were refined.

    After `complete`: `chosen` (B, top + 2, D), the class token, the patches that it attends to most, and the mean of
    all; `plain` and `refined` (I, C, D). In training the cache is moved then, once the texts have read from it.
    """

    def __init__(self, top: int, adapter: Adapter, batch: Batch) -> None:
        self.top, self.adapter, self.batch = top, adapter, batch
        self.seen: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The image tower shows this object what its last block sees."""
        tower = cast(VisionTransformer, self.adapter.clip.image)
        tower.show = self.keep
        try:
            yield
        finally:
            tower.show = None

    def keep(self, rows: Tensor, attention: Tensor) -> None:
        """Embeddings of class token and patches (B, 1 + G², D), attention (B, G²)."""
        if self.seen is None:  # the frozen reference passes after the adapter's own answer
            self.seen = rows.float(), attention.detach()

    def complete(self, ports: Ports, out: Outputs) -> None:
        """The forward pass is done: its ports and its answer."""
        if self.seen is None:
            self._look_again(ports)
        assert self.seen is not None
        rows, attention = self.seen
        cache = next(part for part in self.adapter.prompt.modules() if isinstance(part, LocalCache))
        mapped = cache.mapped(rows)
        nearest = 1 + attention.topk(self.top, dim=-1).indices[..., None].expand(-1, -1, mapped.shape[-1])
        self.chosen = torch.cat([mapped[:, :1], mapped.gather(1, nearest), mapped.mean(dim=1, keepdim=True)], dim=1)
        self.plain, self.refined = cast(Refined, ports.text_features).plain, out.text_features
        if self.adapter.training:
            cache.write(mapped)

    def _look_again(self, ports: Ports) -> None:
        """Where the image embedding was known, the tower was not asked."""
        if not self.batch.images.numel():
            raise ValueError(
                "textrefiner: the images themselves are needed for their patches, but this run keeps only their "
                "embeddings. Leave `views` out, and train on augmented images."
            )
        with self.shown():
            self.adapter.clip.encode_image(self.adapter.views(self.batch, ports.pixels), ports.image)


class RefinerLoss:
    """The host's loss of refined texts, + `local` · CE(chosen, plain texts) + `near` · mean |unit refined − plain|.

    What else of the texts the host minimises is of the plain ones.
    Source: TextRefiner (arXiv:2412.08176), with the weights of its release.
    """

    def __init__(self, host: Objective, local: float, near: float) -> None:
        self.host, self.local, self.near = host, local, near
        self.needs = frozenset(host.needs) | {"patches"}

    def __call__(self, out: Outputs, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        seen: Locals = out.extras["patches"]
        assert seen.plain is not None
        loss, parts = self.host(replace(out, text_features=seen.plain), batch, progress)
        scores = seen.adapter.clip.scale * seen.chosen @ seen.plain.mT
        labels = batch.labels.repeat_interleave(scores.shape[1])
        local = self.local * F.cross_entropy(scores.flatten(0, 1), labels)
        near = self.near * F.l1_loss(F.normalize(seen.refined, dim=-1), seen.plain)
        return loss + local + near, {**parts, "local": local, "near": near}


def hosted_name(name: str) -> str:
    """Where a learnable of the host stands once this is joined to it."""
    return name.replace("prompt.", "prompt.parts.host.", 1)


_REFINER = "prompt.parts.refiner."
_MEMORY = {"cache": "Memory.text_fine_cache", "mix.weight": "Memory.extractor.weight"}


def published_name(name: str) -> str | None:
    """Name of a learnable in the released code's two state dicts; None for the host's own."""
    if not name.startswith(_REFINER):
        return None
    part = name.removeprefix(_REFINER)
    return _MEMORY.get(part) or part.replace("local.", "mid_image_trans.conv1.", 1)


def published_tensor(name: str, value: Tensor) -> Tensor:
    """A learnable as the release shapes it: its linear maps of patches are convolutions."""
    convolved = name in (f"{_REFINER}local.0.weight", f"{_REFINER}local.3.weight")
    return value[..., None, None].contiguous() if convolved else value


def published_ballast(adapter: Adapter) -> dict[str, Tensor]:
    """What else the release writes, and needs: nothing."""
    return {}


def published_options(tensors: Mapping[str, Tensor], clip: CLIP, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that the released state dicts imply."""
    cache = tensors.get(_MEMORY["cache"])
    return {} if cache is None else {"textrefiner_slots": len(cache)}

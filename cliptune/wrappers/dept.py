"""DePT: a classifier of adjusted channels beside the host's answer, for trained classes.  (arXiv:2309.07439)"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.ports import Ports
from cliptune.heads import TransferHead
from cliptune.heads.transfer import Fusion
from cliptune.recipe import Objective, Recipe

PAPER = "2309.07439"
ENTERS = "a linear head on image and text embeddings, in training and for trained classes"
# After what changes the prompt; before what adds losses on parts of the images, which ask the head as well.
ORDER = 25


_RELEASED = {"image.": "film_lp_img.", "text.": "film_lp_text.", "classifier.": "linear_probe_proj."}


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        dept_weight: λ of the new head in the loss and in the answer, between 0 and 1.
        dept_fusion: of the two answers: "paper" mixes probabilities, "released" logits.
        dept_lr_scale: factor on the host's learning rate for the new head.
    """

    dept_weight: float = 0.7
    dept_fusion: Fusion = "paper"
    dept_lr_scale: float = 6.5


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    adapter = recipe.adapter
    if not 0 < config.dept_lr_scale < math.inf:
        raise ValueError(f"dept: dept_lr_scale must be above 0, got {config.dept_lr_scale}.")
    _check_host(recipe)
    width = adapter.clip.image.embed
    adapter.head = TransferHead(adapter.head, len(adapter.classes), width, config.dept_weight, config.dept_fusion)
    adapter.extras["two_heads"] = _two_heads
    for stage in recipe.stages:
        if stage.optimiser is not None and stage.objective is not None:
            stage.objective = TransferLoss(stage.objective)
            factors = {**stage.optimiser.factors, "head.": config.dept_lr_scale}
            stage.optimiser = replace(stage.optimiser, factors=factors)
    recipe.remarks += ("where a class asked about is not a trained one, the host answers alone",)
    return recipe


def _check_host(recipe: Recipe) -> None:
    adapter, head = recipe.adapter, recipe.adapter.head
    if not any(stage.optimiser is not None for stage in recipe.stages):
        raise ValueError(
            "dept: this host takes no gradient steps, by which the second head would learn. Use a host that is "
            "trained, such as coop or maple."
        )
    if head.state_dict() or head.class_specific or not head.settled:
        raise ValueError(
            f"dept: this host answers with a head of its own ({type(head).__name__}) that learns, fits or counts, and "
            "DePT's stands beside the plain one. Use a host that learns prompts, such as coop or maple."
        )
    if adapter.known_texts is not None:
        raise ValueError(
            "dept: this host keeps class texts of another CLIP as unit features, and DePT learns from text embeddings "
            "before unit norm. Use a host that encodes its own texts, such as coop or maple."
        )
    if not adapter.texts.one_vote_each:
        raise ValueError(
            "dept: this host says each class in several texts, and DePT learns from one text embedding per class. "
            "Use a host such as coop or maple."
        )
    if adapter.prompt().features is not None:
        raise ValueError(
            "dept: this host maps image embeddings to another space (a `features` port), and DePT's classifier takes "
            "those of the towers. Use a host such as coop or maple."
        )


class TwoHeads:
    """What each head says of one batch: logits (B, C) of the images, and (B, C) of the text of each image's class."""

    def __init__(self, adapter: Adapter, batch: Batch) -> None:
        self.adapter, self.batch = adapter, batch

    def complete(self, ports: Ports, out: Outputs) -> None:
        head: Any = self.adapter.head
        assert out.text_embedding is not None
        self.host: Tensor = head.host(out.similarity, self.adapter.texts, out.image_embedding)
        self.of_images: Tensor = head.of_images(out.image_embedding)
        self.of_texts: Tensor = head.of_texts(_of_classes(out.text_embedding, self.batch.labels))
        self.weight: float = head.weight


@contextmanager
def _two_heads(adapter: Adapter, batch: Batch) -> Iterator[TwoHeads]:
    yield TwoHeads(adapter, batch)


def _of_classes(embedding: Tensor, labels: Tensor) -> Tensor:
    """(I, C, D) → (B, D), the row of each image's class; I = 1 or B."""
    return embedding.expand(len(labels), -1, -1)[torch.arange(len(labels), device=labels.device), labels]


class TransferLoss:
    """The host's loss with (1 − λ) CE(host) + λ CE(z of images and of their classes' texts) in place of its CE.

    What else the host minimises stays as it is. A host without a part "ce" is taken for one whole: (1 − λ) of it.
    Source: DePT (arXiv:2309.07439): L = λ L_CAT + (1 − λ) L_ITM; that regularisers keep their weight, as released.
    """

    def __init__(self, host: Objective) -> None:
        self.host = host
        self.needs = frozenset(host.needs) | {"text_embedding", "two_heads"}

    def __call__(self, out: Outputs, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        heads: TwoHeads = out.extras["two_heads"]
        # Regularisers of the host compare its own answer, not the fused one.
        loss, parts = self.host(replace(out, logits=heads.host), batch, progress)
        transfer = F.cross_entropy(torch.cat([heads.of_texts, heads.of_images]), batch.labels.repeat(2))
        replaced = parts.get("ce", loss)
        return loss + heads.weight * (transfer - replaced), {**parts, "transfer": transfer}


def published_name(name: str) -> str:
    """Name of a learnable of the head in the released code's state dict, beside those of the host."""
    part = name.removeprefix("head.")
    ours = next(start for start in _RELEASED if part.startswith(start))
    return _RELEASED[ours] + part.removeprefix(ours).replace("shift", "bias")

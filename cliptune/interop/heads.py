"""Checkpoints of CLAP's release: prototypes of the classes, and the texts that they started from.

As released, the file of its `adapter` holds `prototypes` (C, D) and `base_text_features` (C, D), the mean embeddings of
the class texts before unit norm. Here a head keeps what lies between the two, and its texts come from the class names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads.probe import ProbeHead
from cliptune.interop.add_ons import parted
from cliptune.recipe import Recipe
from cliptune.registry.building import build
from cliptune.texts import ClassSet

PROBES = ("clap", "zs_probe")
_PROTOTYPES, _TEXTS = "prototypes", "base_text_features"
# Cosine below which two texts are no longer the same text in another precision.
_SAME_TEXT = 0.999


@torch.no_grad()
def probe_from_published(
    method: str, tensors: Mapping[str, Tensor], clip: CLIP, class_names: Sequence[str] | ClassSet, **options: Any
) -> Recipe:
    """A recipe whose head has the prototypes of a released checkpoint.

    Args:
        options: of the method; the sentence of the class texts is not in the file.
    Raises: ValueError naming what is missing, unexpected or misshapen.
    """
    spare = sorted(set(tensors) - {_PROTOTYPES, _TEXTS})
    if _PROTOTYPES not in tensors or spare:
        raise ValueError(
            f"from_published: this is not a released checkpoint of {method}, which holds {_PROTOTYPES} and {_TEXTS}: "
            f"missing {'none' if _PROTOTYPES in tensors else _PROTOTYPES}, unexpected {spare[:5] or 'none'}. "
            "Other heads of that release cannot be read."
        )
    recipe = build(method, clip, class_names, **options)
    adapter = recipe.adapter
    text = _texts(adapter)
    given = {name: value.float().cpu() for name, value in tensors.items()}
    for name, value in given.items():
        if value.shape != text.shape:
            raise ValueError(
                f"from_published: {name} must be {tuple(text.shape)}, classes by embedding size of this backbone, got "
                f"{tuple(value.shape)}. Give all class names in label order, and the backbone it was trained with."
            )
    length = given[_TEXTS].norm(dim=-1) if _TEXTS in given else torch.ones(len(text))
    own = adapter.learnables()
    own |= {"head.length": length, "head.residual": given[_PROTOTYPES] - length[:, None] * text}
    adapter.load_learnables(own)
    if _TEXTS in given:
        apart = F.cosine_similarity(given[_TEXTS], text, dim=-1) < _SAME_TEXT
        if apart.any():
            first = adapter.classes.names[int(apart.nonzero()[0])]
            recipe.notes += (
                f"from_published: the texts of {int(apart.sum())} of {len(text)} classes, such as {first!r}, are not "
                "those that the checkpoint started from. It answers as the checkpoint does all the same; another "
                "sentence or other class names may be meant.",
            )
    return recipe


@torch.no_grad()
def probe_to_published(method: str, adapter: Adapter) -> dict[str, Tensor]:
    """What the release's `load_model` reads. Raises: ValueError for an adapter with add-ons."""
    head = adapter.head
    if parted(method)[1] or not isinstance(head, ProbeHead):
        raise ValueError(f"to_published: what is joined in {method!r} has no place in a released checkpoint of CLAP.")
    text = _texts(adapter).to(head.length.device)
    start = head.length[:, None] * text
    return {_PROTOTYPES: head.prototypes(text[None])[0].cpu().contiguous(), _TEXTS: start.cpu().contiguous()}


def _texts(adapter: Adapter) -> Tensor:
    """Unit class texts (C, D), which no image changes."""
    found = adapter.text_features()
    assert found is not None
    return found[0].float().cpu()

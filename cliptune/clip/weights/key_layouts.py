"""The names that CLIP's tensors go by in other libraries, brought to those of OpenAI.

| layout | tells itself by |
|---|---|
| `openai` | `visual.*`, `transformer.*`, …; open_clip writes the same names |
| `open_clip` | `visual.*` and `text.*` (its models with a separate text tower) |
| `cliptune` | `image.*` and `text.*`, our own state dict |
| `hugging_face` | `vision_model.*` and `text_model.*`, `CLIPModel` of transformers |
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from cliptune.clip.model import openai_key
from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.reading import listed

# Sizes that OpenAI stored beside the weights, and masks and positions that the towers make themselves.
_NOT_WEIGHTS = re.compile(r"(^|\.)(attn_mask|position_ids|input_resolution|context_length|vocab_size)$")

_HUGGING_FACE = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    # The misspelling is theirs.
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
    "logit_scale": "logit_scale",
}
# A Linear stores (out, in); OpenAI's projections are (in, out).
_TRANSPOSED = {"text_projection.weight", "visual_projection.weight"}
_HUGGING_FACE_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_QKV = ("q_proj", "k_proj", "v_proj")
_OPENAI_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def to_openai_layout(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The same weights under OpenAI's names, and which layout they were in (see above).

    Raises: ValueError naming what is foreign or missing, if the library has no towers for it or if its
        vocabulary is not OpenAI's.
    """
    tensors = {name: value for name, value in tensors.items() if not is_no_weight(name)}
    layout = _layout(tensors)
    if layout == "hugging_face":
        ours = _from_hugging_face(tensors)
    else:
        ours = {openai_key(name): value for name, value in tensors.items()}
    table = ours.get("token_embedding.weight")
    rows = VOCAB_SIZE if table is None else 1 if table.ndim == 0 else len(table)
    if rows != VOCAB_SIZE:
        raise ValueError(
            f"the vocabulary must be OpenAI's, of {VOCAB_SIZE} tokens, but token_embedding.weight has {rows} "
            "rows. Models with another tokenizer cannot be read."
        )
    if "logit_scale" in ours:
        # Some open_clip models keep one value in a vector.
        if ours["logit_scale"].numel() != 1:
            raise ValueError(f"logit_scale must be one number, got shape {tuple(ours['logit_scale'].shape)}.")
        ours["logit_scale"] = ours["logit_scale"].reshape(())
    return ours, layout


def is_no_weight(name: str) -> bool:
    """Whether a tensor of this name is a size, mask or position that some files hold beside the weights."""
    return _NOT_WEIGHTS.search(name) is not None


def _layout(tensors: Mapping[str, Tensor]) -> str:
    parts = {name.split(".")[0] for name in tensors}
    foreign = next(
        (name for name in tensors if name.startswith(("visual.trunk.", "text.transformer.embeddings."))), None
    )
    if foreign is not None:
        raise ValueError(
            f"tensor {foreign!r} belongs to a tower of another library (timm or a language model). "
            "Only CLIPs with OpenAI's ViT or ResNet and text tower can be read."
        )
    if {"vision_model", "text_model"} <= parts:
        return "hugging_face"
    if {"image", "text"} <= parts:
        return "cliptune"
    if {"visual", "text"} <= parts:
        return "open_clip"
    if {"visual", "transformer"} <= parts:
        return "openai"
    found = listed(sorted(tensors)[:3]) or "nothing"
    half = parts & {"vision_model", "text_model", "visual", "transformer"}
    raise ValueError(
        f"it is not a CLIP: an image tower (visual.*) and a text tower (transformer.*) were expected, but "
        f"{'only one of them' if half else 'neither'} is there (of {len(tensors)} tensors, such as {found})."
    )


def _from_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name, value in tensors.items():
        # Some exports spell the LayerNorm correctly.
        name = name.replace("pre_layernorm", "pre_layrnorm")
        if name in _HUGGING_FACE:
            ours[_HUGGING_FACE[name]] = value.T.contiguous() if name in _TRANSPOSED else value
            continue
        match = _HUGGING_FACE_BLOCK.fullmatch(name)
        part = match[3] if match else ""
        if match and part in _IN_BLOCK:
            ours[f"{_block(match)}.{_IN_BLOCK[part]}.{match[4]}"] = value
        elif match and part == "self_attn.q_proj":
            names = [name.replace("q_proj", which) for which in _QKV]
            missing = [key for key in names if key not in tensors]
            if missing:
                raise ValueError(f"tensor {missing[0]!r} is missing.")
            ours[f"{_block(match)}.attn.in_proj_{match[4]}"] = torch.cat([tensors[key] for key in names])
        elif not (match and part in ("self_attn.k_proj", "self_attn.v_proj")):
            raise ValueError(
                f"tensor {name!r} is not part of a Hugging Face CLIPModel. "
                "Only that class can be read, not its relatives."
            )
    return ours


def _block(match: re.Match[str]) -> str:
    tower = "visual.transformer" if match[1] == "vision" else "transformer"
    return f"{tower}.resblocks.{match[2]}"


def to_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_openai_layout` for transformers' CLIPModel, of a CLIP with a ViT. Nothing is rounded."""
    plain = {ours: theirs for theirs, ours in _HUGGING_FACE.items()}
    parts = {ours: theirs for theirs, ours in _IN_BLOCK.items()}
    theirs: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = _OPENAI_BLOCK.fullmatch(name)
        if match is None:
            new = plain[name]
            theirs[new] = value.T.contiguous() if new in _TRANSPOSED else value
            continue
        tower = "vision" if match[1] else "text"
        block, part = f"{tower}_model.encoder.layers.{match[2]}", match[3]
        if part.startswith("attn.in_proj_"):
            kind = part.removeprefix("attn.in_proj_")
            for which, rows in zip(_QKV, value.chunk(3), strict=True):
                theirs[f"{block}.self_attn.{which}.{kind}"] = rows.clone()
        else:
            inner, _, kind = part.rpartition(".")
            theirs[f"{block}.{parts[inner]}.{kind}"] = value
    return theirs

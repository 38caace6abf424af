"""Tiny models of open_clip whose image towers are small versions of timm's, registered there by name."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import timm
import torch
from timm.models import register_model
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

from cliptune.clip import CLIP
from cliptune.clip.foreign.build import behind_ports, foreign_model
from cliptune.clip.tokenizer import default_tokenizer

NORM = partial(nn.LayerNorm, eps=1e-6)


_OF_CREATING = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def _made(kind: Any, options: dict[str, Any], given: dict[str, Any]) -> Any:
    """A model of timm with options, over which go those that `timm.create_model` was given."""
    model = kind(**{**options, **{name: v for name, v in given.items() if name not in _OF_CREATING}})
    model.default_cfg = {"pool_size": None}
    return model


@register_model
def tiny_siglip(pretrained: bool = False, **more: Any) -> VisionTransformer:
    """No class token, attention pooling."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "class_token": False}
    return _made(VisionTransformer, {**sizes, "norm_layer": NORM, "qkv_bias": True}, more)


@register_model
def tiny_pe(pretrained: bool = False, **more: Any) -> Eva:
    """Class token, rotary positions, attention pooling over all rows."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "attn_type": "rope"}
    rotary = {"use_rot_pos_emb": True, "ref_feat_shape": (3, 3), "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"}
    return _made(Eva, {**sizes, **rotary, "use_pre_transformer_norm": True, "attn_pool_num_heads": 2}, more)


@register_model
def tiny_eva(pretrained: bool = False, **more: Any) -> Eva:
    """Class token, rotary positions, separate projections, SwiGLU with a norm."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "mlp_ratio": 8 / 3}
    options = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "use_rot_pos_emb": True}
    return _made(Eva, {**sizes, **options, "ref_feat_shape": (4, 4)}, more)


@register_model
def tiny_eva_post_norm(pretrained: bool = False, **more: Any) -> Eva:
    """Norms behind attention and MLP."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "mlp_ratio": 2.5}
    return _made(Eva, {**sizes, "use_post_norm": True}, more)


@register_model
def tiny_eva_scaled(pretrained: bool = False, **more: Any) -> Eva:
    """LayerScale, a norm within attention, rotary positions that differ from block to block."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "init_values": 0.7}
    options = {"scale_attn_inner": True, "use_rot_pos_emb": True, "rope_type": "mixed"}
    return _made(Eva, {**sizes, **options}, more)


@register_model
def tiny_mobile(pretrained: bool = False, **more: Any) -> VisionTransformer:
    """Patches by convolutions, a class token without position, LayerScale."""
    from timm.layers import HybridEmbed

    stem = ConvStem(channels=(10, 20, 40), stride=(2, 2, 2), kernel_size=(2, 2, 2), padding=0, act_layer=nn.GELU)
    sizes = {"img_size": 32, "patch_size": 1, "embed_dim": 40, "depth": 3, "num_heads": 5, "no_embed_class": True}
    embed = partial(HybridEmbed, backbone=stem, proj=False)
    return _made(VisionTransformer, {**sizes, "embed_layer": embed, "init_values": 0.5, "qkv_bias": True}, more)


@register_model
def tiny_gap(pretrained: bool = False, **more: Any) -> VisionTransformer:
    """No class token, the mean of the patches."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5, "class_token": False}
    return _made(VisionTransformer, {**sizes, "global_pool": "avg"}, more)


@register_model
def tiny_convnext(pretrained: bool = False, **more: Any) -> ConvNeXt:
    """No tokens."""
    return _made(ConvNeXt, {"depths": (1, 1, 2, 1), "dims": (8, 12, 20, 36)}, more)


BPE = {"context_length": 32, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 4}
SENTENCES = {
    **BPE,
    "vocab_size": 300,
    "context_length": 48,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "mlp_ratio": 3.5,
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}


def _timm(name: str, pool: str, proj: str | None, side: int = 32) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": side}


def _config(vision: dict[str, Any], text: dict[str, Any] = BPE, embed: int = 16, **more: Any) -> dict[str, Any]:
    return {"embed_dim": embed, "vision_cfg": vision, "text_cfg": text, "custom_text": True, **more}


OWN = {"image_size": 32, "patch_size": 8, "width": 40, "head_width": 8, "layers": 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "siglip": _config(_timm("tiny_siglip", "map", "none"), SENTENCES, 40, init_logit_bias=-10),
    "pe": _config(_timm("tiny_pe", "map", None)),
    "eva": _config(_timm("tiny_eva", "token", None)),
    "eva_post_norm": _config(_timm("tiny_eva_post_norm", "token", None)),
    "eva_scaled": _config(_timm("tiny_eva_scaled", "token", None)),
    "mobile": _config(_timm("tiny_mobile", "token", None)),
    "gap": _config(_timm("tiny_gap", "", "linear")),
    "clipa": _config({**OWN, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}),
    "coca": _config(
        {**OWN, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 6, "output_tokens": True},
        {**BPE, "embed_cls": True, "output_tokens": True},
        multimodal_cfg={"context_length": 32, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 1},
    ),
    "convnext": _config(_timm("tiny_convnext", "", "linear", 64)),
}
# Of each kind that methods are tried on.
KINDS = ("siglip", "pe", "eva", "mobile", "convnext")
PATCHED = tuple(name for name in CONFIGS if name != "convnext")


def tiny_config(kind: str, **text: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIGS[kind])
    config["text_cfg"] |= text
    return config


def tiny_model(kind: str, seed: int = 0, config: dict[str, Any] | None = None) -> Any:
    """A model of open_clip in which every value is random, norms, scales and biases included."""
    torch.manual_seed(seed)
    model = foreign_model(tiny_config(kind) if config is None else config, kind)
    for name, value in model.named_parameters():
        if name in ("logit_scale", "logit_bias"):
            continue
        noise = torch.randn(value.shape)
        if value.ndim == 1:
            value.data = 0.1 * noise + (0.7 if name.endswith(("weight", "gamma_1", "gamma_2", "gamma")) else 0.0)
        else:
            value.data = noise * (0.3 if "embed" in name and "conv" not in name else value[0].numel() ** -0.5)
    return model


@cache
def tiny_pair(kind: str) -> tuple[Any, CLIP]:
    """A model of open_clip, and the CLIP around its parts."""
    model = tiny_model(kind)
    tokenizer = default_tokenizer() if model.text.vocab_size == 49408 else None
    return model, behind_ports(model, tiny_config(kind), kind, tokenizer)


assert timm.is_model("tiny_siglip")

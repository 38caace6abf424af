"""Every option of open_clip 3.3.0's models: told by the tensors, without effect, as CLIP has it, or refused.

An option that is not in these tables is refused as well, unless it is null: a newer open_clip may mean anything by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.clip.weights.json_parts import part
from cliptune.reading import shown

_CUSTOM_BLOCK = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")

# Sizes, which are those of the tensors whatever is written, and what `read_declared` reads.
_READ = {
    "model": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "image": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    "text": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# What begins training, acts in training only, adds outputs, or belongs to a part that is not there.
_NO_EFFECT = {
    "model": {
        "custom_text",
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
        "cast_dtype",
        "output_dict",
    },
    "image": {
        *("patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"),
        *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
        "final_ln_after_pool",  # of the class token, the same number either way
    },
    "text": {
        *("pad_id", "eos_id", "output_tokens", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
        "final_ln_after_pool",  # which open_clip 3.3.0 does not pass on to its text tower
    },
}
# The values that mean CLIP's own way.
_AS_CLIP: dict[str, dict[str, tuple[Any, ...]]] = {
    "model": {"multimodal_cfg": (None,)},
    "image": {
        "ls_init_value": (None,),
        "attentional_pool": (False, None),
        "no_ln_pre": (False, None),
        "pos_embed_type": ("learnable",),
        "pool_type": ("tok",),
        "act_kwargs": (None, {}),
        "norm_kwargs": (None, {}, {"eps": 1e-5}),
        "block_type": (None, "default"),
        "timm_model_name": (None, ""),
        **dict.fromkeys(_CUSTOM_BLOCK, (False, None)),
    },
    "text": {
        "hf_model_name": (None, ""),
        "tokenizer_mode": (None, ""),
        "tokenizer_kwargs": (None, {}, {"clean": "lower"}),
        "ls_init_value": (None,),
        "embed_cls": (False, None),
        "no_causal_mask": (False, None),
        "pool_type": ("argmax",),
        "proj_bias": (False, None),
        "proj_type": ("linear", None),
        "act_kwargs": (None, {}),
        "norm_kwargs": (None, {}, {"eps": 1e-5}),
        "block_type": (None, "default"),
        **dict.fromkeys(_CUSTOM_BLOCK, (False, None)),
    },
}
_MEANING = {
    "multimodal_cfg": "a decoder of captions, as CoCa has",
    "ls_init_value": "LayerScale",
    "attentional_pool": "attentional pooling",
    "no_ln_pre": "no LayerNorm before the first block",
    "pos_embed_type": "positions that are not learned",
    "pool_type": "another pooling",
    "act_kwargs": "another form of the activation",
    "norm_kwargs": "another LayerNorm",
    "timm_model_name": "an image tower of timm",
    "hf_model_name": "a language model as text tower",
    "hf_tokenizer_name": "another tokenizer",
    "tokenizer_mode": "another way of tokenizing",
    "tokenizer_kwargs": "another way of cleaning texts",
    "embed_cls": "a class token in the text",
    "no_causal_mask": "no causal mask",
    "proj_bias": "a projection with bias",
    "proj_type": "another projection",
    "block_type": "another kind of block",
    **dict.fromkeys(_CUSTOM_BLOCK, "another kind of block"),
}


def option_names() -> dict[str, dict[str, str]]:
    """Part of a configuration (model, image, text) → option → "read", "no effect" or "as in CLIP"."""
    return {
        of: {
            **dict.fromkeys(sorted(_READ[of]), "read"),
            **dict.fromkeys(sorted(_NO_EFFECT[of]), "no effect"),
            **dict.fromkeys(_AS_CLIP[of], "as in CLIP"),
            **({"hf_tokenizer_name": "as in CLIP"} if of == "text" else {}),
        }
        for of in _READ
    }


def check_options(model: Mapping[str, Any], path: Path) -> None:
    """Raises: ValueError naming the first option that asks for what CLIP's towers do not compute."""
    parts = {"model": model, "image": part(model, "vision_cfg", path), "text": part(model, "text_cfg", path)}
    for of, config in parts.items():
        for option, value in config.items():
            if not _fits(of, option, value):
                meaning = _MEANING.get(option, "which is no option of open_clip 3.3.0")
                raise ValueError(
                    f"{path}: the {'model' if of == 'model' else f'{of} tower'} has {shown(option)} = "
                    f"{shown(repr(value))} ({meaning}), which CLIP's towers do not have. Only OpenAI's ViT, ResNet and "
                    "text tower can be read."
                )


def _fits(of: str, option: str, value: Any) -> bool:
    if option in _READ[of] or option in _NO_EFFECT[of]:
        return True
    if of == "text" and option == "hf_tokenizer_name":
        # OpenAI's own vocabulary goes by the names of its models there.
        return not value or (isinstance(value, str) and value.startswith("openai/clip-"))
    if option in _AS_CLIP[of]:
        return any(type(value) is type(usual) and value == usual for usual in _AS_CLIP[of][option])
    return value is None

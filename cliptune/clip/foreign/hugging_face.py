"""CLIPs of transformers whose towers are not CLIP's own: SigLIP, SigLIP 2, Chinese-CLIP and AltCLIP."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.clip.foreign.blocks import Stack, known_blocks
from cliptune.clip.foreign.build import around, check_parity, hide_from_pooling
from cliptune.clip.foreign.image import End, PatchTower, Stem, added_to
from cliptune.clip.foreign.libraries import library, quiet, version
from cliptune.clip.foreign.text import ClosedText
from cliptune.clip.model import CLIP, Tokenizer
from cliptune.clip.towers.text import TextTower
from cliptune.reading import listed, shown

_CLASSES = {
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "chinese_clip": "ChineseCLIPModel",
    "altclip": "AltCLIPModel",
}
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "quick_gelu": "quick_gelu"}
# What older files hold beside the weights.
_NO_WEIGHTS = ("position_ids", "token_type_ids")
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
# What a tokenizer of BERT or XLM-R pads to; CLIP's own context, as texts of classes are short.
_LONGEST = 77


def transformers_clip(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    name: str,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype = torch.float32,
    hide_prompts: bool = False,
) -> tuple[CLIP, list[str]]:
    """A frozen CLIP from weights of transformers.

    Args:
        config: `config.json`, whose `model_type` is one of `configuration.TRANSFORMERS_KINDS`. The rest is that of
            `cliptune.clip.foreign.build.foreign_clip`.
    Returns: the CLIP, and what was left out of the tensors or decided, as phrases.
    Raises: as `foreign_clip`.
    """
    model = transformers_model(config, tensors, name)
    phrases: list[str] = []
    clip = transformers_towers(model, name, tokenizer)
    check_parity(Passes(model), clip, name, ("transformers", "transformers"))
    if config["model_type"] == "siglip2":
        phrases.append(
            "it takes pictures of any shape, and here each is squashed to the square that its positions were made "
            f"for, of {clip.config.resolution} pixels"
        )
    hide_from_pooling(clip, name, hide_prompts)
    return clip.to(dtype).freeze(), phrases


def transformers_model(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Any:
    """A model of transformers in evaluation mode. Tensors go through its own loader, which knows how names changed.

    Raises: ImportError with a sentence if transformers is missing; ValueError for a configuration that it cannot build,
        or naming tensors that are missing, spare or misshapen.
    """
    transformers = library("transformers", f"Backbone {name}")
    given = copy.deepcopy(dict(config))
    kind = given.pop("model_type")
    for option in ("dtype", "torch_dtype", "quantization_config", "auto_map"):  # of the file, or of code beside it
        given.pop(option, None)
    weights = {key: value for key, value in tensors.items() if not key.endswith(_NO_WEIGHTS)}
    try:
        with quiet(transformers):
            declared = transformers.AutoConfig.for_model(kind, **given)
            model, found = getattr(transformers, _CLASSES[kind]).from_pretrained(
                None, config=declared, state_dict=weights, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except Exception as error:  # of many kinds, by what is declared
        raise ValueError(
            f"Backbone {name}: {version('transformers')} cannot build it from its configuration "
            f"({type(error).__name__}: {shown((str(error).splitlines() or ['without words'])[0], 200)})."
        ) from error
    _check_loaded(found, name)
    return model.float().requires_grad_(False).eval()


def _check_loaded(found: Mapping[str, Any], name: str) -> None:
    missing, spare = (sorted(found.get(f"{which}_keys") or ()) for which in ("missing", "unexpected"))
    if missing or spare:
        raise ValueError(
            f"Backbone {name}: the weights do not fit its configuration: missing {listed(missing, 3) or 'none'}; "
            f"unexpected {listed(spare, 3) or 'none'}. Give the weights of this model, both towers."
        )
    for key, got, expected in sorted(found.get("mismatched_keys") or ()):
        raise ValueError(
            f"Backbone {name}: tensor {key} must have shape {tuple(expected)}, got {tuple(got)}. Give the weights of "
            "this model."
        )


def transformers_towers(model: Any, name: str, tokenizer: Tokenizer | None) -> CLIP:
    """A CLIP over the parts of a model of transformers, which share their weights with it.

    Raises: ValueError with a sentence for parts whose inside is not known.
    """
    image = _image_tower(model)
    siglip = hasattr(model.text_model, "head")
    text: Any = _siglip_text(model.text_model) if siglip else _closed_text(model)
    return around(image, text, image.embed, tokenizer, name, model.logit_scale, getattr(model, "logit_bias", None))


class Passes:
    """A model's own passes under the names that open_clip gives them, for `check_parity`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 3, R, R) → (N, D)."""
        embeddings = self.model.vision_model.embeddings
        if not _takes_patches(embeddings):
            return _pooled(self.model.get_image_features(pixel_values=images))
        rows, shapes = _patched(images, embeddings)
        seen = torch.ones(rows.shape[:2], dtype=torch.int64, device=images.device)
        return _pooled(
            self.model.get_image_features(pixel_values=rows, pixel_attention_mask=seen, spatial_shapes=shapes)
        )

    def encode_text(self, ids: Tensor) -> Tensor:
        """(K, T) → (K, D)."""
        if hasattr(self.model.text_model, "head"):
            return _pooled(self.model.get_text_features(input_ids=ids))
        pad = self.model.config.text_config.pad_token_id
        return _pooled(self.model.get_text_features(input_ids=ids, attention_mask=(ids != pad).long()))


def _pooled(found: Any) -> Tensor:
    # Releases before 5 give the features themselves.
    features: Tensor = getattr(found, "pooler_output", found)
    return features


class _Vision(nn.Module):
    """The image half of a model: what `Stem` and `End` take apart."""

    def __init__(self, tower: Any, projection: nn.Module | None) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection


class _Stem(Stem):
    def rows(self, images: Tensor) -> tuple[Tensor, Any]:
        embeddings = self.model.tower.embeddings
        x: Tensor = embeddings(*_patched(images, embeddings)) if _takes_patches(embeddings) else embeddings(images)
        return x, None

    def norm(self, x: Tensor) -> Tensor:
        before = getattr(self.model.tower, "pre_layrnorm", None)  # the misspelling is theirs
        normed: Tensor = x if before is None else before(x)
        return normed


class _End(End):
    @property
    def last_map(self) -> Tensor | None:
        projection: nn.Linear | None = self.model.projection
        return None if projection is None else projection.weight.T

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        tower, projection = self.model.tower, self.model.projection
        if projection is None:
            pooled: Tensor = tower.head(tower.post_layernorm(x))
            return pooled
        with added_to(projection, added):
            projected: Tensor = projection(tower.post_layernorm(x[:, 0]))
        return projected


def _takes_patches(embeddings: Any) -> bool:
    return isinstance(embeddings.patch_embedding, nn.Linear)


def _patched(images: Tensor, embeddings: Any) -> tuple[Tensor, Tensor]:
    """Square images (N, 3, R, R) → rows of patches (N, G², p² · 3), channels last, and (N, 2) how many stand where."""
    side, count = embeddings.patch_size, round(embeddings.num_patches**0.5)
    apart = images.unflatten(3, (count, side)).unflatten(2, (count, side))  # (N, 3, G, p, G, p)
    rows = apart.permute(0, 2, 4, 3, 5, 1).reshape(len(images), count * count, -1)
    return rows, torch.full((len(images), 2), count, dtype=torch.int64, device=images.device)


def _image_tower(model: Any) -> PatchTower:
    tower, projection = model.vision_model, getattr(model, "visual_projection", None)
    kind = f"{type(tower).__name__} of transformers"
    embeddings, modules = tower.embeddings, list(tower.encoder.layers)
    blocks = known_blocks(modules)
    if isinstance(blocks, str) or (projection is None and getattr(tower, "head", None) is None):
        why = blocks if isinstance(blocks, str) else "it has no pooling of its own"
        raise ValueError(f"the image tower, {kind}, cannot be opened: {why}.")
    whole = _Vision(tower, projection)
    width = modules[0].layer_norm1.weight.shape[0]
    prefix = int(projection is not None)
    patches = embeddings.position_embedding.num_embeddings - prefix
    return PatchTower(
        whole,
        _Stem(whole),
        Stack(blocks),
        _End(whole),
        kind=kind,
        resolution=round(patches**0.5) * int(embeddings.patch_size),
        width=width,
        embed=width if projection is None else projection.out_features,
        patches=patches,
        prefix=prefix,
        gathers=projection is None,
    )


def _siglip_text(source: Any) -> TextTower:
    """SigLIP's text half in CLIP's own blocks: no causal mask, read at the last position."""
    config = source.config
    if config.hidden_act not in _ACTIVATIONS:
        raise ValueError(f"the text tower has the activation {shown(repr(config.hidden_act))}, which cannot be read.")
    with torch.device("meta"):
        tower = TextTower(
            config.max_position_embeddings,
            config.vocab_size,
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            source.head.out_features,
            _ACTIVATIONS[config.hidden_act],
            config.intermediate_size,
            eps=config.layer_norm_eps,
            causal=False,
            pool="last",
            projection="affine",
        )
    tower.load_state_dict(_siglip_tensors(source), assign=True)
    return tower


def _siglip_tensors(source: Any) -> dict[str, Tensor]:
    """The text half's tensors by the names that they have here."""
    found = {
        "token_embedding.weight": source.embeddings.token_embedding.weight,
        "positional_embedding": source.embeddings.position_embedding.weight,
        "ln_final.weight": source.final_layer_norm.weight,
        "ln_final.bias": source.final_layer_norm.bias,
        "text_projection": source.head.weight.T.contiguous(),
        "projection_bias": source.head.bias,
    }
    for i, layer in enumerate(source.encoder.layers):
        block, attention = f"transformer.resblocks.{i}", layer.self_attn
        for kind in ("weight", "bias"):
            parts = [getattr(part, kind) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
            found[f"{block}.attn.in_proj_{kind}"] = torch.cat(parts)
            for theirs, ours in _IN_BLOCK.items():
                found[f"{block}.{ours}.{kind}"] = getattr(layer.get_submodule(theirs), kind)
    return {name: value.detach() for name, value in found.items()}


class _LanguageModel(nn.Module):
    """A language model, its first row, and a projection: ids (K, T) → (K, D). Padding is not looked at."""

    def __init__(self, model: nn.Module, projection: nn.Module, padding: int) -> None:
        super().__init__()
        self.model, self.projection, self.padding = model, projection, padding

    def forward(self, ids: Tensor) -> Tensor:
        found: Any = self.model(input_ids=ids, attention_mask=(ids != self.padding).long())
        projected: Tensor = self.projection(found.last_hidden_state[:, 0])
        return projected


def _closed_text(model: Any) -> ClosedText:
    source, config = model.text_model, model.config.text_config
    table = source.get_input_embeddings()
    padding = int(config.pad_token_id)
    # RoBERTa's first position comes after the id of padding.
    context = min(_LONGEST, int(config.max_position_embeddings) - padding - 1)
    return ClosedText(
        _LanguageModel(source, model.text_projection, padding),
        f"{type(source).__name__} of transformers",
        table,
        context,
        table.embedding_dim,
        model.text_projection.out_features,
    )

"""Files that hold a CLIP and something else, or a CLIP under a training program's names; and those that hold none."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.clip.weights.key_layouts import is_no_weight
from cliptune.noted import few
from cliptune.reading import shown

# A few special tokens, or rows that fill up a multiple; more are another vocabulary.
_MOST_ROWS = 256
# LongCLIP (arXiv:2403.15378) keeps the first positions of CLIP and learns the others in a second table.
_LONG, _KEPT_POSITIONS = "positional_embedding_res", 20

# What stands first in the names of each layout; a file may hold more, which is no part of the CLIP.
_PARTS = {
    "openai": {
        *("visual", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection"),
        "logit_scale",
    },
    "open_clip": {"visual", "text", "logit_scale"},
    "cliptune": {"image", "text", "logit_scale"},
    "hugging_face": {"vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"},
}
# Model, and a name that its files alone have.
_OTHERS = (
    ("a SigLIP of transformers without its config.json", re.compile(r"vision_model\.head\.probe")),
    ("a PE-Core of Meta's own code", re.compile(r"visual\.attn_pool\.probe")),
    ("a CoCa", re.compile(r"text_decoder\..+|visual\.attn_pool\.query")),
    ("an EVA-CLIP of its own code", re.compile(r"visual\.(cls_token|blocks\.\d+\..+)")),
    ("a MobileCLIP of Apple's own code", re.compile(r"image_encoder\.model\.(patch_embed|network|stem|stages)\..+")),
    ("a BLIP", re.compile(r"(visual_encoder|text_decoder\.bert)\..+")),
)
_LORA = re.compile(r"(^|\.)(lora_(A|B|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w1_a|vera_lambda_b)(\.|$)")


def without_company(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """The CLIP among these tensors, under the names of one of the layouts.

    Args:
        notes: what was left out and renamed is added here, as phrases.
    Raises: ValueError with a sentence that names the model, or the adapter, if there is no whole CLIP in it.
    """
    _check_kind(tensors)
    found = _long(_custom(_tiny(_wise(tensors, notes), notes)), notes)
    return _cut_vocabulary(_without_strangers(found, notes), notes)


def _check_kind(tensors: Mapping[str, Tensor]) -> None:
    lora = next((name for name in tensors if _LORA.search(name)), None)
    if lora is not None:
        raise ValueError(
            f"tensor {shown(lora)!r} belongs to an adapter of PEFT, not to a CLIP. Give the folder with its "
            "adapter_config.json, which is merged into the CLIP that it names; or merge it yourself: "
            "model.merge_and_unload().save_pretrained(FOLDER)."
        )
    for model, pattern in _OTHERS:
        name = next((name for name in tensors if pattern.fullmatch(name)), None)
        if name is not None:
            raise ValueError(
                f"it is {model}, by its tensor {shown(name)!r}. Only CLIPs with OpenAI's ViT or ResNet and text tower "
                "can be read from a file."
            )


def _wise(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """WiSE-FT (arXiv:2109.01903) keeps the CLIP inside an image encoder, and a linear head beside it."""
    prefix = "image_encoder.model."
    if not any(name.startswith(f"{prefix}visual.") for name in tensors):
        return dict(tensors)
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not any(name.startswith("transformer.") for name in inside):
        raise ValueError(
            "it is a classifier of WiSE-FT without its text tower. Save it with the text tower (keep_lang=True), or "
            "put its visual.* into a state dict of the CLIP that it was made from."
        )
    notes.append(f"{prefix!r} was dropped from its names, as WiSE-FT has them")
    return {**{name: value for name, value in tensors.items() if not name.startswith(prefix)}, **inside}


def _tiny(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """TinyCLIP (arXiv:2309.12314) wraps each part of a CLIP."""
    if not any(name.startswith("_image_encoder.visual.") for name in tensors):
        return dict(tensors)
    notes.append("its names are those of TinyCLIP, whose wrappers were dropped")
    wrapper = re.compile(r"_(image_encoder|text_encoder|logit_scale)\.(module\.)?")
    return {wrapper.sub("", name, count=1): value for name, value in tensors.items()}


def _custom(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CoOp's CustomCLIP and its descendants take a CLIP apart."""
    towers = any(name.startswith("text_encoder.") for name in tensors)
    if not towers or not any(name.startswith("image_encoder.") for name in tensors):
        return dict(tensors)
    raise ValueError(
        "it is a CustomCLIP of CoOp's code, which keeps its prompt learner and both towers, but no token embeddings. "
        "Load the CLIP that it was made from, and bring what was learned over: `cliptune convert FILE …`, "
        "cliptune.from_published."
    )


def _long(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    found = dict(tensors)
    later, first = found.get(_LONG), found.get("positional_embedding")
    if later is None or first is None or later.shape != first.shape or len(first) <= _KEPT_POSITIONS:
        return found
    found["positional_embedding"] = first.clone()
    found["positional_embedding"][_KEPT_POSITIONS:] = found.pop(_LONG)[_KEPT_POSITIONS:]
    notes.append(f"it is a LongCLIP of {len(first)} tokens, whose two tables of positions were put together")
    return {name: value for name, value in found.items() if name not in ("mask1", "mask2")}


def _without_strangers(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Without what no part of a CLIP is called; where no layout is all there, nothing is touched."""
    groups = {name.split(".")[0] for name in tensors}
    needed = (
        ("hugging_face", {"vision_model", "text_model"}),
        ("cliptune", {"image", "text"}),
        ("open_clip", {"visual", "text"}),
        ("openai", {"visual", "transformer"}),
    )
    layout = next((layout for layout, parts in needed if parts <= groups), None)
    if layout is None:
        return dict(tensors)
    strangers = [name for name in tensors if name.split(".")[0] not in _PARTS[layout] and not is_no_weight(name)]
    if strangers:
        kinds = sorted({name.split(".")[0] for name in strangers})
        notes.append(
            f"{len(strangers)} tensors that are no part of a CLIP were left out ({few(shown(kind) for kind in kinds)})"
        )
    return {name: value for name, value in tensors.items() if name not in strangers}


def _cut_vocabulary(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Without rows after those of OpenAI's vocabulary, which no text of its tokenizer reaches."""
    for name, table in tensors.items():
        if name.endswith("token_embedding.weight") and table.ndim == 2:
            more = len(table) - VOCAB_SIZE
            if 0 < more <= _MOST_ROWS:
                notes.append(f"{more} rows after OpenAI's vocabulary of {VOCAB_SIZE} tokens were left out")
                return {**tensors, name: table[:VOCAB_SIZE].clone()}
    return tensors

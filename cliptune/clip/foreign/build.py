"""From an open_clip configuration and tensors to a CLIP whose towers are those of timm, open_clip and transformers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.clip.foreign.image import image_tower
from cliptune.clip.foreign.libraries import library, version
from cliptune.clip.foreign.text import text_tower
from cliptune.clip.model import CLIP, CLIPConfig, Tokenizer
from cliptune.clip.tokens import TokenBatch
from cliptune.clip.towers.image import ImageTower
from cliptune.reading import listed

# Largest difference, relative to the largest value, at which two float32 passes of one model still agree.
TOLERANCE = 1e-4
_LEFT_OUT = ("text_decoder.", "text.transformer.embeddings.position_ids")
_OLD_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")


def foreign_model(config: Mapping[str, Any], name: str) -> Any:
    """An open_clip model with random weights, in evaluation mode.

    Args:
        config: as `model_cfg` of an open_clip configuration. name: for the errors.
    Raises: ImportError with a sentence if a library is missing; ValueError for options that it does not have.
    """
    open_clip = library("open_clip", f"Backbone {name}")
    if config.get("vision_cfg", {}).get("timm_model_name"):
        library("timm", f"Backbone {name}")
    given = copy.deepcopy(dict(config))
    text = given.get("text_cfg", {})
    custom = given.pop("custom_text", False) or bool(text.get("hf_model_name"))
    if text.get("hf_model_name"):
        text["hf_model_pretrained"] = False
        library("transformers", f"Backbone {name}")
    made = open_clip.model.CLIP
    if custom:
        made = open_clip.CoCa if "multimodal_cfg" in given else open_clip.CustomTextCLIP
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = made(**given)
    except (TypeError, RuntimeError, AssertionError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"Backbone {name}: {version('open_clip')} cannot build it from its configuration "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'without words'})."
        ) from error
    return model.requires_grad_(False).eval()


def foreign_clip(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    name: str,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype = torch.float32,
    hide_prompts: bool = False,
) -> tuple[CLIP, list[str]]:
    """A frozen CLIP from weights of open_clip.

    Args:
        config: as `model_cfg` of an open_clip configuration.
        tensors: by open_clip's names. name: of the backbone. tokenizer: for its vocabulary.
        dtype: in which the weights are kept.
        hide_prompts: see `PatchTower`.
    Returns: the CLIP, and what was left out of the tensors, as phrases.
    Raises: ValueError naming tensors that do not fit, or saying that a library computes otherwise than here.
    """
    model = foreign_model(config, name)
    phrases = load_tensors(model, tensors, name)
    clip = behind_ports(model, config, name, tokenizer)
    check_parity(model, clip, name)
    hide_from_pooling(clip, name, hide_prompts)
    return clip.to(dtype).freeze(), phrases


def hide_from_pooling(clip: CLIP, name: str, hide: bool) -> None:
    """Hide image prompts from the pooling of a CLIP, if asked. Raises: ValueError if it has none that sees them."""
    if not hide:
        return
    if not getattr(clip.image, "gathers", False):
        raise ValueError(
            f"Backbone {name}: hide_prompts is for image towers whose pooling attends to all rows, and this one "
            "reads a class token, or the mean of the patches. Leave it out."
        )
    clip.image.hide_prompts = True  # type: ignore[assignment]


def behind_ports(model: Any, config: Mapping[str, Any], name: str, tokenizer: Tokenizer | None) -> CLIP:
    """A CLIP over the parts of an open_clip model, which share their weights with it."""
    embed = int(config["embed_dim"])
    image = image_tower(model.visual, embed)
    text: Any = text_tower(model, embed)
    return around(image, text, embed, tokenizer, name, model.logit_scale, model.logit_bias)


def around(
    image: ImageTower, text: Any, embed: int, tokenizer: Tokenizer | None, name: str, scale: Tensor, bias: Tensor | None
) -> CLIP:
    """A frozen CLIP around two towers, with their log scale and, of a sigmoid loss, bias."""
    clip = CLIP(_sizes(image, text, embed), tokenizer, name, towers=(image, text))
    clip.logit_scale.data = scale.detach().reshape(())
    if bias is not None:
        clip.logit_bias = bias.detach().reshape(())
    return clip.freeze()


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> list[str]:
    """Put tensors into an open_clip model, strictly.

    Returns: what was left out or taken for granted, as phrases.
    Raises: ValueError naming missing, spare or misshapen ones.
    """
    expected, phrases = model.state_dict(), []
    found = dict(tensors)
    if "positional_embedding" in found and "positional_embedding" not in expected:
        found = {f"text.{key}" if key.startswith(_OLD_TEXT) else key: value for key, value in found.items()}
    for key in ("logit_scale", "logit_bias"):
        if key in found and key in expected:
            found[key] = found[key].reshape(expected[key].shape)
    if "logit_bias" in expected and "logit_bias" not in found:
        found["logit_bias"] = torch.zeros_like(expected["logit_bias"])
        phrases.append("its file holds no logit_bias, for which 0 was taken")
    elif "logit_bias" in found and "logit_bias" not in expected:
        del found["logit_bias"]
        phrases.append("logit_bias was left out, which its configuration does not declare")
    spare = sorted(set(found) - set(expected))
    known_spare = [key for key in spare if key.startswith(_LEFT_OUT)]
    for key in known_spare:
        del found[key]
    missing, spare = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    missing = [key for key in missing if not key.startswith(_LEFT_OUT)]
    if missing or spare:
        only_image = missing and all(key.startswith(("text.", *_OLD_TEXT)) for key in missing)
        hint = " It may be an image tower alone." if only_image and not spare else ""
        raise ValueError(
            f"Backbone {name}: the weights do not fit its configuration: missing {listed(missing, 3) or 'none'}; "
            f"unexpected {listed(spare, 3) or 'none'}.{hint} Give the weights of this architecture."
        )
    wrong = [key for key, value in found.items() if value.shape != expected[key].shape]
    if wrong:
        key = wrong[0]
        raise ValueError(
            f"Backbone {name}: tensor {key} must have shape {tuple(expected[key].shape)}, got "
            f"{tuple(found[key].shape)}. Give the weights of this architecture."
        )
    model.load_state_dict(found, strict=False)
    if known_spare:
        phrases.append(f"{len(known_spare)} tensors that no tower here needs were left out")
    return phrases


@torch.no_grad()
def check_parity(
    model: Any, clip: CLIP, name: str, libraries: tuple[str, str] = ("timm", "open_clip")
) -> tuple[float, float]:
    """Compare a small random input through the library's own passes and through those here, without prompts.

    Args:
        model: with `encode_image` and `encode_text`. libraries: that image and text tower are of, for the error.
    Returns: largest difference of image and of text features, relative to the largest value.
    Raises: ValueError with a sentence if they differ: another release of the library computes otherwise.
    """
    draw = torch.Generator().manual_seed(0)
    side = clip.image.resolution
    images = torch.randn(1, 3, side, side, generator=draw)
    texts = sample_ids(clip)
    found = (
        _difference(_first(model.encode_image(images)), clip.encode_image(images[None])[0]),
        _difference(_first(model.encode_text(texts.ids)), clip.encode_text(texts)[0]),
    )
    for what, off, library_name in zip(("image", "text"), found, libraries, strict=True):
        if not off <= TOLERANCE:
            raise ValueError(
                f"Backbone {name}: its {what} features differ by {off:.1e} from those that the installed "
                f"{version(library_name)} computes, so that release works otherwise than this version of cliptune "
                "knows. Install the release that docs/backbones.md names, or report it."
            )
    return found


def sample_ids(clip: CLIP) -> TokenBatch:
    """Two texts of random ids, framed as the tower finds their ends, padded to its context."""
    tower, draw = clip.text, torch.Generator().manual_seed(1)
    vocab, context = tower.token_embedding.num_embeddings, tower.context
    ids = torch.zeros(2, context, dtype=torch.int64)
    end = getattr(tower, "end_id", None)
    end = vocab - 1 if end is None else end
    for row, length in enumerate((max(3, context // 3), max(3, context // 2))):
        ids[row, : length - 1] = torch.randint(3, vocab - 2, (length - 1,), generator=draw)
        ids[row, length - 1] = end
    return TokenBatch.plain(ids)


def _first(found: Any) -> Tensor:
    first: Tensor = found[0] if isinstance(found, tuple) else found
    return first


def _difference(theirs: Tensor, ours: Tensor) -> float:
    # Some models of open_clip give unit features, whatever is asked.
    if torch.allclose(theirs.norm(dim=-1), torch.ones(()), atol=1e-4):
        ours = ours / ours.norm(dim=-1, keepdim=True)
    return float((theirs - ours).abs().max() / theirs.abs().max())


def _sizes(image: Any, text: Any, embed: int) -> CLIPConfig:
    blocks = getattr(getattr(image, "transformer", None), "blocks", [])
    head = image.width // blocks[0].attn.module.num_heads if blocks else image.width
    own = getattr(getattr(text, "transformer", None), "blocks", [])
    return CLIPConfig(
        embed=embed,
        resolution=image.resolution,
        image_width=image.width,
        image_layers=getattr(image, "layers", 0),
        patch=image.resolution // round(image.patches**0.5) if blocks else 0,
        context=text.context,
        vocab=text.token_embedding.num_embeddings,
        text_width=text.width,
        text_layers=getattr(text, "layers", 0),
        activation="of the library",
        head_width=text.width // own[0].attn.heads if own else text.width,
        image_head_width=head,
    )

"""CLIPs of open_clip whose towers or tokenizers are another library's: from a name, a file or a folder to a CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cliptune.clip.foreign.configuration import (
    CONFIG_FILE,
    TRANSFORMERS_KINDS,
    architecture_config,
    needs_libraries,
)
from cliptune.clip.foreign.libraries import PIP_LINE, installed, library
from cliptune.clip.model import CLIP, Tokenizer
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, read_processor
from cliptune.clip.weights.declared_pictures import Pictures, open_clip_pictures
from cliptune.clip.weights.download import offline
from cliptune.clip.weights.json_parts import part, read_object
from cliptune.clip.weights.others import other_architectures, other_weights
from cliptune.clip.weights.shards import read_weights, weights_sha256
from cliptune.preprocessing import Preprocessing
from cliptune.reading import shown

# What origins call the layout of weights that need other libraries.
LIBRARIES = "open_clip with its towers"
OF_TRANSFORMERS = "transformers with its towers"
OTHERS = (LIBRARIES, OF_TRANSFORMERS)


def other_config(folder: Path, arch: str | None) -> dict[str, Any] | None:
    """What declares a model that CLIP's own towers are not enough for; None where they are, or nothing says so.

    Args:
        folder: of the weights, whose configuration goes first. arch: name that open_clip gives to it.
    Returns: open_clip's `model_cfg` and what stands beside it; or transformers' configuration, with `model_type`.
    """
    path = folder / CONFIG_FILE
    if path.exists():
        found = read_object(path)
        whole = found if isinstance(found.get("model_cfg"), dict) else {"model_cfg": found}
        return whole if needs_libraries(whole["model_cfg"]) else None
    if arch is not None:
        return architecture_config(arch)
    path = folder / HUGGING_FACE_CONFIG
    found = read_object(path) if path.is_file() else {}
    return found if found.get("model_type") in TRANSFORMERS_KINDS else None


def declares_tokenizer(folder: Path) -> bool:
    """Whether the configuration of a model in a folder asks for another tokenizer than OpenAI's."""
    found = other_config(folder, None) or {}
    text = part(part(found, "model_cfg", folder), "text_cfg", folder)
    return "model_type" in found or bool(text.get("hf_tokenizer_name") or text.get("hf_model_name"))


def load_other(
    config: Mapping[str, Any],
    path: Path,
    name: str,
    source: str,
    notes: Sequence[str] = (),
    dtype: torch.dtype = torch.float32,
    *,
    arch: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    hyphens: str | None = None,
    hide_prompts: bool = False,
) -> CLIP:
    """A frozen CLIP from weights whose configuration asks for other libraries.

    Args:
        config: as `other_config` gives it. path: of the weights. name, source: of the backbone.
        notes: what is to be said already, as phrases. dtype: in which the weights are kept.
        arch: where the configuration is open_clip's own of that name.
        preprocessing: fields in place of the declared ones. hyphens, hide_prompts: see `load_clip`.
    Raises: ImportError with a sentence if a library is missing; ValueError or FileNotFoundError for what does not fit.
    """
    said = list(notes)
    of_transformers = "model_type" in config
    try:
        if of_transformers:
            clip, phrases = _of_transformers(config, path, name, dtype, said, hyphens, hide_prompts)
        else:
            clip, phrases = _of_open_clip(config["model_cfg"], path, name, dtype, said, hyphens, hide_prompts)
    except ValueError as error:
        raise ValueError(f"load_clip: {path} cannot be loaded as a CLIP: {error}") from error
    said += phrases
    pictures = _processed(config, path, said) if of_transformers else _preprocessed(config, path, arch, said)
    stated = Preprocessing.from_dict(pictures.fields)
    clip.preprocessing = Preprocessing.from_dict(preprocessing or {}, stated)
    clip.notes = tuple(f"Backbone {name}: {phrase}." for phrase in said)
    layout = OF_TRANSFORMERS if of_transformers else LIBRARIES
    clip.origin = {"source": source, "file": path.name, "sha256": weights_sha256(path), "layout": layout}
    asked = {"arch": arch, "hyphens": hyphens, "hide_prompts": "yes" if hide_prompts else None}
    clip.origin |= {key: value for key, value in asked.items() if value is not None}
    if (clip.mean, clip.std) != (stated.mean, stated.std):
        clip.origin["statistics_from"] = "argument"
    return clip


def _of_open_clip(
    model: Mapping[str, Any],
    path: Path,
    name: str,
    dtype: torch.dtype,
    said: list[str],
    hyphens: str | None,
    hide_prompts: bool,
) -> tuple[CLIP, list[str]]:
    from cliptune.clip.foreign.build import foreign_clip

    tokenizer = _tokenizer(model, path.parent, name, hyphens)
    return foreign_clip(model, read_weights(path, said), name, tokenizer, dtype, hide_prompts)


def _of_transformers(
    config: Mapping[str, Any],
    path: Path,
    name: str,
    dtype: torch.dtype,
    said: list[str],
    hyphens: str | None,
    hide_prompts: bool,
) -> tuple[CLIP, list[str]]:
    from cliptune.clip.foreign.hugging_face import transformers_clip
    from cliptune.clip.foreign.tokenizer import class_of, library_tokenizer

    clean = _cleaning(str(config["model_type"]), class_of(path.parent))
    text = {"hf_tokenizer_name": name, "tokenizer_kwargs": {"clean": clean}}
    if hyphens is not None and clean != "canonicalize":
        raise ValueError("hyphens is for tokenizers that delete punctuation, and this one keeps it. Leave it out.")
    tokenizer = library_tokenizer(text, path.parent, f"Backbone {name}", offline(), hyphens or "glue")  # type: ignore[arg-type]
    return transformers_clip(config, read_weights(path, said), name, tokenizer, dtype, hide_prompts)


def _cleaning(kind: str, tokenizer: str | None) -> str:
    """What transformers does to a text in front of the vocabulary: SigLIP's tokenizer deletes punctuation, that of
    SigLIP 2 (Gemma's vocabulary, also in repositories of the kind "siglip") lowers letters.
    """
    if not kind.startswith("siglip"):
        return "whitespace"
    of_gemma = kind == "siglip2" or (tokenizer or "").startswith(("Gemma", "Siglip2"))
    return "lower" if of_gemma else "canonicalize"


# Of both SigLIPs' image processors, where no file says it; those of the others are OpenAI's.
_HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "squash"}


def _processed(config: Mapping[str, Any], path: Path, said: list[str]) -> Pictures:
    """What transformers' files say of pictures, or what its processors of this kind do where there are none."""
    found, kind = read_processor(path.parent), str(config["model_type"])
    usual: dict[str, Any] = _HALF if kind.startswith("siglip") else {}
    if not found.fields:
        said.append(f"nothing says how pictures are prepared, so the usual way of {kind} was taken")
        return Pictures(usual, found.size)
    # SigLIP 2's processor knows no size, only a number of patches.
    return Pictures({**found.fields, "resize": "squash"}, found.size) if kind == "siglip2" else found


def _preprocessed(config: Mapping[str, Any], path: Path, arch: str | None, said: list[str]) -> Pictures:
    """What open_clip's configuration says of pictures, or its list of weights of an architecture."""
    found = open_clip_pictures(part(config, "preprocess_cfg", path), path)
    if found.fields or arch is None:
        return found
    found = _pictures_of(arch, path)
    said.append(
        f"pictures are prepared as open_clip does for all weights of {arch}"
        if found.fields
        else "nothing says how images are normalised, so OpenAI's mean and deviation were taken"
    )
    return found


def _tokenizer(model: Mapping[str, Any], folder: Path, name: str, hyphens: str | None) -> Tokenizer:
    text = model.get("text_cfg") or {}
    if not (text.get("hf_tokenizer_name") or text.get("hf_model_name")):
        if hyphens is not None:
            raise ValueError("hyphens is for tokenizers that delete punctuation, and OpenAI's keeps it. Leave it out.")
        return default_tokenizer()
    from cliptune.clip.foreign.tokenizer import library_tokenizer

    return library_tokenizer(text, folder, f"Backbone {name}", offline(), hyphens or "glue")  # type: ignore[arg-type]


def _pictures_of(arch: str, path: Path) -> Pictures:
    """How open_clip prepares pictures for all its weights of an architecture; empty where they differ."""
    pretrained = library("open_clip", f"Architecture {arch}").pretrained
    kept = ("mean", "std", "interpolation", "resize_mode")
    declared = []
    for tag in pretrained.list_pretrained_tags_by_model(arch):
        found = pretrained.get_pretrained_cfg(arch, tag)
        declared.append({key: _plain(found[key]) for key in kept if found.get(key) is not None})
    same = bool(declared) and all(one == declared[0] for one in declared)
    return open_clip_pictures(declared[0], path) if same else Pictures()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def tagged_weights(arch: str, tag: str) -> str:
    """Where open_clip keeps the weights that it calls `tag` of an architecture, as a name for `load_clip`.

    Raises: ValueError for an unknown tag, or weights that are not on the hub with their configuration.
    """
    pretrained = library("open_clip", f"load_clip: {arch}").pretrained
    tags = pretrained.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise ValueError(
            f"load_clip: pretrained must be a path or one of open_clip's tags of {arch} ({', '.join(tags) or 'none'}), "
            f"got {shown(repr(tag))}."
        )
    found = pretrained.get_pretrained_cfg(arch, tag)
    repository = str(found.get("hf_hub") or "").strip("/")
    if repository.count("/") != 1:
        raise ValueError(
            f"load_clip: open_clip's weights {tag} of {arch} lie at {found.get('url') or repository}, without their "
            f"configuration. Fetch the file and give its path: load_clip({arch!r}, pretrained=PATH)."
        )
    return f"hf-hub:{repository}"


def of_open_clip(name: str) -> str:
    """What to add to an error on a name that may be an architecture of open_clip: how to load one, or "" ."""
    known = name in other_architectures()
    if known and not installed("open_clip"):
        return f" {name} is an architecture of open_clip, which it needs: {PIP_LINE}."
    if not known and architecture_config(name) is None:
        return ""
    tags = [line.tag for line in other_weights() if line.architecture.name == name]
    which = f" ({', '.join(tags)})" if tags else ""
    return (
        f" {name} is an architecture of open_clip: say which weights{which} with pretrained=… or {name}:TAG, or give "
        f"the weights and --arch {name}."
    )

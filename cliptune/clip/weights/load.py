"""`load_clip`: a frozen CLIP from a name, a file, a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.clip.foreign.configuration import architecture_config
from cliptune.clip.model import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.towers.blocks import ACTIVATIONS
from cliptune.clip.weights.architectures import IMAGE_HEAD_WIDTHS, Architecture, architecture
from cliptune.clip.weights.archive import is_torchscript, stated_activation
from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.choice import WEIGHT_FILES
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, OPEN_CLIP_CONFIG, Declared, read_declared
from cliptune.clip.weights.hub import PREFIX
from cliptune.clip.weights.installed import installed_backbone
from cliptune.clip.weights.key_layouts import is_no_weight, to_openai_layout
from cliptune.clip.weights.locate import Weights, is_other, locate
from cliptune.clip.weights.merged import merge
from cliptune.clip.weights.openai import CHECKSUMS, OPENAI_CONFIGS, canonical_name
from cliptune.clip.weights.other_towers import load_other, other_config, tagged_weights
from cliptune.clip.weights.pretrained import EVIDENCE, hashed_weights
from cliptune.clip.weights.relatives import without_company
from cliptune.clip.weights.shards import read_weights, weights_sha256
from cliptune.noted import few
from cliptune.preprocessing import MEAN, STD, Preprocessing

# Evidence for what a lone file is.
HASHED = "SHA-256, which open_clip's list of weights has"


def load_clip(
    name: str | Path,
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    activation: str | None = None,
    arch: str | None = None,
    head_width: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust: bool = False,
    hyphens: str | None = None,
    hide_prompts: bool = False,
) -> CLIP:
    """Load a frozen CLIP in evaluation mode; no code of the weights is ever run.

    Args:
        name: "mini" (shipped); one of OpenAI's nine ("ViT-B/16", "RN50", …, in any spelling); the path of a
            file or folder; "hf-hub:organisation/name"; or the name of an installed entry point in the group
            `cliptune.backbones`, which goes after all others; or "architecture:tag" of open_clip's list. Files may be
            OpenAI's archives, state dicts of `torch.save`, or safetensors, with the tensor names of OpenAI, open_clip
            or Hugging Face.
        pretrained: "openai", a path or "hf-hub:…" when `name` is one of OpenAI's architectures; None means
            "openai" there, and nothing elsewhere. Or the tag of weights that open_clip lists for an architecture:
            load_clip("ViT-B-16", "laion2b_s34b_b88k"), and with the extra `backbones` of those that need other towers:
            load_clip("ViT-B-16-SigLIP2", "webli"), which also take a path or "hf-hub:…".
        device, dtype: where and in which floating type the weights are kept.
        activation: "quick_gelu" or "gelu", which no tensor tells; None takes it from the configuration beside the
            weights, from `arch`, from the program of an archive, or from a known SHA-256, and refuses where none of
            them says it.
        arch: open_clip's name of the architecture, "ViT-B-16" (GELU) or "ViT-B-16-quickgelu"; the sizes must be its.
            Or, of a file without configuration, an architecture that needs open_clip's towers ("ViT-B-16-SigLIP2").
        head_width: width of an attention head in both towers; None stands for what the configuration beside
            the weights says, else 64.
        preprocessing: fields of `cliptune.preprocessing.Preprocessing` that stand in place of what the configuration
            beside the weights declares: {"resize": "squash", "mean": (0.5, 0.5, 0.5), …}.
        revision: branch, tag or commit on the hub.
        trust: also take files of the hub for which there is no checksum (`cliptune.clip.weights.hub.checked`).
        hyphens: "space" reads hyphens of class names as spaces where the tokenizer would delete them (SigLIP's);
            "glue", or None, deletes them.
        hide_prompts: hide image prompts from a pooling that attends to all rows (SigLIP, PE-Core, CoCa), which
            otherwise sees them as it sees patches.
    Returns: a CLIP whose `origin` holds source, file, sha256, layout, activation and activation_from, and whose `notes`
        say what was left out of the file, converted, or taken for what nothing says.
    Raises: ImportError if the weights need a library that is not installed; ValueError for an unknown name or a file
        that is not such a CLIP; FileNotFoundError for a path that does not exist or a download in offline mode;
        OSError if a download fails. Each says what to do.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"load_clip: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    of_libraries = arch is not None and architecture_config(arch) is not None
    known = None if arch is None or of_libraries else architecture(arch)
    if known is not None and activation not in (None, known.activation):
        raise ValueError(
            f"load_clip: {known.name} has the activation {known.activation}, but activation={activation!r} was given "
            "too. Leave one of them out."
        )
    if name == "mini":
        if arch is not None:
            raise ValueError('load_clip: "mini" has one architecture, its own. Leave arch out.')
        return _mini(pretrained, dtype, activation, preprocessing).to(device)
    if isinstance(name, str) and pretrained is None and architecture_config(name.partition(":")[0]):
        name, _, tag = name.partition(":")
        pretrained = tag or None
    named = name if isinstance(name, str) and pretrained and architecture_config(name) else None
    if named is not None:
        arch, name, pretrained = named, _of_architecture(named, str(pretrained)), None
    if isinstance(name, str) and pretrained is None and is_other(name):
        brought: CLIP | None = installed_backbone(name, device, dtype)
        if brought is not None:
            return brought
    # A Path is never a name, even if it is spelled like one.
    where = name if isinstance(name, str) else str(name.absolute())
    weights = locate(where, None if pretrained is None else str(pretrained), revision, trust)
    config = None if weights.source == "openai" else other_config(weights.path.parent, arch)
    if config is not None:
        _check_said_nothing("towers are what their configuration says", activation=activation, head_width=head_width)
        if weights.lora is not None:
            raise ValueError(
                "load_clip: an adapter of PEFT is merged into CLIP's own towers alone, and its base model has others. "
                "Merge it there (merge_and_unload) and give the whole model."
            )
        return load_other(
            config,
            weights.path,
            named or weights.name,
            weights.source,
            weights.notes,
            dtype,
            arch=arch,
            preprocessing=preprocessing,
            hyphens=hyphens,
            hide_prompts=hide_prompts,
        ).to(device)
    own = "towers and tokenizer are CLIP's own"
    _check_said_nothing(own, hyphens=hyphens, hide_prompts=hide_prompts or None)
    clip = _from_file(weights, dtype, activation, known, head_width, preprocessing)
    canonical = canonical_name(weights.name)
    if pretrained is not None and canonical is not None:
        _check_architecture(clip, canonical, weights.path)
    return clip.to(device)


def _check_said_nothing(why: str, **options: Any) -> None:
    """Raises: ValueError for an option that is given and has no meaning for these weights."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"load_clip: {name} cannot be given for these weights, whose {why}. Leave it out.")


def _of_architecture(name: str, pretrained: str) -> str:
    """The weights of an architecture of open_clip: a path or a name on the hub, as given or by open_clip's tag."""
    here = pretrained.startswith(PREFIX) or Path(pretrained).expanduser().exists()
    return pretrained if here or Path(pretrained).suffix else tagged_weights(name, pretrained)


def _mini(
    pretrained: str | Path | None,
    dtype: torch.dtype,
    activation: str | None,
    preprocessing: Mapping[str, Any] | None,
) -> CLIP:
    from cliptune.clip.weights.mini import WEIGHTS, mini_state_dict

    if pretrained is not None:
        raise ValueError(f'load_clip: "mini" has one set of weights, which is shipped; got pretrained={pretrained!r}.')
    clip = CLIP.from_state_dict(
        mini_state_dict(WEIGHTS), activation or "quick_gelu", "mini", default_tokenizer(), dtype
    )
    clip.preprocessing = Preprocessing.from_dict(preprocessing or {})
    clip.origin = {
        "source": "mini",
        "file": WEIGHTS.name,
        "sha256": sha256(WEIGHTS),
        "layout": "openai",
        "activation": clip.config.activation,
        "activation_from": "argument" if activation else "mini",
    }
    if (clip.mean, clip.std) != (MEAN, STD):
        clip.origin["statistics_from"] = "argument"
    return clip


def opened(weights: Weights, notes: list[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors of located weights under the names of their file, with an adapter merged; and their SHA-256."""
    found, digest = read_weights(weights.path, notes), weights_sha256(weights.path)
    if weights.lora is None:
        return found, digest
    return merge(found, weights.lora, notes), weights.lora.sha256(digest)


def _from_file(
    weights: Weights,
    dtype: torch.dtype,
    activation: str | None,
    arch: Architecture | None,
    head_width: int | None,
    preprocessing: Mapping[str, Any] | None,
) -> CLIP:
    path, notes = weights.path, list(weights.notes)
    try:
        found, digest = opened(weights, notes)
        tensors, layout = to_openai_layout(without_company(found, notes))
        declared = Declared(found=False) if weights.source == "openai" else read_declared(path.parent, layout)
        decided, reason = _activation(weights, activation, arch, declared, layout, digest)
        heads = _head_widths(tensors, declared) if head_width is None else {"head_width": head_width}
        clip = CLIP.from_state_dict(tensors, decided, weights.name, default_tokenizer(), dtype, **heads)
        if arch is not None:
            arch.check(clip.config)
        if weights.listed is not None:
            architecture(weights.listed.architecture).check(clip.config)
    except ValueError as error:
        raise ValueError(f"load_clip: {path} cannot be loaded as a CLIP: {error}") from error
    beside = Preprocessing.from_dict(declared.pictures.fields)
    listed = weights.listed or (hashed_weights(digest) if reason == HASHED else None)
    stated = Preprocessing.from_dict(listed.pictures if listed else {}, beside)
    clip.preprocessing = Preprocessing.from_dict(preprocessing or {}, stated)
    notes += _beside(weights, heads if head_width is None else {}, declared, reason, clip.config.resolution)
    notes += _converted(found, dtype)
    clip.notes = tuple(f"Backbone {weights.name}: {phrase}." for phrase in notes)
    clip.origin = {
        "source": weights.source,
        "file": path.name,
        "sha256": digest,
        "layout": layout,
        "activation": decided,
        "activation_from": reason,
    }
    if (clip.mean, clip.std) != (beside.mean, beside.std):
        clip.origin["statistics_from"] = "argument" if clip.preprocessing != stated else EVIDENCE
    return clip


def _beside(weights: Weights, heads: dict[str, Any], declared: Declared, reason: str, resolution: int) -> list[str]:
    """What was decided by the files beside the weights, or without any: phrases. OpenAI's own archives are known."""
    if weights.source == "openai":
        return []
    phrases = [] if reason in ("argument", "OpenAI's archive") else [f"the activation is that of its {reason}"]
    if not declared.found and reason == "argument":
        phrases.append(
            "nothing says how it pools and masks, so OpenAI's way was taken: class token, causal mask, end-of-text "
            "token, LayerNorm with 1e-5"
        )
    if declared.usual:
        phrases.append(f"its configuration leaves out {few(declared.usual, 5)}, for which the usual value stands")
    told = declared.image_head_width or declared.image_heads or reason.startswith("architecture")
    if heads.get("image_head_width") and not told:
        phrases.append(f"nothing says how wide its image heads are, so {heads['image_head_width']} was taken")
    if "mean" not in declared.pictures.fields and reason not in (EVIDENCE, HASHED):
        phrases.append("nothing says how images are normalised, so OpenAI's mean and deviation were taken")
    if declared.pictures.size not in (None, resolution):
        phrases.append(
            f"its configuration speaks of images of {declared.pictures.size} pixels, but its tensors are of a tower "
            f"that takes {resolution}, which stands"
        )
    beside = [path.name for path in sorted(weights.path.parent.iterdir()) if path.name in WEIGHT_FILES]
    others = [name for name in beside if name != weights.path.name]
    if others and not weights.source.endswith(weights.path.name):
        phrases.append(f"{weights.path.name} was read, and not {few(others)}")
    return phrases


def _converted(found: dict[str, Tensor], dtype: torch.dtype) -> list[str]:
    """What became of the tensors of a file: those that are no weights, and another floating type."""
    phrases = []
    other = [name for name in found if is_no_weight(name)]
    if other:
        phrases.append(f"{len(other)} tensors that are no weights were left out ({few(other)})")
    stored = {value.dtype for value in found.values() if value.is_floating_point()} - {dtype}
    if stored:
        kinds = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in stored))
        phrases.append(f"weights stored as {kinds} are kept as {str(dtype).removeprefix('torch.')}")
    return phrases


def _activation(
    weights: Weights, asked: str | None, arch: Architecture | None, declared: Declared, layout: str, digest: str
) -> tuple[str, str]:
    """The activation that the weights were trained with, and the evidence for it.

    Names of files and folders are no evidence: the same name holds either activation in practice.

    Raises: ValueError with both readings where nothing says it.
    """
    if asked is not None:
        return asked, "argument"
    if arch is not None:
        return arch.activation, f"architecture {arch.name}"
    # An archive of OpenAI that was found by name has been checked against its SHA-256.
    if weights.source == "openai":
        return "quick_gelu", "OpenAI's archive"
    if weights.listed is not None:
        return weights.listed.activation, EVIDENCE
    if declared.activation is not None:
        return declared.activation, "configuration file"
    if is_torchscript(weights.path):
        stated = stated_activation(weights.path)
        if stated is not None:
            return stated, "program of the archive"
        if digest in CHECKSUMS.values():
            return "quick_gelu", "OpenAI's archive"
    known = hashed_weights(digest)
    if known is not None:
        return known.activation, HASHED
    beside = HUGGING_FACE_CONFIG if layout == "hugging_face" else OPEN_CLIP_CONFIG
    raise ValueError(
        "its tensors do not tell the activation, and the wrong one gives wrong features without any error. Say "
        "quick_gelu if the training began from OpenAI's weights, or with a model that open_clip calls …-quickgelu; say "
        "gelu if it began from LAION's, DataComp's or other weights of open_clip without that ending. On the command "
        "line: --activation quick_gelu or gelu, or --arch with open_clip's name of the architecture, such as "
        f"ViT-B-16 or ViT-B-16-quickgelu; in Python: load_clip(…, activation=…) or arch=…; or put its "
        f"{beside} beside it."
    )


def _head_widths(tensors: dict[str, Tensor], declared: Declared) -> dict[str, Any]:
    """Sizes that no tensor tells, for `CLIPConfig`."""
    known: dict[str, Any] = {}
    text, image = tensors.get("ln_final.weight"), tensors.get("visual.ln_post.weight")
    if text is not None and declared.text_heads:
        known["head_width"] = len(text) // declared.text_heads
    if declared.image_head_width:
        known["image_head_width"] = declared.image_head_width
    elif image is not None:
        width = IMAGE_HEAD_WIDTHS.get(len(image), 64)
        known["image_head_width"] = len(image) // declared.image_heads if declared.image_heads else width
    return known


def _check_architecture(clip: CLIP, name: str, path: Path) -> None:
    expected = OPENAI_CONFIGS[name]
    found = replace(
        clip.config,
        activation=expected.activation,
        head_width=expected.head_width,
        image_head_width=expected.image_head_width,
    )
    if found != expected:
        differing = [key for key, value in vars(expected).items() if getattr(found, key) != value]
        raise ValueError(
            f"load_clip: {path} is not a {name}: "
            + ", ".join(f"{key} should be {getattr(expected, key)}, is {getattr(found, key)}" for key in differing)
            + ". Give the path alone to load it as what it is."
        )

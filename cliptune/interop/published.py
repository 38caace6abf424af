"""Released checkpoints → recipes, and adapters → released state dicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.weights.checkpoint import read_safetensors, read_saved
from cliptune.interop.add_ons import (
    BESIDE,
    FOLDING,
    FROZEN_BIAS,
    PROMPTED,
    STARTS,
    Part,
    check_alone,
    parted,
    plain_host,
    put_into,
)
from cliptune.interop.heads import PROBES, probe_from_published, probe_to_published
from cliptune.interop.low_rank import (
    LOW_RANK,
    is_low_rank,
    low_rank_from_published,
    low_rank_to_published,
)
from cliptune.interop.low_rank import flattened as flattened_factors
from cliptune.interop.visual import VISUAL, flattened, visual_from_published, visual_to_published
from cliptune.noted import few, warn
from cliptune.recipe import Recipe
from cliptune.registry.building import build, describe, find
from cliptune.texts import ClassSet, ContextPhrasing

# What a released checkpoint holds besides learnables: word embeddings of its class list, and the frozen CLIP.
_CLASS_BUFFERS = (
    "token_prefix",
    "token_suffix",
    "token_midfix",
    "prompt_embeddings",
    "tokenized_prompts",
    "base_text_features",
)
_FROZEN = ("image_encoder.", "text_encoder.", "logit_scale", "dtype")
# DVP's releases hold a NumPy array of numbers beside their tensors; these names rebuild one and do nothing else.
_ARRAYS = [(np.zeros(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")] + [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8")},
]
# What MMRL's releases learn among the tensors of the frozen image tower.
_SECOND_READ_OUT = ("encoder.proj_rep", "encoder.A", "encoder.B")
_OUTSIDE = (*_FROZEN, *STARTS["dept"], *STARTS["textrefiner"], "VPT_image_trans.")
_BIASES = tuple(FROZEN_BIAS.values())
_TOWERS = {"image_encoder.": "image.", "text_encoder.": "text."}
# Relative: what half precision makes of a weight is far nearer.
_SAME_WEIGHTS = 1e-2


def from_published(
    method: str,
    tensors: Mapping[str, Tensor],
    clip: CLIP,
    class_names: Sequence[str] | ClassSet,
    *,
    tuned: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Recipe:
    """A recipe whose adapter holds the learnables of a released state dict.

    Args:
        method: one whose file knows the names of its release: "coop", "cocoop", "kgcoop", "vpt", "ivlp",
            "maple", "promptsrc", "promptkd", "prolip", "mmrl", "mmrl_plus_plus", "taskres"; or "vp", "ar", "attrvr",
            "dvp_cse", "dvp_cls" (see `interop.visual`); or "clip_lora" (see `interop.low_rank`); or "clap", "zs_probe"
            (see `interop.heads`). With add-ons it answers as the checkpoint does and can be trained on: "rlp" makes the
            given matrices frozen starts; "bias" begins at zero, or at what the checkpoint's towers have beyond the
            frozen ones; "dapt" has nothing in a checkpoint; "dept" has its head there; "dpc" begins its second stage.
            The last two are "released" in mode and fusion unless told otherwise. "atprompt" has its tokens there, and
            its words as embeddings; "textrefiner" its maps there and its cache in a second file, whose tensors are
            given among the others.
        tensors: released state dict; a "module." or missing "prompt_learner." prefix is understood. The frozen CLIP
            and the word embeddings of its class list, if they are in it, are left out: the latter must never be
            restored for other classes. Of DPC, the parallel prompt as stored.
        clip: the backbone it was trained with.
        class_names: names in label order.
        tuned: for "dpc", and only there, the state dict of its host after the first stage, which the release keeps
            in a file of its own.
        options: of the method; those not given are read from the shapes.
    Warns if the checkpoint holds towers that are not those of `clip`, because it then answers otherwise there.
    Raises: ValueError naming what is missing, unexpected or misshapen.
    """
    host, joined = parted(method)
    if ("dpc" in joined) != (tuned is not None):
        raise ValueError(
            "from_published: a release of dpc keeps the tuned and the parallel prompt in two files. Give the "
            "parallel one as the checkpoint and its host's as `tuned` (--tuned)."
            if tuned is None
            else f"from_published: a tuned prompt beside the checkpoint belongs to dpc, and the method is {method!r}."
        )
    unread = sorted(set(joined) - {*FOLDING, *BESIDE, *PROMPTED, "bias"})
    if unread:
        raise ValueError(
            f"from_published: how {' and '.join(unread)} would go on from a released checkpoint of {host} is not "
            f"known. Read it as one of {host}, with {', '.join((*FOLDING, *BESIDE, *PROMPTED))} or bias, or train anew."
        )
    check_alone("from_published", host, joined)
    foreign = {name for add_on in joined for name in describe(add_on).options}
    own = {name: value for name, value in options.items() if name not in foreign}
    bare = host in (*VISUAL, *LOW_RANK, *PROBES) or getattr(find(host), "PUBLISHED_BARE", False)
    whole = (lambda key: key) if bare else _full_name
    states = [{whole(key): value for key, value in given.items()} for given in (tuned, tensors) if given is not None]
    beside = tuple(start for part in joined for start in STARTS.get(part, ()))
    hosts = [{key: value for key, value in state.items() if not key.startswith(beside)} for state in states]
    plains = [_of_host(host, state, clip, class_names, **own) for state in hosts]
    # Of probes, the texts say where the prototypes began.
    notes = () if host in PROBES else _left_out(states)
    notes += _compare_towers(method, states, clip, but=() if "bias" not in joined else _BIASES)
    if not joined:
        plains[0].notes += notes
        return plains[0]
    mode = {"dpc_mode": "released"} if "dpc" in joined else {"dept_fusion": "released"} if "dept" in joined else {}
    for part in set(PROMPTED) & set(joined):
        options = find(part).published_options(states[-1], clip, options) | options
    recipe = build(method, clip, class_names, **{**plains[0].config, **mode, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.get("seed", 1))  # of new low-rank factors
        put_into(recipe, [plain.adapter for plain in plains], states)
    notes += tuple(
        f"from_published: {option} was left out and is 'released', since the checkpoint is."
        for option in mode
        if option not in options
    )
    recipe.notes += notes
    return recipe


def _left_out(states: Sequence[Mapping[str, Tensor]]) -> tuple[str, ...]:
    """A sentence on what of a checkpoint is no learnable: the word embeddings of its classes, and the frozen CLIP."""
    frozen = sorted({key for state in states for key in state if _is_frozen(key)})
    if not frozen:
        return ()
    return (f"from_published: {len(frozen)} tensors that are no learnables were left out ({few(frozen)}).",)


def _compare_towers(
    method: str, states: Sequence[Mapping[str, Tensor]], clip: CLIP, but: tuple[str, ...]
) -> tuple[str, ...]:
    """A sentence if a checkpoint's towers are other ones, with a warning.

    Args: but: endings of names that may differ, because they are learned.
    """
    frozen = clip.state_dict()
    other: list[str] = []
    for key, value in ((key, value) for state in states for key, value in state.items() if not key.endswith(but)):
        prefix = next((prefix for prefix in _TOWERS if key.startswith(prefix)), None)
        mine = frozen.get(_TOWERS[prefix] + key.removeprefix(prefix)) if prefix else None
        if mine is None:
            continue
        mine, value = mine.float(), value.to(mine.device).float()
        if mine.shape != value.shape or (mine - value).abs().max() > _SAME_WEIGHTS * mine.abs().max().clamp(min=1e-6):
            other.append(key)
    if other:
        biases = all(key.endswith(_BIASES) for key in other)
        advice = (
            f"they are biases, which {method}+bias takes over" if biases else "give the backbone it was trained with"
        )
        sentence = (
            f"from_published: the checkpoint holds frozen towers that are not those of {clip.name} "
            f"(tensors that differ: {len(other)}, such as {other[0]}). They are left out, so the answers will "
            f"differ: {advice}."
        )
        warn(sentence, stacklevel=3)
        return (sentence,)
    return ()


def _of_host(
    method: str, given: Mapping[str, Tensor], clip: CLIP, class_names: Sequence[str] | ClassSet, **options: Any
) -> Recipe:
    if method in VISUAL:
        return visual_from_published(method, given, clip, class_names, **options)
    if method in LOW_RANK:
        return low_rank_from_published(method, given, clip, class_names, **options)
    if method in PROBES:
        return probe_from_published(method, given, clip, class_names, **options)
    module = _speaking(method)
    if not given:
        raise ValueError(f"from_published: the state dict for {method!r} is empty.")
    try:
        implied = module.published_options(given)
    except KeyError as error:
        raise ValueError(
            f"from_published: {error} is missing, so this is not a released checkpoint of {method} "
            f"(found {', '.join(sorted(given)[:5])})."
        ) from error
    recipe = build(method, clip, class_names, **{**implied, **options})
    own = recipe.adapter.learnables()
    names = {name: module.published_name(name) for name in own}
    ours = {name: theirs for name, theirs in names.items() if theirs is not None}
    spare = sorted(key for key in set(given) - set(ours.values()) if not _is_frozen(key))
    missing = sorted(set(ours.values()) - set(given))
    if missing or spare:
        raise ValueError(
            f"from_published: this is not a released checkpoint of {method} with these options: "
            f"missing {missing or 'none'}, unexpected {spare or 'none'}."
        )
    # Where the release writes a linear map as a convolution, it has trailing ones.
    same = lambda value, like: value.reshape(like.shape) if value.shape[: like.ndim] == like.shape else value
    recipe.adapter.load_learnables(
        own | {name: same(given[theirs].to(own[name].dtype), own[name]) for name, theirs in ours.items()}
    )
    recipe.notes += tuple(
        f"from_published: {name} is in no checkpoint of {method}, was left out and is {recipe.config[name]:g}."
        for name in getattr(module, "PUBLISHED_UNSAID", ())
        if name not in options
    )
    return recipe


def to_published(method: str, adapter: Adapter, *, seen: bool | None = None, part: Part = "mixed") -> dict[str, Tensor]:
    """The learnables under the names of the released code, float32: a checkpoint of the host, whatever is joined to it.

    Low-rank matrices are merged. Biases go into the frozen biases of the towers, which are then among the tensors,
    where the host's release saves the towers.

    Args:
        method: as in `from_published`.
        seen: for "dpc", mix as for the trained classes or for others; None as for those asked about now.
        part: for "dpc", "mixed" as evaluation mixes, or of the two files of its release "tuned", or "parallel" as
            stored.
    Raises: ValueError for a method without a released format, or add-ons that do not fold into their host.
    """
    method, adapter, towers = plain_host(method, adapter, seen, part)
    if method in VISUAL:
        return visual_to_published(method, adapter)
    if method in LOW_RANK:
        return low_rank_to_published(method, adapter)
    if method in PROBES:
        return probe_to_published(method, adapter)
    module = _speaking(method)
    shaped = getattr(module, "published_tensor", lambda name, value: value)
    names = {name: module.published_name(name) for name in adapter.learnables()}
    learned = {names[k]: shaped(k, value) for k, value in adapter.learnables().items() if names[k] is not None}
    _same_sentence(method, adapter, module.published_options(learned))
    written = learned | towers
    if getattr(module, "PUBLISHED_LEARNER", False) and not any(key.startswith(_OUTSIDE) for key in written):
        # These releases load the prompt learner alone, and pass over names that it does not have.
        written = {key.removeprefix("prompt_learner."): value for key, value in written.items()}
    return written


def _same_sentence(method: str, adapter: Adapter, implied: Mapping[str, Any]) -> None:
    """A state dict holds learned tokens, not the words around them. Raises: ValueError if the released code would put
    none where this adapter has some; warns where a setting has to be given once more.
    """
    phrasing = adapter.phrasing
    if not isinstance(phrasing, ContextPhrasing) or implied.get("words") != "":
        return
    fixed = phrasing.words.split()[phrasing.n_ctx :]
    if fixed:
        raise ValueError(
            f"to_published: the words {' '.join(fixed)!r} stand fixed behind the {phrasing.n_ctx} learned tokens, "
            f"which the released code of {method} cannot say. Train with as many tokens as words, or with words=''."
        )
    if phrasing.position != "end":
        warnings.warn(
            f"to_published: the tensors do not say where the learned tokens stand. Give position={phrasing.position!r} "
            "once more where they are read (CLASS_TOKEN_POSITION in the released code).",
            stacklevel=3,
        )


def read_published(path: str | Path) -> dict[str, Tensor]:
    """State dict of a released checkpoint file (`model.pth.tar-5`), read without executing anything in it.

    Raises: FileNotFoundError; ValueError if the file is not such a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_published: there is no file {path}. Give the path of a released checkpoint.")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        content = read_saved(path, _ARRAYS)
    except ValueError as error:
        raise ValueError(
            f"read_published: {path.name} is damaged, or holds more than tensors and plain values, which "
            "cannot be read safely. Save its state dict alone, with torch.save or as safetensors, where it was made."
        ) from error
    if isinstance(content, dict) and "visual_prompt_dict" in content:
        return flattened(content)
    if is_low_rank(content):
        return flattened_factors(content)
    if isinstance(content, dict) and isinstance(content.get("memory_item"), Tensor):
        state = content.get("state_dict", {})
        named = {f"Memory.{name}": value for name, value in state.items() if isinstance(value, Tensor)}
        return {"Memory.text_fine_cache": content["memory_item"], **named}
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise ValueError(f"read_published: {path.name} holds no state dict of tensors.")
    return tensors


def _speaking(method: str) -> Any:
    module = find(method)
    if not hasattr(module, "published_name"):
        raise ValueError(f"interop: {method!r} has no released checkpoint format that cliptune knows.")
    return module


def _full_name(key: str) -> str:
    key = key.removeprefix("module.")
    return key if key.startswith(("prompt_learner.", *_OUTSIDE)) else f"prompt_learner.{key}"


def _is_frozen(key: str) -> bool:
    if key.removeprefix("prompt_learner.") in _CLASS_BUFFERS:
        return True
    return key.startswith(_FROZEN) and not key.endswith((".VPT", ".VPT_shallow", *_SECOND_READ_OUT))

"""Adapters with add-ons, and released checkpoints of their hosts: what folds into one, what is taken out of one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.ports import TowerPorts
from cliptune.heads import TransferHead
from cliptune.params import FullRank, LowRank
from cliptune.prompts import Prompt, Together
from cliptune.prompts.attributed import AttributedTokens
from cliptune.prompts.bias import LayerBias
from cliptune.prompts.dual import DualPrompt
from cliptune.reading import listed
from cliptune.recipe import Recipe
from cliptune.registry.building import add_ons, find
from cliptune.texts.attributed import AttributedPhrasing
from cliptune.wrappers.rlp import merge

Part = Literal["mixed", "tuned", "parallel"]
# What these learn is a prompt of the host's own shape, or nothing.
FOLDING = ("rlp", "dpc", "dapt")
# Its own release keeps what it learns beside the host's values: a second head,
BESIDE = ("dept",)
# or parts of the prompt.
PROMPTED = ("atprompt", "textrefiner")
# What these releases write besides the host's values, and the frozen towers.
STARTS = {
    "dept": ("film_lp_img.", "film_lp_text.", "linear_probe_proj."),
    "atprompt": ("prompt_learner.ctx_att", "prompt_learner.token_middle"),
    "textrefiner": ("mid_image_trans.", "Memory."),
}
# Releases that save the frozen towers beside the prompts, so that biases folded into the towers have a place there.
WITH_TOWERS = ("vpt", "ivlp", "maple", "promptsrc", "promptkd")
FROZEN_BIAS = {"attn_out": "attn.out_proj.bias", "mlp_out": "mlp.c_proj.bias"}


def parted(method: str) -> tuple[str, tuple[str, ...]]:
    """The host, and the add-ons that "+" joins to it."""
    parts = [part.strip() for part in method.split("+")]
    joined = tuple(part for part in parts if part in add_ons())
    return "+".join(part for part in parts if part not in joined), joined


# -- out --------------------------------------------------------------------------------------------------------------


def plain_host(
    method: str, adapter: Adapter, seen: bool | None = None, part: Part = "mixed"
) -> tuple[str, Adapter, dict[str, Tensor]]:
    """Host, adapter without add-ons, and what stands beside its values in the checkpoint: the frozen biases of the
    towers with learned ones folded in, and a second head. Same answers.

    Args:
        method: a host, with add-ons joined by "+".
        seen, part: for DPC, see `to_published`.
    Raises: ValueError for an add-on that a host's release has no place for, or maps that cannot be mixed.
    """
    host, joined = parted(method)
    homeless = sorted(set(joined) - {*FOLDING, *BESIDE, *PROMPTED, *(("bias",) if host in WITH_TOWERS else ())})
    if homeless:
        raise ValueError(
            f"to_published: what {', '.join(homeless)} learns has no place in a released checkpoint of {host}. "
            f"Only {', '.join((*FOLDING, *BESIDE, *PROMPTED))} go with every host, and bias into those whose releases "
            f"save the towers: {', '.join(WITH_TOWERS)}."
        )
    check_alone("to_published", host, joined)
    if part != "mixed" and not isinstance(adapter.prompt, DualPrompt):
        raise ValueError(f"to_published: only dpc has a {part} prompt, and this is an adapter of {method!r}.")
    if not joined:
        return host, adapter, {}
    prompt = copy.deepcopy(adapter.prompt)
    if isinstance(prompt, DualPrompt):
        prompt = _single(prompt, adapter.seen if seen is None else seen, part)
    prompt = merge(prompt)
    beside = second_head(joined, adapter)
    plain = adapter.with_prompt(prompt)
    if beside:
        plain.head = cast(TransferHead, adapter.head).host
    if set(PROMPTED) & set(joined):
        beside |= beside_the_prompt(joined, adapter)
        within = prompt.host if isinstance(prompt, AttributedTokens) else cast(Together, prompt).parts["host"]
        plain.prompt = cast(Prompt, within)
        if isinstance(adapter.phrasing, AttributedPhrasing):
            plain.phrasing = adapter.phrasing.context
    if "bias" in joined:
        beside |= _folded_biases(adapter.clip, prompt)
        plain.prompt = cast(Prompt, cast(Together, prompt).parts["host"])
    return host, plain, beside


def second_head(joined: Sequence[str], adapter: Adapter) -> dict[str, Tensor]:
    """What a head beside the host's holds, under its release's names."""
    return {
        find(part).published_name(name): value
        for part in joined
        if part in BESIDE
        for name, value in adapter.learnables().items()
        if name.startswith("head.")
    }


def check_alone(who: str, host: str, joined: Sequence[str]) -> None:
    """Raises: ValueError where an add-on that its own release writes is joined with another."""
    own = [part for part in joined if part in PROMPTED]
    if own and len(joined) > 1:
        raise ValueError(
            f"{who}: a release of {own[0]} holds its values beside those of a plain {host}, and "
            f"{', '.join(part for part in joined if part != own[0])} joined to it is in no release. Use "
            f"{host}+{own[0]}."
        )


def beside_the_prompt(joined: Sequence[str], adapter: Adapter) -> dict[str, Tensor]:
    """What an add-on in the prompt holds, under its release's names, and what else its release writes."""
    module = next(find(part) for part in joined if part in PROMPTED)
    names = {name: module.published_name(name) for name in adapter.learnables()}
    learned = {
        names[name]: module.published_tensor(name, value)
        for name, value in adapter.learnables().items()
        if names[name] is not None
    }
    return learned | module.published_ballast(adapter)


def _single(dual: DualPrompt, seen: bool, part: Part) -> Prompt:
    if part == "parallel" and not dual.opened:
        raise ValueError("to_published: the second stage of dpc has not begun, so there is no parallel prompt yet.")
    return _mixed(dual, seen) if part == "mixed" else dual.tuned if part == "tuned" else dual.parallel


@torch.no_grad()
def _mixed(dual: DualPrompt, seen: bool) -> Prompt:
    """The prompt that a dual one is in evaluation; takes it apart. Matrices are mixed merged, maps must agree."""
    tuned, parallel = merge(dual.tuned), merge(dual.parallel)
    if not dual.opened:
        return tuned
    weight = dual.evaluation_weight(seen) / (dual.base_weight if dual.mode == "converse" else 1.0)
    if weight == 1:
        return parallel
    if weight and dual.normalised:
        raise ValueError(
            "to_published: dpc_mix='ln' mixes tokens where they enter, and no prompt of the host is that mixture for "
            "certain. Write its two parts, or build it with dpc_mix='raw'."
        )
    matrices = {f"{name}.value" for name, part in tuned.named_modules() if isinstance(part, FullRank)}
    other = dict(parallel.named_parameters())
    for name, value in tuned.named_parameters():
        if name in matrices:
            value.lerp_(other[name], weight)
        elif weight and not torch.equal(value, other[name]):
            raise ValueError(
                f"to_published: {name} differs between the tuned and the parallel prompt, and maps cannot be mixed "
                "into one. Only prompts whose maps stayed the same fold into their host."
            )
    return tuned


@torch.no_grad()
def _folded_biases(clip: CLIP, prompt: Prompt) -> dict[str, Tensor]:
    ports = prompt()
    towers: tuple[tuple[str, TowerPorts], ...] = (("image", ports.image), ("text", ports.text))
    folded = {}
    for tower, entering in towers:
        for (layer, site, group), value in entering.bias.items():
            if group != "all":
                raise ValueError(
                    f"to_published: the {tower} biases differ between groups of tokens, and only one vector for all "
                    "tokens folds into the frozen weights. Train with bias_groups='all'."
                )
            name, frozen = _frozen_bias(clip, tower, layer, site)
            folded[name] = (frozen.float() + value).cpu()
    return folded


def _frozen_bias(clip: CLIP, tower: str, layer: int, site: str) -> tuple[str, Tensor]:
    """The frozen bias that stands where a learned one is added, with its released name."""
    name = FROZEN_BIAS[site]
    block = getattr(clip, tower).transformer.blocks[layer]
    return f"{tower}_encoder.transformer.resblocks.{layer}.{name}", block.get_parameter(name).detach()


# -- in ---------------------------------------------------------------------------------------------------------------


def put_into(recipe: Recipe, plains: Sequence[Adapter], states: Sequence[Mapping[str, Tensor]]) -> None:
    """Give an adapter with add-ons the answers of plain ones of its host.

    Low-rank matrices begin again at the given ones, with a zero product; biases are what the checkpoint's towers have
    beyond the frozen ones, so zero where it holds none; DPC begins its second stage.

    Args:
        plains: of the checkpoints: one, or for DPC the tuned and the parallel one.
        states: the tensors of the same checkpoints.
    """
    adapter = recipe.adapter
    joined = parted(recipe.method)[1]
    if set(PROMPTED) & set(joined):
        _take_parts(recipe.method, adapter, joined, plains[-1], states[-1])
        return
    if set(BESIDE) & set(joined):
        _take_head(recipe.method, adapter, joined, states[-1])
    else:
        adapter.head = plains[-1].head
    prompt = adapter.prompt
    parts = [prompt]
    if isinstance(prompt, DualPrompt):
        prompt.open()
        parts = [prompt.tuned, prompt.parallel]
    for part, plain, state in zip(parts, plains, states, strict=True):
        if "bias" in joined:
            sides = cast(Together, part).parts
            _take_biases(cast(LayerBias, sides["bias"]), adapter.clip, state)
            part = cast(Prompt, sides["host"])
        values = plain.prompt.state_dict()
        for path, matrix in part.named_modules():
            if isinstance(matrix, LowRank):
                matrix.restart(values.pop(f"{path}.value"))
        part.load_state_dict(part.state_dict() | values)


def _take_head(method: str, adapter: Adapter, joined: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """Raises: ValueError if values of the second head are missing, or those of other classes."""
    theirs = next(find(part).published_name for part in joined if part in BESIDE)
    own = adapter.learnables()
    names = {name: theirs(name) for name in own if name.startswith("head.")}
    missing = sorted(set(names.values()) - set(state))
    if missing:
        raise ValueError(
            f"from_published: this is not a released checkpoint of {method}: missing {listed(missing)}. "
            f"Read it as one of the host alone, {parted(method)[0]}."
        )
    adapter.load_learnables(own | {name: state[released].float() for name, released in names.items()})


def _take_parts(
    method: str, adapter: Adapter, joined: Sequence[str], plain: Adapter, state: Mapping[str, Tensor]
) -> None:
    """Raises: ValueError if values of the add-on are missing or of another shape."""
    module = next(find(part) for part in joined if part in PROMPTED)
    own = adapter.learnables()
    hosts = {module.hosted_name(name): value for name, value in plain.learnables().items()}
    names = {name: module.published_name(name) for name in own.keys() - hosts.keys()}
    missing = sorted(set(names.values()) - set(state))
    if missing:
        raise ValueError(
            f"from_published: this is not a released checkpoint of {method}: missing {listed(missing)}. "
            f"Read it as one of the host alone, {parted(method)[0]}{module.PUBLISHED_ADVICE}."
        )
    # Where the release writes a linear map as a convolution, it has trailing ones.
    same = lambda value, like: value.reshape(like.shape) if value.shape[: like.ndim] == like.shape else value
    taken = {name: same(state[released].to(own[name].dtype), own[name]) for name, released in names.items()}
    adapter.load_learnables(hosts | taken)


@torch.no_grad()
def _take_biases(bias: LayerBias, clip: CLIP, state: Mapping[str, Tensor]) -> None:
    for tower, matrix in bias.towers.items():
        rows = torch.stack(list(_rows(bias, clip, state, tower)))
        if isinstance(matrix, LowRank):
            matrix.restart(rows)
        else:
            _value(matrix).copy_(rows)


def _value(matrix: nn.Module) -> Tensor:
    return cast(FullRank, matrix).value


def _rows(bias: LayerBias, clip: CLIP, state: Mapping[str, Tensor], tower: str) -> Iterator[Tensor]:
    for (layer, site, group), *_ in bias.places[tower]:
        name, frozen = _frozen_bias(clip, tower, layer, site)
        row = state[name].to(frozen.device).float() - frozen.float() if name in state else torch.zeros_like(frozen)
        if group != "all" and row.any():
            raise ValueError(
                f"from_published: {name} holds a bias for all tokens, which does not tell what each group of tokens "
                "had. Use bias_groups='all'."
            )
        yield row.float()

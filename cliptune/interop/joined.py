"""Adapters with add-ons as plain ones of their host: what a release of the host can hold."""

from __future__ import annotations

import copy

import torch

from cliptune.adapter import Adapter
from cliptune.methods.registry import add_ons
from cliptune.params import FullRank, LowRank
from cliptune.prompts import Prompt
from cliptune.prompts.dual import DualPrompt
from cliptune.wrappers.rlp import merge

# What these learn is a prompt of the host's own shape, or nothing.
FOLDING = ("rlp", "dpc", "dapt")


def plain_host(method: str, adapter: Adapter, seen: bool | None = None) -> tuple[str, Adapter]:
    """Host and adapter without add-ons, with the same answers in evaluation.

    Args:
        method: a host, with add-ons joined by "+". seen: for DPC, mixed as for the trained classes or for others;
            None as for those the adapter is asked about now.
    Raises: ValueError for an add-on that a host's release has no place for, or maps that cannot be mixed.
    """
    parts = [part.strip() for part in method.split("+")]
    joined = [part for part in parts if part in add_ons()]
    host = "+".join(part for part in parts if part not in joined)
    homeless = sorted(set(joined) - set(FOLDING))
    if homeless:
        raise ValueError(
            f"to_published: what {', '.join(homeless)} learns has no place in a released checkpoint of {host}. "
            f"Only {', '.join(FOLDING)} fold into their host."
        )
    prompt = copy.deepcopy(adapter.prompt)
    if isinstance(prompt, DualPrompt):
        prompt = _mixed(prompt, adapter.seen if seen is None else seen)
    if any(isinstance(part, LowRank) for part in prompt.modules()):
        prompt = merge(prompt)
    return host, adapter if not joined else adapter.with_prompt(prompt)


@torch.no_grad()
def _mixed(dual: DualPrompt, seen: bool) -> Prompt:
    """The prompt that a dual one is in evaluation; takes it apart. Matrices are mixed merged, maps must agree."""
    tuned, parallel = merge(dual.tuned), merge(dual.parallel)
    if not dual.opened:
        return tuned
    weight = dual.evaluation_weight(seen) / (dual.base_weight if dual.mode == "converse" else 1.0)
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

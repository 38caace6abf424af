"""Compute precision: the frozen towers in a narrow type, everything learned in float32.

No autocast: it would cast the frozen weights anew at every call, since it caches only leaves that need gradients.
Here they are cast once; ports cast the learnables on entry, normalisation and logits are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AUTO = "auto"
# Width of the image tower from which bfloat16 was seen to be the faster one: 1.5 times at 768, not at mini's 128.
WIDE = 512


class Chosen(NamedTuple):
    """A precision's name, and why it was taken, as the end of a sentence."""

    precision: str
    why: str


def check_precision(precision: str) -> None:
    """Raises: ValueError for another name than "fp32", "bf16", "fp16" or "auto"."""
    if precision not in (*PRECISIONS, AUTO):
        raise ValueError(f"precision must be one of {', '.join((*PRECISIONS, AUTO))}, got {precision!r}.")


def chosen(precision: str, clip: Any, exact: str = "") -> Chosen:
    """What a precision stands for on a CLIP and its device: itself, or for "auto" the faster one of fp32 and bf16.

    Args:
        clip: with a device, and an image tower that has a width.
        exact: what speaks against bfloat16 in the method itself (`Recipe.exact`); "" for nothing.

    The rule asks the device and the width of the image tower, and measures nothing, so that runs repeat themselves.
    Raises: ValueError for an unknown name.
    """
    check_precision(precision)
    if precision != AUTO:
        return Chosen(precision, "as asked")
    if not multiplies_bfloat16(clip.device):
        return Chosen("fp32", f"because this {clip.device.type} has no products of bfloat16")
    if clip.image.width < WIDE:
        return Chosen("fp32", f"because in towers narrower than {WIDE} bfloat16 is not faster")
    if exact:
        return Chosen("fp32", f"because {exact}")
    return Chosen("bf16", f"because this {clip.device.type} multiplies bfloat16 faster than float32")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16: CUDA cards since Ampere, AVX512-BF16, AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Not documented by torch, and absent from other builds: then nothing is known of the processor.
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(supported() for supported in asked if supported is not None)


@contextmanager
def towers_in(clip: Any, precision: str) -> Iterator[None]:
    """Run the frozen CLIP in `precision`, and put its exact weights back afterwards.

    One CLIP serves many adapters, so rounding its weights for good would change the others.
    """
    dtype = PRECISIONS[chosen(precision, clip).precision]
    exact = [(t, t.data) for t in (*clip.parameters(), *clip.buffers()) if t.is_floating_point()]
    try:
        for tensor, data in exact:
            # The temperature is a single number that multiplies float32 similarities: nothing to gain by rounding it.
            if data.dim():
                tensor.data = data.to(dtype)
        yield
    finally:
        for tensor, data in exact:
            tensor.data = data


def build_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling, which only fp16's narrow range of exponents needs; disabled otherwise.

    It starts at 2^10 instead of torch's 2^16: a scale that is too high skips steps, and a few-shot run has few.
    """
    return torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=precision == "fp16")

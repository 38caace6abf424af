"""Compute precision: the frozen towers in a narrow type, everything learned in float32.

No autocast: it would cast the frozen weights anew at every call, since it caches only leaves that need gradients.
Here they are cast once; ports cast the learnables on entry, normalisation and logits are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> torch.dtype:
    """The torch type of "fp32", "bf16" or "fp16". Raises: ValueError for another name."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    return PRECISIONS[precision]


@contextmanager
def towers_in(clip: nn.Module, precision: str) -> Iterator[None]:
    """Run the frozen CLIP in `precision`, and put its exact weights back afterwards.

    One CLIP serves many adapters, so rounding its weights for good would change the others.
    """
    dtype = check_precision(precision)
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

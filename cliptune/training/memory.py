"""The most memory that a run held."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Watches this process from now on.

    Where the system cannot forget an earlier peak (anywhere but on Linux), resident memory counts from the start of the
    process.

    Args:
        device: whose memory is watched too if it is a CUDA card.
    """

    def __init__(self, device: torch.device):
        self._card = device if device.type == "cuda" else None
        with suppress(OSError):
            _CLEAR.write_text("5")
        if self._card is not None:
            torch.cuda.reset_peak_memory_stats(self._card)

    def bytes(self) -> dict[str, int]:
        """ "resident", as far as the system tells, and "cuda" (allocated by torch), if there is a card."""
        found = {"resident": resident} if (resident := _peak_resident()) is not None else {}
        return found if self._card is None else {**found, "cuda": int(torch.cuda.max_memory_allocated(self._card))}


def _peak_resident() -> int | None:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

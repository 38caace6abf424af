"""How a calibration is told, by its own command and after a training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from cliptune.cli.shared.inputs import check_device, notes_said_once
from cliptune.cli.shared.output import count, percent, remark, say


def calibrate_and_tell(
    run: str | Path, *, quiet: bool = False, device: str | None = None, **how: Any
) -> dict[str, Any]:
    """Calibrate a finished run, and say what came of it; how: further arguments of `calibrate`.

    Returns: what its result says of it.
    """
    from cliptune.choosing import calibrate
    from cliptune.runs import read_result

    with notes_said_once():
        found = calibrate(run, device=check_device(device), say=remark, **how)
    if not quiet:
        n = len(found.scores)
        say(
            f"Calibrated on {count(n, 'training image')}, each held out once in {found.parts} parts: "
            f"{percent(found.accuracy)} % of them named rightly.",
            f"Temperature {found.temperature:.4g}. Expected calibration error on them: {percent(found.ece_before)} % "
            f"before, {percent(found.ece)} % after.",
            f"Sets of up to {n / (n + 1):.3f} can be asked for:",
            f"  cliptune predict {shlex.quote(str(run))} IMAGE --sets 0.9" if n >= 9 else "  none of 0.9.",
            *(f"  {note}" for note in found.notes),
        )
    numbers: dict[str, Any] = (read_result(run) or {})["calibration"]
    return numbers

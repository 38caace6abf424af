"""A short run in a process of its own: to be killed, or to share its batches with others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from cliptune.training import fit
from tests.conftest import random_clip
from tests.training.support import recipe, squares


def run(out: str, environment: Mapping[str, str], options: Mapping[str, object]) -> None:
    """Train in this process; its error, if any, goes to a file beside `out`."""
    torch.set_num_threads(1)
    os.environ.update(environment)
    chosen = {"method": "coop", "batch_size": 5, **options}
    try:
        fit(recipe(random_clip(), **chosen), squares(), out, select="val", save_every=0, progress="silent")
    except ValueError as error:
        Path(f"{out}.error{environment.get('RANK', '')}").write_text(str(error))
        raise SystemExit(1) from error


def start(out: Path, environment: Mapping[str, str] | None = None, **options: object) -> BaseProcess:
    """Start `run` as a process. They fork from a server that has imported everything, which takes seconds, once.

    With torch 2.6, the oldest allowed, Gloo's process group often does not end in a forked process: there each process
    imports everything itself.
    """
    forked = tuple(int(part) for part in torch.__version__.split(".")[:2]) > (2, 6)
    context = multiprocessing.get_context("forkserver" if forked else "spawn")
    if forked:
        context.set_forkserver_preload([__name__])
    process = context.Process(target=run, args=(str(out), dict(environment or {}), options))
    process.start()
    return process

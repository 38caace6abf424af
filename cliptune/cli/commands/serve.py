"""`cliptune serve`: runs and exports behind HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.cli.shared.inputs import check_device
from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import count, say

if TYPE_CHECKING:
    from cliptune.serving import Served


def serve(
    runs: list[str],
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str | None = None,
    max_mib: float = 16.0,
    max_pixels: int = 50_000_000,
    timeout: float = 30.0,
    batch: int = 32,
    wait_ms: float = 3.0,
    without_token: Flag = False,
) -> None:
    """Answer over HTTP with finished runs or exports: POST /predict, GET and PUT /classes, /health, and a page at /.

    Pictures of requests that come together are computed together. Nothing in a request names a file of this machine.
    If the variable CLIPTUNE_TOKEN is set, requests must bear it: "Authorization: Bearer …". /openapi.json says more.
    Ctrl-C, or SIGTERM, ends it after what was asked is answered.

    Parameters
    ----------
    runs
        Folders of runs, or what `cliptune export` made: PATH, or NAME=PATH; a request says ?model=NAME, the first one
        answers where it does not.
    host
        Address to listen on; others than this machine's own need a token.
    port
        To listen on; 0 takes a free one, which is shown.
    device
        cpu, cuda, cuda:1, mps, of runs; cpu if left out.
    max_mib
        Largest body of a request, in MiB.
    max_pixels
        Largest width × height of a picture.
    timeout
        Seconds until a body has arrived, and again until it is answered.
    batch
        Pictures that are computed together.
    wait_ms
        Milliseconds that a lone picture waits for others.
    without_token
        Let other machines ask without a token.
    """
    token = os.environ.get("CLIPTUNE_TOKEN") or None
    _check_installed()
    from cliptune.serving import Limits
    from cliptune.serving.running import check_open, listening
    from cliptune.serving.running import serve as run

    check_open(host, token, without_token)
    limits = Limits(
        body=int(max_mib * 2**20), pixels=max_pixels, seconds=timeout, batch=batch, wait=max(wait_ms, 1e-3) / 1000
    )
    models = _opened(runs, "cpu" if device is None else str(check_device(device)))
    listener = listening(host, port)
    shown = f"[{host}]" if ":" in host else host
    say(*(f"{name}: {count(len(model.class_names), 'class', 'classes')}" for name, model in models.items()))
    say(f"Serving on http://{shown}:{listener.getsockname()[1]}/ {'with' if token else 'without'} a token.")
    run(models, listener, token, limits)


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Serving needs the packages fastapi, uvicorn and python-multipart: pip install 'cliptune[serve]'."
        ) from error


def _opened(runs: list[str], device: str) -> dict[str, Served]:
    """Name → what is served. Raises: ValueError for two of one name."""
    from cliptune.serving import open_served

    named: dict[str, str] = {}
    for text in runs:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = _name_of(Path(text)), text
        if not name or name in named:
            raise ValueError(f"serve: every model needs a name of its own, and {name!r} is there twice. Say NAME=PATH.")
        named[name] = path
    return {name: open_served(path, device) for name, path in named.items()}


def _name_of(path: Path) -> str:
    path = path.expanduser().resolve()
    return path.parent.name if path.stem == "model" and path.is_file() else path.stem if path.is_file() else path.name

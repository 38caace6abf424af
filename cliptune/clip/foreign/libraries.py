"""The libraries that foreign towers are made of, imported when they are first needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PIP_LINE = "pip install 'cliptune[backbones]'"
_PACKAGES = {"open_clip": "open_clip_torch", "timm": "timm", "transformers": "transformers"}


def library(name: str, what: str) -> Any:
    """A library as a module. Raises: ImportError with a sentence, if it is not installed, for `what` it is needed."""
    try:
        return import_module(name)
    except ImportError as error:
        package = _PACKAGES[name.partition(".")[0]]
        raise ImportError(
            f"{what} needs {package}, which cannot be imported ({error}). Install it: {PIP_LINE}"
        ) from error


def installed(name: str) -> bool:
    """Whether a library is there, without importing it."""
    return find_spec(name) is not None


def package_folder(name: str) -> Path | None:
    """The folder of an installed library, without importing it; None if it is not there."""
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def version(name: str) -> str:
    """Of a library that was imported, such as "timm 1.0.31"."""
    return f"{name} {getattr(import_module(name), '__version__', 'of unknown version')}"


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' bars, reports and remarks: what matters of them is told in a sentence."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

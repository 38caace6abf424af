"""The command `cliptune`: its subcommands, and errors as sentences."""

from __future__ import annotations

import errno
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnusedCliTokensError

from cliptune.cli.commands import (
    backbones,
    bench,
    cache,
    calibrate,
    check,
    convert,
    data,
    demo,
    describe,
    evaluate,
    explain,
    export,
    fit,
    masks,
    methods,
    predict,
    recipes,
    report,
    serve,
    share,
    table,
    train,
)
from cliptune.cli.released.commands import in_our_words
from cliptune.files import explained
from cliptune.variables import FEATURES, OFF
from cliptune.version import __version__

BAD_INPUT, INTERRUPTED = 2, 130
NO_CACHE = "--no-cache"
_RESUMABLE = ("fit", "train", "bench", "demo")

app = App(
    name="cliptune",
    help=(
        "Adapt a frozen CLIP from a few images.\n\n"
        "Every command explains itself with --help. --debug, or CLIPTUNE_DEBUG=1, shows the traceback of an error; "
        "--no-cache goes without the stored embeddings of pictures (cliptune cache list)."
    ),
    version=__version__,
    suppress_keyboard_interrupt=False,  # answered here, with a word on resuming
    help_format="plaintext",  # rendering markup would double the time to the first line
)


def _register() -> None:
    """The subcommands, in the order in which one meets them."""
    commands: dict[str, Callable[..., int | None]] = {
        "demo": demo.demo,
        "fit": fit.fit,
        "predict": predict.predict,
        "calibrate": calibrate.calibrate,
        "train": train.train,
        "eval": evaluate.evaluate,
        "bench": bench.bench,
        "table": table.table,
        "explain": explain.explain,
        "report": report.report,
        "check": check.check,
        "export": export.export,
        "serve": serve.serve,
        "share": share.share,
        "recipes": recipes.recipes,
        "backbones": backbones.backbones,
        "convert": convert.convert,
        "describe": describe.describe,
        "masks": masks.masks,
    }
    of_data: dict[str, Callable[..., int | None]] = {
        "doctor": data.doctor,
        "check": data.check,
        "plan": data.plan,
        "split": data.split,
        "list": data.list_,
    }
    for of_methods in (methods.methods, methods.check, methods.exports):
        of_methods.__doc__ = _unwrapped(of_methods.__doc__ or "")
    of_cache: dict[str, Callable[..., int | None]] = {"list": cache.list_, "clear": cache.clear}
    for home, known in ((app, commands), (data.app, of_data), (cache.app, of_cache)):
        for place, (name, function) in enumerate(known.items()):
            function.__doc__ = _unwrapped(function.__doc__ or "")
            home.command(function, name=name, sort_key=place)
    methods.app.default(methods.methods)
    methods.app.command(methods.check, name="check")
    methods.app.command(methods.exports, name="exports")
    app.command(methods.app)
    app.command(data.app)
    app.command(cache.app)


def _unwrapped(doc: str) -> str:
    """A docstring whose sentences are not broken into lines, for the help to break them to the terminal's width."""
    lines: list[str] = []
    for line in inspect.cleandoc(doc).splitlines():
        before = lines[-1] if lines else ""
        continues = before.strip() and line.strip() and _indent(line) == _indent(before)
        if continues and not line.startswith("---") and not before.startswith("---"):
            lines[-1] = f"{before} {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


_register()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; its exit code: 0, 1 if a part of the work failed, 2 for bad input, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("CLIPTUNE_DEBUG", "") not in ("", "0")
    cached = NO_CACHE not in words or words[0] == "cache"
    words = [word for word in words if word not in ("--debug", NO_CACHE)]
    try:
        with warnings.catch_warnings(), nullcontext() if cached else _without_stored_features():
            warnings.showwarning = _remark  # type: ignore[assignment]  # takes all that the original takes
            code = 0
            for command in in_our_words(words):
                code = app(command, exit_on_error=False, print_error=False, result_action="return_value") or code
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_of_command_line(error, words), debug)
    except KeyboardInterrupt:
        hint = " The same command goes on where it stopped." if words[:1] and words[0] in _RESUMABLE else ""
        return _fail(f"Stopped.{hint}", debug, INTERRUPTED)
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return _fail(_sentence(error), debug)
    except ImportError as error:
        if error.name:  # raised by an import itself; a missing extra is told in a sentence of ours, without a name
            raise
        return _fail(_sentence(error), debug)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return _fail(
            f"The device ran out of memory ({str(error).splitlines()[0]}) "
            "Lower --batch-size, or compute each batch in pieces: --set accumulate=4.",
            debug,
        )
    return code or 0


@contextmanager
def _without_stored_features() -> Iterator[None]:
    """Also in the processes that the command starts."""
    before = os.environ.get(FEATURES)
    os.environ[FEATURES] = OFF
    try:
        yield
    finally:
        del os.environ[FEATURES]
        if before is not None:
            os.environ[FEATURES] = before


def _fail(sentence: str, debug: bool, code: int = BAD_INPUT) -> int:
    if debug:
        traceback.print_exc()
    print(sentence, file=sys.stderr, flush=True)
    return code


def _remark(message: Warning | str, *_: object) -> None:
    """A warning as a line, without the place in the code that it comes from."""
    print(message, file=sys.stderr, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.strerror == os.strerror(errno.ENOSPC):
        return str(explained(error, error.filename or "its output").strerror)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _of_command_line(error: CycloptsError, words: list[str]) -> str:
    command = next((word for word in words if not word.startswith("-")), "")
    known = command if command in app else ""
    said = str(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        many = "is one word" if len(error.unused_tokens) == 1 else f"are {len(error.unused_tokens)} words"
        said = f"{' '.join(error.unused_tokens)} {many} too many. A name or path with spaces needs quotation marks."
    return f"cliptune {known}".rstrip() + f": {said} See `cliptune {known + ' ' if known else ''}--help`."

"""The command as a process of its own, and what must not be imported to answer quickly."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliptune.cli import main as cli_main
from cliptune.version import __version__

SLOW = ("torch", "numpy", "PIL", "yaml", "sklearn", "cliptune.data", "cliptune.methods", "cliptune.training")


def python(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.parametrize(
    "code",
    [
        "import cliptune; dir(cliptune); cliptune.__version__",
        "from cliptune.cli.main import main; main(['--help'])",
        "from cliptune.cli.main import main; main(['fit', '--help'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    found = python("-c", f"import sys; {code}; print([m for m in {SLOW} if m in sys.modules], file=sys.stderr)")
    assert found.returncode == 0, found.stderr
    assert found.stderr.strip() == "[]"


def test_help_and_version_as_a_module():
    shown = python("-m", "cliptune", "--help")
    assert shown.returncode == 0
    order = [
        shown.stdout.index(f"│ {name} ") for name in ("demo", "fit", "predict", "train", "eval", "table", "methods")
    ]
    assert order == sorted(order)
    assert python("-m", "cliptune", "--version").stdout.strip() == __version__


def test_fit_as_a_process(photos, backbone, tmp_path):
    words = ("fit", photos, "--method", "coop", "--epochs", 1, "--shots", 2, "--backbone", backbone)
    done = python("-m", "cliptune", *words, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Test accuracy" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_bad_input_to_a_process_and_its_traceback():
    wrong = python("-m", "cliptune", "table", "nowhere")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Runs folder nowhere: expected")
    assert wrong.stderr.count("\n") == 1
    assert "Traceback" in python("-m", "cliptune", "--methd", CLIPTUNE_DEBUG="1").stderr


def test_every_public_name_can_be_had():
    import cliptune

    assert all(getattr(cliptune, name) is not None for name in cliptune.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cliptune.nothing


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "cliptune could not write out: the disk is full. Free some space."),
            2,
            "cliptune could",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),  # of standard output, on a disk that is full
            2,
            "cliptune could not write its output: the disk is full. Nothing already written was lost",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "Permission denied: out"),
        (ImportError("TensorBoard was asked for but is not installed."), 2, "TensorBoard was"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 2, "The device ran out of memory"),
        (KeyboardInterrupt(), 130, "Stopped. The same command goes on where it stopped."),
    ],
)
def test_errors_are_sentences_with_an_exit_code(cli, photos, monkeypatch, error, code, sentence):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cliptune.cli.commands.fit.resolve", fail)
    answer = cli("fit", photos)
    assert answer.code == code
    assert answer.err.startswith(sentence)
    assert "\n" not in answer.err.strip()


def test_a_defect_of_ours_is_not_hidden(cli, photos, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("cliptune.cli.commands.fit.resolve", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        cli_main.main(["fit", str(photos)])


@pytest.mark.parametrize(("words", "told"), [(["A", "B"], "B is one word"), (["A", "B", "C"], "B C are 2 words")])
def test_words_that_no_command_takes_are_named(cli, words, told):
    answer = cli("table", *words)
    assert answer.code == 2
    assert answer.err.startswith(f"cliptune table: {told} too many. A name or path with spaces needs quotation marks.")


def test_warnings_are_plain_lines(cli, photos, monkeypatch):
    import warnings

    def warn(*_: object, **__: object) -> None:
        warnings.warn("Something is unusual.", stacklevel=1)
        raise ValueError("Then it ended.")

    monkeypatch.setattr("cliptune.cli.commands.fit.resolve", warn)
    assert cli("fit", photos).err == "Something is unusual.\nThen it ended.\n"


def test_every_command_explains_itself(cli):
    for command in ("demo", "fit", "predict", "train", "eval", "bench", "table", "methods", "convert", "data"):
        answer = cli(command, "--help")
        assert answer.code == 0
        assert f"Usage: cliptune {command}" in answer.out
    assert not Path("runs").exists()

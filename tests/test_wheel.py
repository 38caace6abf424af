"""The wheel: everything the package reads, nothing else, and small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cliptune

setuptools = pytest.importorskip("setuptools", "77", reason="builds the wheel as pip does, but without a network")
ROOT = Path(__file__).parents[1]
LARGEST = 6 * 2**20  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves a folder beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "cliptune", source / "cliptune", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", build, out], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = (path for path in (ROOT / "cliptune").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT).as_posix() for path in package}


def test_the_wheel_is_small_and_named_after_the_version(wheel):
    assert wheel.name == f"cliptune-{cliptune.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size <= LARGEST


def test_the_command_runs_from_the_wheel_alone(wheel, tmp_path):
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    program = (
        "import cliptune, pathlib, sys; from cliptune.cli.main import main\n"
        "assert pathlib.Path(cliptune.__file__).is_relative_to(sys.argv[1]), cliptune.__file__\n"
        "assert main(['methods']) == 0\n"
        "assert main(['recipes', 'maple']) == 0\n"
        "assert main(['train', '--method', 'zeroshot', '--data', 'tinyworld/symbols', '--backbone', 'mini']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, installed],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "CLIPTUNE_OFFLINE": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "promptsrc" in done.stdout

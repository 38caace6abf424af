"""Every method to every target, as the table of the documentation says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cliptune.clip import CLIP
from cliptune.exporting import parity
from cliptune.exporting.making import NAMES
from cliptune.registry import add_ons, names
from cliptune.registry.checks import on_a_host
from tests.conftest import TINY, random_clip

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
METHODS = [on_a_host(name) for name in (*names(), *add_ons())]


@pytest.fixture(scope="module")
def clip() -> CLIP:
    """Few layers: tracing takes time for each."""
    return random_clip(replace(TINY, image_layers=2, text_layers=2))


def table() -> dict[str, dict[str, str]]:
    """Method → target → mark and number, of the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| method | onnx"))
    targets = [cell.strip() for cell in lines[start].split("|")[2:-1]]
    rows = (re.findall(r"[^|]+", line) for line in lines[start + 2 :] if line.startswith("|"))
    return {row[0].strip(): dict(zip(targets, (cell.strip() for cell in row[1:]), strict=True)) for row in rows}


def test_the_table_has_every_method_and_target():
    assert list(table()) == METHODS
    assert all(list(row) == list(NAMES) for row in table().values())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_exported_as_the_table_says(method, clip):
    reasons = dict(re.findall(r"^(\d+)\. (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    for verdict in parity(method, clip):
        cell = table()[method][verdict.target]
        assert verdict.mark == cell[0], verdict
        if verdict.holds:
            assert verdict.difference <= 1e-4
        else:
            assert verdict.difference is None
            assert verdict.sentence == reasons[cell.split()[1]]

"""How docstrings become pages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def docstrings():
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docstrings"] = module
    spec.loader.exec_module(module)
    return module


def test_sections_become_fields(docstrings):
    doc = """Prompt of limited rank.

Args:
    shape: (n, d), tokens
        by width.
    down: (r, d). up: (d, r); note: no argument.
Returns: (*lead, n, d), of `P_0`.
Raises: ValueError if the rank
    does not fit.
After it."""
    assert docstrings.to_rst(doc, ["shape", "down", "up"]).split("\n") == [
        "Prompt of limited rank.",
        "",
        "",
        ":Args:",
        "    - **shape**: (n, d), tokens by width.",
        "    - **down**: (r, d).",
        "    - **up**: (d, r); note: no argument.",
        "",
        "",
        ":Returns:",
        "    (\\*lead, n, d), of ``P_0``.",
        "",
        "",
        ":Raises:",
        "    ValueError if the rank does not fit.",
        "",
        "After it.",
    ]


def test_attributes_of_scikit_learn_end_in_an_underscore(docstrings):
    doc = "A classifier.\n\nAttributes:\n    classes_: (C,) labels.\n    (no name) at all\n"
    rst = docstrings.to_rst(doc, [])
    assert "    - **classes\\_**: (C,) labels." in rst
    assert "    - (no name) at all" in rst


def test_a_line_of_arguments_without_a_list_stays_a_sentence(docstrings):
    assert "    similarity (B, V, K), scaled; texts." in docstrings.to_rst("Args: similarity (B, V, K), scaled; texts.")


def test_what_a_single_line_raises_is_a_field(docstrings):
    assert docstrings.to_rst("It is. Raises: ValueError.").split("\n")[:4] == [
        "It is.",
        "",
        ":Raises:",
        "    ValueError.",
    ]


def test_a_list_after_a_sentence_stays_a_list(docstrings):
    assert docstrings.to_rst("Two:\n- a\n- b") == "Two:\n\n- a\n- b"

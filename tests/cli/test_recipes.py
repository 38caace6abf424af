from __future__ import annotations

import json
from pathlib import Path

import pytest

from cliptune.cli.commands.recipes import spelled

DOCS = Path(__file__).parents[2] / "docs/recipes.md"


def test_the_table_of_the_docs_is_the_commands(cli):
    printed = cli("recipes", "--markdown").out.strip()
    assert DOCS.read_text(encoding="utf-8").partition("    cliptune recipes --markdown\n")[2].strip() == printed


def test_the_list_names_method_protocol_shots_data_and_source(cli):
    out = cli("recipes").out
    for word in ("promptkd", "base2new", "1 to 7", "fgvc_aircraft", "with maple", "second-hand", "arXiv:2403.02781"):
        assert word in out


def test_a_method_shows_its_values(cli):
    out = cli("recipes", "coop").out
    assert "few_shot: n_ctx=16  words=''" in out
    assert "few_shot (imagenet): epochs=50" in out
    assert "few_shot (shots: 1): epochs=50" in out
    assert "code: read in the released code" in out


def test_one_case_of_a_stack(cli):
    case = ("recipes", "maple+dpc", "--protocol", "base2new")
    assert json.loads(cli(*case, "--json").out)["batch_size"] == 32
    assert "dpc: arXiv:2503.13443" in cli(*case).out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("mapel",), "Did you mean maple"),
        (("vpt", "--protocol", "cross"), "no published recipe for 'cross' is known (known: base2new)"),
        (("--protocol", "cross"), "name the method"),
        (("coop+dapt",), "cliptune recipes coop+dapt --protocol base2new"),
        (("coop", "--shots", 4), "--shots, --data and --backbone choose within a recipe"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(cli, words, sentence):
    answer = cli("recipes", *words)
    assert answer.code == 2
    assert sentence in answer.err


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (("a", "b"), "a,b"), (2e-3, "0.002"), (3, "3"), ("a photo of a", "a photo of a")],
)
def test_values_are_spelled_as_they_are_read(value, text):
    assert spelled(value) == text

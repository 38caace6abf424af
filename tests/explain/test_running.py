"""Asking runs, and what is written."""

from __future__ import annotations

import json

import pytest

from cliptune.explain import explain, kinds
from cliptune.explain.figures import INK, as_svg, figure, heat, with_own_ids
from cliptune.explain.running import write


def test_answers_are_files_that_say_the_same(opened, tmp_path):
    answers = explain(opened("zeroshot"), ["confusion"])
    written = write(answers, tmp_path / "explain")
    assert [path.name for path in written] == ["confusion.json", "confusion.svg"]
    noted = json.loads(written[0].read_text())
    assert noted["sentence"] == answers["confusion"].found.sentence()
    assert sum(map(sum, noted["found"]["counts"])) == 24
    svg = written[1].read_text()
    assert svg.startswith("<svg")
    assert ">predicted</text>" in svg.replace("\n", "")  # text stays text


def test_equal_figures_give_equal_files(opened):
    run = opened("zeroshot")
    first, second = (as_svg(explain(run, ["confusion"])["confusion"].pictures["matrix"]) for _ in range(2))
    assert first == second


def test_ids_of_two_figures_in_one_page_differ():
    svg = '<svg><defs><path id="a" fill="#d55e00"/></defs><use xlink:href="#a" clip-path="url(#a)"/></svg>'
    assert with_own_ids(svg, "x") == (
        '<svg><defs><path id="x-a" fill="#d55e00"/></defs><use xlink:href="#x-a" clip-path="url(#x-a)"/></svg>'
    )


def test_a_name_that_there_is_not_is_a_sentence(opened):
    with pytest.raises(ValueError, match=r"there is no 'confusoin'; there are .*confusion"):
        explain(opened("zeroshot"), ["confusoin"])


def test_kinds_have_names_titles_and_sources_of_their_own():
    found = kinds()
    assert len({kind.title for kind in found.values()}) == len(found)
    assert all(kind.source and name == name.lower() for name, kind in found.items())


def test_a_cell_without_a_number_is_a_dash_that_is_seen():
    made, (axes,) = figure()
    heat(axes, [[0.5, float("nan")]], rows=["row"], columns=["a", "b"], label="value", vmin=0, vmax=1)
    assert [(text.get_text(), text.get_color()) for text in axes.texts] == [("0.5", "white"), ("–", INK)]
    assert made.axes[0] is axes

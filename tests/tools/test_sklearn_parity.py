"""Every method through `ClipClassifier` equals the adapter from Python, or the page says why not."""

from __future__ import annotations

import pytest

from tools.sklearn_parity import BEGIN, END, PAGE, methods, row, table

LISTED = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def test_the_page_lists_every_method():
    assert table([]) == "".join(LISTED.splitlines(keepends=True)[:2])
    assert [line.split("`")[1] for line in LISTED.splitlines()[2:]] == methods()


@pytest.mark.parametrize("method", methods())
def test_a_line_of_the_page_is_as_it_is_made(method):
    assert row(method).line in LISTED.splitlines()

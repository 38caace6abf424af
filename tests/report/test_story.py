"""A comparison told as a page that needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from PIL import Image

from cliptune.report.story import Line, Shown, write_story

HEADERS = ("suite", "method", "base (%)", "what it is for")


class Read(HTMLParser):
    """Cells of the table row by row, and addresses that the page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.asked: list[str] = []
        self._inside = False

    def handle_starttag(self, tag, attributes):
        self.asked += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag):
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self._inside:
            self.rows[-1][-1] += data


def written(folder, **more) -> str:
    page = write_story(
        folder / "sub" / "page.html",
        title="Fish & <chips>",
        text=("a < b",),
        pictures=[("Base", [Shown(Image.new("RGB", (64, 40), "red"), "cod", (("frozen", "eel"), ("learned", "cod")))])],
        headers=HEADERS,
        lines=[Line(("sea", "coop", "70.00"), "Words & numbers."), Line(("sea", "gda", "–"), "A head.")],
        after=("read it so",),
        **more,
    )
    return page.read_text(encoding="utf-8")


def test_every_number_stands_beside_what_it_is_for(tmp_path):
    read = Read()
    read.feed(written(tmp_path))
    assert read.rows == [
        list(HEADERS),
        ["sea", "coop", "70.00", "Words & numbers."],
        ["sea", "gda", "–", "A head."],
    ]


def test_right_and_wrong_are_told_by_more_than_colour(tmp_path):
    content = written(tmp_path)
    assert re.search(r'frozen: <span class="wrong">eel ✗</span>', content)
    assert re.search(r'learned: <span class="right">cod ✓</span>', content)


def test_the_page_asks_for_nothing_outside_and_escapes_what_it_is_given(tmp_path):
    content = written(tmp_path, links=[("report.html", "more")])
    read = Read()
    read.feed(content)
    assert [asked for asked in read.asked if not asked.startswith("data:")] == ["report.html"]
    assert "<chips>" not in content
    assert "Fish &amp; &lt;chips&gt;" in content
    assert "a &lt; b" in content
    assert "<script" not in content

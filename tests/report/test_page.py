"""The page, read as text and opened in a real browser."""

from __future__ import annotations

import builtins
import re
from html.parser import HTMLParser

import pytest

from cliptune.report import report
from tests.browser import opened_page

SMALLEST_WORD = """
() => Math.min(...[...document.querySelectorAll("figure svg text")].map((text) => {
  const svg = text.ownerSVGElement;
  return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
}))
"""


class Reader(HTMLParser):
    """Every address that a page refers to, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """Two runs side by side."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    return report([runs("coop"), runs("linear_probe")], out, what=["confusion"], images=40)


def test_a_page_needs_nothing_but_itself(page):
    reader = Reader()
    reader.feed(page.read_text())
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    assert "://" not in re.sub(r'xmlns[:a-z]*="[^"]*"', "", page.read_text())
    assert page.stat().st_size < 5e6


def test_numbers_sentences_sources_and_commands_stand_in_it(page, runs):
    reader = Reader()
    reader.feed(page.read_text())
    text = " ".join(" ".join(reader.words).split())
    assert "coop on tinyworld/objects" in text
    assert "linear_probe on tinyworld/objects" in text
    assert "are named rightly" in text
    assert "Source: counts" in text
    assert f"cliptune explain {runs('coop')} confusion" in text


def test_what_a_caption_says_is_not_said_above_it(runs, tmp_path):
    page = report([runs("maple")], tmp_path / "page.html", what=["attention"], images=4).read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == page.count("<figure") == 3
    for caption in captions:
        assert re.search(r"\d", caption)
        assert page.count(f">{caption}<") == 1


def test_equal_runs_give_equal_pages(page, runs, tmp_path):
    again = report([runs("coop"), runs("linear_probe")], tmp_path / "page.html", what=["confusion"], images=40)
    assert again.read_text() == page.read_text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_every_figure_and_sorts(page, tmp_path, width, dark):
    with opened_page(tmp_path, page.as_uri(), width, dark=dark) as seen:
        assert seen.said == []
        assert seen.evaluate("document.documentElement.scrollWidth") <= width
        figures = seen.locator("figure svg, figure img")
        assert figures.count() == 2
        for i in range(figures.count()):
            box = figures.nth(i).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert min(box["width"], box["height"]) > 150
        assert seen.evaluate(SMALLEST_WORD) >= 7  # pixels, as they are shown
        head = seen.locator("table.sortable th button", has_text="accuracy")
        cells = lambda: [float(x) for x in seen.locator("table.sortable tbody tr td:nth-child(3)").all_text_contents()]
        head.click()
        assert cells() == sorted(cells())
        head.click()
        assert cells() == sorted(cells(), reverse=True)
        assert seen.locator("th[aria-sort=descending]").count() == 1


def test_names_are_text_and_nothing_else(runs, tmp_path, monkeypatch):
    from cliptune.report import page as pages

    read = pages.facts
    monkeypatch.setattr(pages, "facts", lambda folder: pages.replace(read(folder), title="<b>x</b>"))
    out = report([runs("coop")], tmp_path / "page.html", what=["confusion"], images=5)
    assert "<b>x</b>" not in out.read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in out.read_text()


def test_a_long_name_does_not_widen_a_phones_page(runs, tmp_path, monkeypatch):
    from cliptune.report import page as pages

    read = pages.facts
    monkeypatch.setattr(pages, "facts", lambda folder: pages.replace(read(folder), title="a" * 80))
    out = report([runs("coop")], tmp_path / "page.html", what=["confusion"], images=5)
    with opened_page(tmp_path, out.as_uri(), 360) as seen:
        assert seen.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_that_is_too_large_loses_its_largest_pictures_and_says_so(runs, tmp_path):
    runs = [runs("coop"), runs("linear_probe")]
    whole = report(runs, tmp_path / "whole.html", what=["confusion"], images=40)
    size = whole.stat().st_size / 1e6 - 0.005
    small = report(runs, tmp_path / "small.html", what=["confusion"], images=40, largest=size)
    assert small.read_text().count("<figure") == whole.read_text().count("<figure") - 1
    assert "Left out for size" in small.read_text()
    with pytest.raises(ValueError, match="without any picture"):
        report(runs, tmp_path / "none.html", what=["confusion"], images=40, largest=0.001)
    assert not (tmp_path / "none.html").exists()


def test_bad_input_is_a_sentence_and_nothing_is_overwritten(runs, tmp_path, monkeypatch):
    there = tmp_path / "page.html"
    there.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists.*--overwrite"):
        report([runs("coop")], there)
    with pytest.raises(ValueError, match="given twice"):
        report([runs("coop"), runs("coop")], tmp_path / "other.html")
    with pytest.raises(ValueError, match="must be an .html file"):
        report([runs("coop")], tmp_path / "page.pdf")
    with pytest.raises(ValueError, match="there is no 'nothing'"):
        report([runs("coop")], tmp_path / "other.html", what=["nothing"])
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        report([tmp_path / "none"], tmp_path / "other.html")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'cliptune\[report\]'"):
        report([runs("coop")], tmp_path / "other.html")
    assert there.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]

"""Every block of code of the README and the site is run; what cannot be says so in its page, and is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

import cliptune.data.tinyworld.suites as suites
from cliptune.protocols import by_spec
from tests.docs.blocks import ROOT, blocks, check, commands

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the scripts of the repository, without weights or a network; Tinyworld in few pictures."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("examples", "benchmarks", "tools", "docs"):
        (here / name).symlink_to(ROOT / name)
    monkeypatch.chdir(here)
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setenv("CLIPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    by_spec._dataset.cache_clear()
    by_spec._target.cache_clear()
    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=16, val=4, test=4))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_works(page):
    names: dict[str, object] = {}
    for block in blocks(page):
        check(block, names)


def test_commands_are_taken_apart_as_a_shell_does():
    text = "cliptune demo   # a remark\nmake a && make b \\\n    c\n"
    assert list(commands(text)) == [["cliptune", "demo"], ["make", "a"], ["make", "b", "c"]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("    cliptune bogus\n", "ends with 2"),
        ("    cliptune methods bogus\n", "ends with 2"),
        ("<!-- parsed only: slow -->\n\n    cliptune train --method bogus --data dtd\n", "bogus"),
        ("<!-- parsed only: slow -->\n\n    cliptune train --method coop --data bogus\n", "no data set bogus"),
        ("<!-- parsed only: slow -->\n\n    cliptune train --method coop --data dtd --bogus 1\n", "bogus"),
        ("<!-- parsed only: slow -->\n\n    cliptune train --method coop --data dtd --set bogus=1\n", "bogus"),
        ("<!-- parsed only: slow -->\n\n    python benchmarks/text_tower.py --bogus\n", "has no --bogus"),
        ("<!-- parsed only: slow -->\n\n```python\ncliptune.data.bogus()\n```\n", "there is no cliptune.data.bogus"),
        ("<!-- parsed only: slow -->\n\n    make bogus\n", "there is no target"),
        ("    make demo\n", "no test starts make"),
        ("<!-- parsed only: slow -->\n\nwords between\n\n    make demo\n", "no test starts make"),
        ("```python\n1 / 0\n```\n", "division by zero"),
        ("```\n1\n```\n", "''"),
        ("```ruby\n1\n```\n", "'ruby'"),
    ],
)
def test_a_block_that_does_not_work_is_found(tmp_path, content, sentence):
    page = tmp_path / "page.md"
    page.write_text(content)
    (block,) = blocks(page)
    with pytest.raises(Exception, match=sentence):
        check(block, {})

"""What the page on migrating says of command lines and trainers is what the program does."""

from __future__ import annotations

import re

from cliptune.cli.released.commands import in_our_words
from cliptune.registry.released_settings import released_trainers
from tests.docs.blocks import ROOT, blocks, commands

PAGE = ROOT / "docs/migrate.md"


def test_each_command_line_means_the_one_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no configuration files here
    lines = [words[1:] for block in blocks(PAGE) for words in commands(block.text) if words[1] == "train"]
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    assert len(pairs) >= 6
    for theirs, ours in pairs:
        assert in_our_words(theirs) == [ours]


def test_the_table_of_trainers_is_whole():
    rows = re.findall(r"^\| `--trainer (\S+)` \| `--method (\S+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == dict(released_trainers())

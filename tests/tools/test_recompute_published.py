"""The list of published numbers that do not add up."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from recompute_published import report  # noqa: E402


def test_the_document_holds_what_the_command_prints():
    assert report() in (ROOT / "docs/published.md").read_text(encoding="utf-8")

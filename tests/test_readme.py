"""The README is kept true: its length and its links (its code: tests/docs); and the table of methods on its page."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from cliptune.registry.listing import MethodListing, list_methods

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def row(method: MethodListing) -> str:
    """The line of the methods table that stands for a method or add-on."""
    if method.learnables is None:
        count = "the host's"
    else:
        parts = [f"{method.learnables:,}"] if method.learnables or not method.per_class else []
        count = " + ".join([*parts, *([f"{method.per_class} per class"] if method.per_class else [])])
    summary = method.summary.split("  (")[0].rstrip(".")
    name = f"`+{method.name}`" if method.learnables is None else f"`{method.name}`"
    return f"| {name} | {summary} | {method.paper or '–'} | {method.enters} | {count} |"


def test_methods_table_lists_every_method():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed = [row(method) for method in list_methods()]
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    section = page.split("## Every method")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == listed, "\n".join(["docs/methods.md should list:", *listed])


def test_readme_is_read_in_a_minute_or_two():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for target in re.findall(r"(?:tests|benchmarks|examples|tools)/\w+\.py", text):
        assert (ROOT / target).exists(), target

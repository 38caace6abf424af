"""The site builds without a network and without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
pytest.importorskip("furo", reason="the extra `docs` is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", out / "doctrees", ROOT / "docs", out / "html"]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # any request fails
    built = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env={**os.environ, **nowhere}, check=False
    )
    assert built.returncode == 0, built.stderr
    return out / "html"


def test_the_reference_shows_arguments_and_sources(site):
    page = (site / "api/params.html").read_text(encoding="utf-8")
    assert "<strong>rank</strong>: r, 1 ≤ r ≤ min(n, d)" in page
    assert 'href="https://arxiv.org/abs/2312.10813"' in page
    page = (site / "api/methods.html").read_text(encoding="utf-8")
    assert "cliptune.methods.maple.Config" in page
    assert "cliptune.wrappers.dpc.Config" in page


def test_the_commands_are_those_of_the_program(site):
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert "Usage: cliptune bench --methods STR --data STR [OPTIONS] PROTOCOL" in page


def test_no_page_asks_for_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for loads in ('src="http', 'src="//', "@import"):
            assert loads not in text, (page, loads)

"""The site builds without a network and without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
pytest.importorskip("furo", reason="the extra `docs` is not installed")
ROOT = Path(__file__).parents[2]


def build(out: Path) -> Path:
    command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", out / "doctrees", ROOT / "docs", out / "html"]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # any request fails
    built = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env={**os.environ, **nowhere}, check=False
    )
    assert built.returncode == 0, built.stderr
    return out / "html"


def test_the_site_is_built_and_whole(tmp_path):
    """One test, since each process that runs a part of it would build the site again."""
    site = build(tmp_path)
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}

    assert "<strong>rank</strong>: r, 1 ≤ r ≤ min(n, d)" in pages["api/params.html"]
    assert 'href="https://arxiv.org/abs/2312.10813"' in pages["api/params.html"]
    assert "cliptune.methods.maple.Config" in pages["api/methods.html"]
    assert "cliptune.wrappers.dpc.Config" in pages["api/methods.html"]
    assert "(*args" not in re.sub("<[^>]+>", "", pages["api/heads.html"])
    assert "&lt;factory&gt;" not in "".join(pages.values())
    assert "Usage: cliptune bench --methods STR --data STR [OPTIONS] PROTOCOL" in pages["commands.html"]
    empty = [name for name, text in pages.items() if name.startswith("api/") and '<dt class="sig' not in text]
    assert not empty, "rooms whose names are not described"
    for name, text in pages.items():
        for loads in ('src="http', 'src="//', "@import"):
            assert loads not in text, f"{name} asks for something from elsewhere"

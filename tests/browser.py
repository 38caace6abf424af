"""A real browser for pages that we write: headless Chromium, with no network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def opened_page(home: Path, address: str, width: int, *, offline: bool = True, dark: bool = False) -> Iterator[Any]:
    """A page in a window of this width, with all that its console said in `page.said`.

    Args:
        home: an empty folder for what the browser keeps.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], env={**os.environ, "HOME": str(home)}
        )
        try:
            context = browser.new_context(
                offline=offline,
                viewport={"width": width, "height": 900},
                color_scheme="dark" if dark else "light",
            )
            page = context.new_page()
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: said.append(f"asked for {request.url}") if _outside(request) else None)
            page.goto(address)
            page.said = said
            yield page
        finally:
            browser.close()


def _outside(request: Any) -> bool:
    return not request.url.startswith(("file:", "data:", "http://127.0.0.1"))

"""The server as a process: asked from outside, by a browser, and ended while it works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import cliptune
from cliptune.data import DataSpec
from cliptune.protocols import run
from cliptune.runs import RunSpec
from tests.browser import opened_page
from tests.cli.conftest import write_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, a run of zeroshot on them, and the run folded."""
    place = tmp_path_factory.mktemp("served")
    run(RunSpec("zeroshot", DataSpec(str(write_photos(place / "photos", per_class=4)))), place / "run")
    cliptune.export(place / "run", place / "folded", to="folded")
    return place


class Server:
    """`cliptune serve` on a free port of this machine."""

    def __init__(self, *words: str, **environment: str) -> None:
        command = [sys.executable, "-m", "cliptune", "serve", *words, "--port", "0"]
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **paths, **environment},
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"Serving on (http://\S+/)", line):
                self.address = found[1]
                break
        else:
            raise AssertionError("".join(self.said))
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(self.address + "health", timeout=30)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


def test_runs_and_exports_answer_under_their_names(place):
    picture = next((place / "photos").rglob("*.png"))
    with Server(str(place / "run"), f"small={place / 'folded'}") as server:
        assert "small: 4 classes\n" in server.said
        assert httpx.get(server.address + "classes").json()["models"] == ["run", "small"]
        with picture.open("rb") as file:
            answer = httpx.post(server.address + "predict?model=small", files={"image": file}).json()
        expected = cliptune.load(place / "run").logits([cliptune.data.read_image(picture, exif=True)]).softmax(-1)
        best = answer["results"][0]["predictions"][0]
        assert best["probability"] == pytest.approx(float(expected.max()), abs=1e-5)
        assert best["class"] == cliptune.load(place / "run").class_names[int(expected.argmax())]


def test_what_was_asked_before_the_end_is_answered(place):
    content = next((place / "photos").rglob("*.png")).read_bytes()
    with Server(str(place / "run")) as server, ThreadPoolExecutor(20) as pool:

        def ask(_: int) -> int:
            try:
                return httpx.post(server.address + "predict", files={"image": content}, timeout=30).status_code
            except (httpx.NetworkError, httpx.RemoteProtocolError):  # it takes no more, or had not begun to read
                return 0

        asked = [pool.submit(ask, i) for i in range(60)]
        asked[5].result()
        server.process.send_signal(signal.SIGTERM)
        codes = [one.result() for one in asked]
        assert set(codes) <= {200, 0}
        assert codes.count(200) >= 6
        server.process.wait(30)


def test_a_token_comes_from_the_environment(place):
    with Server(str(place / "folded"), CLIPTUNE_TOKEN="0123456789abcdef") as server:
        assert "with a token" in server.said[-1]
        assert "0123456789abcdef" not in "".join(server.said)
        assert httpx.get(server.address + "classes").status_code == 401
        given = {"Authorization": "Bearer 0123456789abcdef"}
        assert httpx.get(server.address + "classes", headers=given).status_code == 200


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere",), "expected the folder of a finished run"),
        (("nowhere.onnx",), "There is no ONNX file nowhere.onnx"),
        (("run", "--host", "0.0.0.0"), "no token is set"),
        (("run", "--batch", "0"), "batch must be above 0"),
        (("run", "run"), "'run' is there twice"),
        (("run", "--host", "192.0.2.7", "--without-token"), "cannot be used"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(place, words, sentence, monkeypatch, capsys):
    from cliptune.cli.main import main

    monkeypatch.chdir(place)
    monkeypatch.delenv("CLIPTUNE_TOKEN", raising=False)
    assert main(["serve", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_picture_is_dropped_on_the_page_in_a_browser(place, tmp_path):
    from playwright.sync_api import expect

    picture = next((place / "photos").rglob("*.png"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    token = "0123456789abcdef"
    with (
        Server(str(place / "run"), f"small={place / 'folded'}", CLIPTUNE_TOKEN=token) as server,
        opened_page(tmp_path / "home", server.address, 800, offline=False) as page,
    ):
        expect(page.locator("#error")).to_contain_text("token is needed")
        page.fill("#token", token)
        page.press("#token", "Tab")
        expect(page.locator("#model option")).to_have_count(2)
        assert page.locator("#model option").all_inner_texts() == ["run", "small"]
        page.set_input_files("#file", picture)
        expect(page.locator("#answers tr")).to_have_count(4)
        assert page.locator("#answers td:last-child").first.inner_text().endswith(" %")
        page.wait_for_function("document.getElementById('picture').naturalWidth > 0")
        page.set_input_files("#file", tmp_path / "bad.png")
        expect(page.locator("#error")).to_contain_text("no picture that is read here")
        page.evaluate(
            "const data = new DataTransfer(); data.items.add(new File([new Uint8Array([1])], 'a.png'));"
            "document.getElementById('error').textContent = '';"
            "document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data}));"
        )
        expect(page.locator("#error")).to_contain_text("no picture that is read here")
        assert not [line for line in page.said if "Content Security Policy" in line]


def test_on_a_narrow_page_bars_can_be_seen_and_no_token_is_asked_for_in_vain(place, tmp_path):
    from playwright.sync_api import expect

    with (
        Server(str(place / "folded")) as server,
        opened_page(tmp_path / "home", server.address, 360, offline=False) as page,
    ):
        expect(page.locator("#model option")).to_have_count(1)
        expect(page.locator("#asked")).to_be_hidden()
        page.set_input_files("#file", next((place / "photos").rglob("*.png")))
        expect(page.locator("#answers tr")).to_have_count(4)
        assert page.locator("#answers meter").first.bounding_box()["width"] > 80
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

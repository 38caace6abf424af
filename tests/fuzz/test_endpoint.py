"""What a language model's server may answer: any bytes instead of HTTP, any body, any header."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from cliptune.texts import read_descriptions
from cliptune.texts.describe import Asking, describe_classes
from cliptune.texts.endpoint import Endpoint
from tests.fuzz.campaign import UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, json_cases


class Raw:
    """Sends the same bytes after every request, whatever they are, and closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with contextlib.suppress(OSError), connection:
                    request = b""
                    while not request.endswith(b"}"):
                        request += connection.recv(65536)
                    connection.sendall(self.answer)


@pytest.fixture
def server() -> Iterator[Raw]:
    one = Raw()
    yield one
    one.socket.close()


SENTENCES = "1. A red panda has a ringed tail.\n2. A red panda has a white and red face."
ANSWER = {"choices": [{"message": {"role": "assistant", "content": SENTENCES}}], "usage": {"total_tokens": 31}}


def http(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_answers_of_a_language_model(tmp_path, server):
    whole = json.dumps(ANSWER).encode()
    statuses = st.sampled_from(
        [b"200 OK", b"204 No", b"302 Found", b"400 Bad", b"401 ", b"429 Slow\x1b[31m", b"500 Oh", b"99 x"]
    )
    waits = [
        b"Retry-After: " + value for value in (b"nan", b"inf", b"-1", b"Fri, 99 Foo 99999 99:99:99", b"1e999", b"\xff")
    ]
    headers = st.sampled_from([b"X: y", b"Location: http://127.0.0.1:1/", b"Transfer-Encoding: chunked", *waits])
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole)
    cases = st.one_of(
        json_cases([ANSWER]).map(http),
        st.builds(http, st.sampled_from([whole, b"", b"<html>"]), statuses, headers),
        changed_bytes([http(whole), chunked, http(b"busy", b"503 Busy", b"Retry-After: 2")]),
        st.sampled_from([http(whole), chunked, b"", b"\x15\x03\x01", b"SSH-2.0-x\r\n"]),
    )
    endpoint = Endpoint(server.url, "toy", timeout=5.0, attempts=2, sleep=lambda seconds: _check(seconds))
    out = tmp_path / "out"

    def read(case: bytes) -> Any:
        server.answer = case
        for file in out.glob("*"):
            file.unlink()
        described = describe_classes(endpoint, ["red_panda"], ["des"], out, Asking("animal", wanted=2, rounds=1))
        assert read_descriptions(out) == described
        return described

    def plain(case: bytes) -> Any:
        lines = [line[3:] for line in SENTENCES.splitlines()]
        return {"des": {"red_panda": lines}} if case in (http(whole), chunked) else UNKNOWN

    campaign("answers of a language model", cases, read, tmp_path, plain=plain)


def _check(seconds: float) -> None:
    assert 0 <= seconds <= 120

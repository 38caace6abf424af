"""Asking a language model behind any OpenAI-compatible address, patiently."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cliptune.reading import json_value, shown

URL, MODEL, KEY = "CLIPTUNE_LLM_URL", "CLIPTUNE_LLM_MODEL", "CLIPTUNE_LLM_KEY"
"""Environment variables; the key is read from nowhere else, so that it stands in no command line and no file."""
_LONGEST = 8 * 2**20
_PIECE = 1 << 16
_LONGEST_WAIT = 120.0


class EndpointError(OSError):
    """The endpoint cannot be used, or gave no usable answer in all attempts."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the key to another host."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


@dataclass(frozen=True)
class Endpoint:
    """An address that speaks OpenAI's chat completions.

    Args:
        url: up to and including the version, such as http://localhost:8000/v1.
        model: its name there.
        key: sent as a bearer token; "" for none.
        temperature, max_tokens: of the answers.
        timeout: seconds to wait for an answer.
        attempts: tries of one question. Time-outs, lost connections, busy or failing servers and unreadable answers
            are tried again, after 1, 2, 4 … seconds or what the server asks for, at most 120.
        sleep: waits that many seconds.
    Raises: ValueError for an address that is none.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    temperature: float = 0.99
    max_tokens: int = 1500
    timeout: float = 60.0
    attempts: int = 5
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"Endpoint: the address must start with http:// or https://, got {self.url!r}. "
                f"Give --url, or set {URL}, for example http://localhost:8000/v1."
            )
        if not self.model:
            raise ValueError(f"Endpoint: the name of the model is missing. Give --model, or set {MODEL}.")
        if self.attempts < 1 or not self.timeout > 0:
            raise ValueError(
                f"Endpoint: attempts must be at least 1 and the time-out above 0, "
                f"got {self.attempts} and {self.timeout}."
            )

    @classmethod
    def from_environment(cls, url: str | None = None, model: str | None = None, **more: Any) -> Endpoint:
        """Address and model as given or from CLIPTUNE_LLM_URL and CLIPTUNE_LLM_MODEL; the key from CLIPTUNE_LLM_KEY."""
        return cls(url or os.environ.get(URL, ""), model or os.environ.get(MODEL, ""), os.environ.get(KEY, ""), **more)

    def ask(self, question: str) -> str:
        """The answer's text. Raises: EndpointError with a sentence."""
        reason, wait = "", 0.0
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(wait)
            wait = float(2**attempt)
            try:
                return _text_of(self._post(question))
            except urllib.error.HTTPError as error:
                with error:
                    reason = shown(f"it answered {error.code} {error.reason}: {_beginning(error)}".strip(": "), 400)
                    if error.code not in (408, 409, 425, 429) and error.code < 500:
                        raise EndpointError(f"{self._who()}: {reason}. {_advice(error.code)}") from error
                    wait = max(wait, _asked_wait(error.headers.get("Retry-After")))
            except TimeoutError:
                reason = f"no answer came within {self.timeout:g} seconds"
            except (OSError, ValueError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", None) or error
                late = isinstance(cause, TimeoutError)
                reason = f"no answer came within {self.timeout:g} seconds" if late else shown(str(cause), 400)
        raise EndpointError(
            f"{self._who()}: no usable answer in {self.attempts} attempts; the last time {reason}. What was received "
            "before is kept: give the same command again to go on."
        )

    def _post(self, question: str) -> bytes:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        address = self.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        until = time.monotonic() + self.timeout
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as answer:
            content = bytearray()
            while piece := answer.read1(_PIECE):
                content += piece
                if len(content) > _LONGEST:
                    raise ValueError(f"its answer had more than {_LONGEST >> 20} MiB")
                if time.monotonic() > until:  # a piece now and then would keep the connection's own time-out away
                    raise TimeoutError
            if answer.length:
                raise http.client.IncompleteRead(bytes(content), answer.length)
        return bytes(content)

    def _who(self) -> str:
        return f"The model {self.model!r} at {self.url}"


def _text_of(content: bytes) -> str:
    """Raises: ValueError that says what is wrong with the answer."""
    try:
        answer = json_value(content)
    except ValueError as error:
        beginning = shown(content[:80].decode(errors="replace"))
        raise ValueError(f"its answer was not JSON ({error}; it begins with {beginning!r})") from error
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("its answer held no text at choices[0].message.content")
    return text


def _asked_wait(header: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date; at most 120, 0 if there is none."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError, LookupError):
            return 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT)  # 0 also for "nan", which is not above it


def _beginning(error: urllib.error.HTTPError) -> str:
    """Of the text that comes with an error; "" if it does not arrive."""
    try:
        return error.read(300).decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException):
        return ""


def _advice(code: int) -> str:
    if code in (401, 403):
        return f"Set {KEY} to a key that may use this model."
    if 300 <= code < 400:
        return "It sends to another address, which is not followed because it would get the key. Give that address."
    return f"Check the address ({URL} or --url, ending in /v1) and the model's name."

"""What is refused before anything is read: strangers, bodies that are too large, bodies that do not come."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

Scope = dict[str, Any]

OPEN = ("/", "/health")
"""Paths that need no token."""


class Guard:
    """ASGI middleware.

    Args:
        most: bytes of a body. seconds: until a body has arrived.
        token: that a request must bear; None for none. It is compared in a time that does not tell how much is right.
    """

    def __init__(self, app: Any, most: int, seconds: float, token: bytes | None) -> None:
        self._app, self._most, self._seconds, self._token = app, most, seconds, token

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._token is not None and scope["path"] not in OPEN:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(given.strip(), self._token) or kind.lower() != b"bearer":
                await _refuse(send, 401, "A token is needed: Authorization: Bearer …", (b"www-authenticate", b"Bearer"))
                return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            await _refuse(send, 413, self._too_large)
            return
        body = await self._whole(receive)
        if isinstance(body, str):
            await _refuse(send, 413 if body == self._too_large else 408, body)
        elif body is not None:  # None: the client has gone
            await self._app(scope, _given(body, receive), send)

    @property
    def _too_large(self) -> str:
        return f"The body has more than {self._most:,} bytes. Send fewer or smaller pictures."

    async def _whole(self, receive: Any) -> bytes | str | None:
        """The body; a sentence if it is too large or too slow; None if the client has gone."""
        loop = asyncio.get_running_loop()
        end, parts, size = loop.time() + self._seconds, [], 0
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.001, end - loop.time()))
            except (TimeoutError, asyncio.TimeoutError):
                return f"The body did not arrive within {self._seconds:g} seconds."
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                return self._too_large
            if not message.get("more_body"):
                return b"".join(parts)


def _given(body: bytes, receive: Any) -> Any:
    """`receive` of a body that is here, and of what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Any:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _refuse(send: Any, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    content = json.dumps({"error": sentence}).encode()
    # What was not read would be taken for the next request.
    own = [(b"content-type", b"application/json"), (b"connection", b"close")]
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*own, length, *headers]})
    await send({"type": "http.response.body", "body": content})

"""The server process: a socket, the application, and an end that loses nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

from cliptune.serving.app import Limits, application
from cliptune.serving.served import Served

GRACE = 30
"""Seconds that requests in progress have to end after a signal."""
_SHORTEST_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Is this a name of the machine that no other machine can reach?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_open(host: str, token: str | None, without_token: bool) -> None:
    """Raises: ValueError if others could reach the server without a token, or the token is easily guessed."""
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii()):
        raise ValueError(
            f"serve: a token needs at least {_SHORTEST_TOKEN} ASCII signs, got {len(token)}. For example: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'."
        )
    if token is None and not without_token and not is_loopback(host):
        raise ValueError(
            f"serve: --host {host} can be reached from other machines, and no token is set. Put one into the variable "
            "CLIPTUNE_TOKEN, or say --without-token."
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises: OSError with a sentence."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, f"serve: {host}:{port} cannot be used: {error.strerror or error}.") from error


def serve(models: Mapping[str, Served], listener: socket.socket, token: str | None, limits: Limits) -> None:
    """Answer until a signal to end; what was asked before it is answered first."""
    import uvicorn

    host = listener.getsockname()[0]
    hosts = ("127.0.0.1", "localhost", "[", host) if is_loopback(host) else ("*",)  # "[": of an IPv6 address
    app: Any = application(models, token=token, hosts=hosts, limits=limits)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=64 * 2**10,
    )
    uvicorn.Server(config).run(sockets=[listener])

"""HTTP as an attacker writes it: every byte of the request is ours."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from web.routes import TABLE
from web.routes.route import Route

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        error: str = json.loads(self.body)["error"]["code"]
        return error


def ask(port: int, method: str, target: str, *lines: str, host: str | None = "", body: bytes = b"") -> Answer:
    """One request. `host` "" is the right one, None sends none."""
    head = [f"{method} {target} HTTP/1.1"]
    if host is not None:
        head.append(f"Host: {host or f'127.0.0.1:{port}'}")
    if not any(line.startswith("Connection:") for line in lines):
        head.append("Connection: close")
    if body:
        head.append(f"Content-Length: {len(body)}")
    request = "\r\n".join([*head, *lines, "", ""]).encode("utf-8", "surrogateescape") + body
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _more(connection)
        top, _, rest = answer.partition(b"\r\n\r\n")
        status_line, *fields = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        while len(rest) < int(headers.get("content-length", 0)) and method != "HEAD":
            rest += _more(connection)
    return Answer(int(status_line.split()[1]), headers, rest)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the server hung up")
    return data


def target(route: Route) -> str:
    """An address that reaches the route."""
    address = route.path
    for name in route.paths:
        address = address.replace(f"{{{name}:.+}}", "x").replace(f"{{{name}}}", "input" if name == "folder" else "0")
    return address


def lines_for(route: Route) -> tuple[str, ...]:
    if route.path.endswith("/ws"):
        return UPGRADE
    return ("Content-Type: application/json",) if route.method != "GET" else ()


def body_for(route: Route) -> bytes:
    return b"{}" if route.method in ("POST", "PUT") else b""


EVERY_ROUTE: list[Any] = [*TABLE]

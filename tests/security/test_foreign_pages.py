"""Law P9: a foreign page reaches no route and no socket. Every route of the table, every way in."""

from __future__ import annotations

import socket

import pytest

from tests.protocol.live import LiveServer
from tests.security.conftest import TOKEN
from tests.security.raw import EVERY_ROUTE, UPGRADE, ask, body_for, lines_for, target
from web.auth import Gate, is_loopback
from web.routes.route import Route

pytestmark = pytest.mark.law("P9")
ROUTES = pytest.mark.parametrize("route", EVERY_ROUTE, ids=lambda route: f"{route.method} {route.path}")
CONTENT = "Content-Type: application/json"


@ROUTES
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "file://",
        "http://127.0.0.1:1",
        "http://localhost:{port}.evil.example",
        "http://evil@127.0.0.1:{port}.example",
        "chrome-extension://abc",
        "",
    ],
)
def test_a_foreign_origin_is_refused(live: LiveServer, route: Route, origin: str) -> None:
    lines = (f"Origin: {origin.format(port=live.port)}", *lines_for(route))
    answer = ask(live.port, route.method, target(route), *lines, body=body_for(route))
    assert (answer.status, answer.code) == (403, "foreign_origin")


@ROUTES
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.", "x@127.0.0.1", "127.0.0.1:x", ""],
)
def test_a_foreign_host_is_refused(live: LiveServer, route: Route, host: str) -> None:
    """DNS rebinding: the foreign name leads here, and the browser takes the page for ours: Origin equals Host."""
    name = host.format(port=live.port)
    lines = (f"Host: {name}", f"Origin: http://{name}", *lines_for(route))
    answer = ask(live.port, route.method, target(route), *lines, host=None, body=body_for(route))
    assert (answer.status, answer.code) == (403, "foreign_host")


@ROUTES
def test_no_token_and_a_wrong_token_are_refused(guarded: LiveServer, route: Route) -> None:
    for credentials in ((), ("Authorization: Bearer wrong",), ("Authorization: Basic x",), ("Cookie: anyloom=wrong",)):
        answer = ask(guarded.port, route.method, target(route), *credentials, *lines_for(route), body=body_for(route))
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x"):
        answer = ask(
            guarded.port,
            route.method,
            f"{target(route)}?token={wrong.replace(' ', '%20')}",
            *lines_for(route),
            body=body_for(route),
        )
        assert answer.status == 401


@ROUTES
def test_the_right_token_opens(guarded: LiveServer, route: Route) -> None:
    lines = (f"Authorization: Bearer {TOKEN}", *lines_for(route))
    answer = ask(guarded.port, route.method, target(route), *lines, body=body_for(route))
    assert answer.status not in (401, 403)


def test_no_host_is_refused(live: LiveServer) -> None:
    assert ask(live.port, "GET", "/api/v1/runs", host=None).status == 400
    with socket.create_connection(("127.0.0.1", live.port), timeout=5) as connection:
        connection.sendall(b"GET /api/v1/runs HTTP/1.0\r\n\r\n")
        assert connection.recv(100).partition(b"\r\n")[0].split()[1] in (b"400", b"403")


def test_two_hosts_or_two_origins_are_refused(live: LiveServer) -> None:
    own = f"127.0.0.1:{live.port}"
    assert ask(live.port, "GET", "/api/v1/runs", "Host: evil.example").status in (400, 403)
    answer = ask(live.port, "GET", "/api/v1/runs", f"Origin: http://{own}", "Origin: http://evil.example")
    assert answer.code == "foreign_origin"


def test_own_pages_and_programs_are_welcome(live: LiveServer) -> None:
    for host in (f"127.0.0.1:{live.port}", f"localhost:{live.port}", "LOCALHOST", f"[::1]:{live.port}", "studio.lan"):
        for lines in ((), (f"Origin: http://{host}", "Sec-Fetch-Site: same-origin")):
            assert ask(live.port, "GET", "/api/v1/runs", *lines, host=host).status == 200
            assert ask(live.port, "GET", "/api/v1/ws", *UPGRADE, *lines, host=host).status == 101


def test_a_foreign_page_cannot_embed_what_it_cannot_read(live: LiveServer) -> None:
    """Pictures and scripts are asked for without an Origin; browsers say where they come from all the same."""
    for site in ("cross-site", "same-site"):
        lines = (f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image")
        for path in ("/api/v1/files/output/x.png", "/api/v1/system", "/static/home.js", "/"):
            assert ask(live.port, "GET", path, *lines).code == "foreign_origin"
        link = (f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
        assert ask(live.port, "GET", "/", *link).status == 200
        assert ask(live.port, "GET", "/api/v1/runs", *link).code == "foreign_origin"
        framed = (f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe")
        assert ask(live.port, "GET", "/", *framed).code == "foreign_origin"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "text/json"]
)
def test_what_a_form_can_send_is_not_read(live: LiveServer, kind: str) -> None:
    for method, path in (("POST", "/api/v1/runs"), ("PUT", "/api/v1/documents/x"), ("POST", "/api/v1/runs/x/cancel")):
        answer = ask(live.port, method, path, f"Content-Type: {kind}", body=b'{"document": {}}')
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert (
        ask(live.port, "POST", "/api/v1/runs", "Content-Type: multipart/form-data; boundary=x", body=b"--x--").status
        == 415
    )
    if kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = ask(live.port, "POST", "/api/v1/runs/x/cancel", f"Content-Type: {kind}", "Content-Length: 0")
        assert answer.status == 415


def test_the_address_gives_the_token_only_where_no_header_can_be_set(guarded: LiveServer) -> None:
    token = TOKEN.replace(" ", "%20")
    assert ask(guarded.port, "GET", f"/api/v1/ws?token={token}", *UPGRADE).status == 101
    assert ask(guarded.port, "GET", f"/api/v1/files/input/x.png?token={token}").status == 404
    assert ask(guarded.port, "GET", f"/api/v1/runs?token={token}").status == 401
    assert ask(guarded.port, "POST", f"/api/v1/runs?token={token}", CONTENT, body=b"{}").status == 401
    assert ask(guarded.port, "GET", f"/static/home.css?token={token}").status == 401


def test_the_first_visit_swaps_the_token_for_a_cookie(guarded: LiveServer) -> None:
    answer = ask(guarded.port, "GET", f"/?token={TOKEN.replace(' ', '%20')}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"anyloom_{guarded.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    pair = cookie.partition(";")[0]
    assert ask(guarded.port, "GET", "/", f"Cookie: {pair}").status == 200
    assert ask(guarded.port, "GET", "/api/v1/ws", f"Cookie: {pair}", *UPGRADE).status == 101
    foreign = ask(guarded.port, "GET", "/api/v1/ws", f"Cookie: {pair}", "Origin: http://evil.example", *UPGRADE)
    assert foreign.code == "foreign_origin"
    assert ask(guarded.port, "GET", "/?token=wrong").status == 401


def test_headers_of_every_answer(live: LiveServer) -> None:
    for path, lines in (("/", ()), ("/api/v1/runs", ()), ("/api/v1/nothing", ()), ("/api/v1/runs", ("Origin: null",))):
        headers = ask(live.port, "GET", path, *lines).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert "aiohttp" not in headers["server"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "127.8.8.8", "0.0.0.0", "::", "192.168.1.9", "studio.lan"]
)
def test_any_bind_but_loopback_has_a_token(host: str) -> None:
    loopback = host in ("127.0.0.1", "localhost", "::1", "127.8.8.8")
    assert is_loopback(host) is loopback
    gate, other = Gate(host), Gate(host)
    assert bool(gate.token) is not loopback
    if not loopback:
        assert len(gate.token) >= 32
        assert gate.token != other.token
    assert Gate(host, "mine").token == "mine"


def test_a_server_for_all_addresses_knows_the_one_that_was_called(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LiveServer(tmp_path_factory.mktemp("wide"), host="0.0.0.0") as wide:
        assert wide.server.gate.token
        bearer = f"Authorization: Bearer {wide.server.gate.token}"
        assert ask(wide.port, "GET", "/api/v1/runs", bearer, host=f"127.0.0.1:{wide.port}").status == 200
        assert ask(wide.port, "GET", "/api/v1/runs", host=f"127.0.0.1:{wide.port}").code == "unauthorized"
        assert ask(wide.port, "GET", "/api/v1/runs", bearer, host="evil.example").code == "foreign_host"
        assert ask(wide.port, "GET", "/api/v1/runs", bearer, host="10.9.8.7").code == "foreign_host"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing; tells which address this machine would use
                own = probe.getsockname()[0]
            except OSError:
                return
        with socket.create_connection((own, wide.port), timeout=5) as connection:
            connection.sendall(
                f"GET /api/v1/runs HTTP/1.1\r\nHost: {own}\r\n{bearer}\r\nConnection: close\r\n\r\n".encode()
            )
            assert b" 200 " in connection.recv(100)


def test_a_gate_compares_tokens_whatever_they_are_made_of() -> None:
    gate = Gate("0.0.0.0", "ключ")
    assert gate.knows("ключ")
    assert not gate.knows("kлюч")
    assert not gate.knows("\udc80")

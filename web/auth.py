"""Who may talk to the server. Every request passes here, the websocket upgrade and static files included (law P9).

1. Host must be a name of this server, so that a foreign name that was made to point here (DNS rebinding) is nobody.
2. Origin, where a browser sends one, must be this very server; `null` (sandboxed frames, local files) is nobody.
   A browser that says "cross-site" without an Origin (pictures, scripts, links) is refused as well.
3. A token, unless the server is bound to loopback and none was asked for.
4. A body must be JSON, or multipart where files are taken: nothing else is read.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from graph_engine.errors import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
READ_TYPES = frozenset({"application/json", "multipart/form-data", "application/zip"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "text/plain"})
"""What any page can make a browser send; not even without a body."""
FILE_PATHS = ("/api/v1/files/", "/api/v1/artifacts/", "/api/v1/thumbnails/", "/api/v1/playable/")
SOCKET_PATH = "/api/v1/ws"


def is_loopback(host: str) -> bool:
    """Can only this machine reach a server that is bound to `host`?"""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """Host, Origin, token and content type of one server. `token` is empty when none is needed."""

    def __init__(self, host: str = "127.0.0.1", token: str = "", allow_hosts: Iterable[str] = ()) -> None:
        self.token = token or ("" if is_loopback(host) else secrets.token_urlsafe(24))
        self.names = LOOPBACK_NAMES | {host.lower().strip("[]"), *(name.lower().strip("[]") for name in allow_hosts)}

    def check(self, request: web.Request) -> None:
        """Raise RequestError for a request that may not pass."""
        self._check_host(request)
        self._check_origin(request)
        self._check_token(request)
        self._check_content(request)

    def _check_host(self, request: web.Request) -> None:
        hosts = request.headers.getall(hdrs.HOST, [])
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self.names or name == _own_address(request)):
            shown = ", ".join(hosts)[:80] or "nothing"
            raise RequestError(
                f"this server is not known as {shown!r}.",
                remedy="Start it with --allow-host NAME if that name is right.",
                code="foreign_host",
            )

    def _check_origin(self, request: web.Request) -> None:
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if origins:
            parts = urlsplit(origins[0]) if len(origins) == 1 else None
            own = request.headers[hdrs.HOST].lower()
            if parts is None or parts.scheme not in ("http", "https") or parts.netloc.lower() != own:
                raise self._foreign(f"a page of {', '.join(origins)[:80]!r}")
        elif request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _opens_page(request):
            raise self._foreign("a page of another site")

    @staticmethod
    def _foreign(who: str) -> RequestError:
        return RequestError(
            f"{who} may not use this server.",
            remedy="Open the server's own address, or call it from a program that sends no Origin.",
            code="foreign_origin",
        )

    def _check_token(self, request: web.Request) -> None:
        if self.token and not any(map(self.knows, self._tokens(request))):
            raise RequestError(
                "this server wants a token.",
                remedy="Open the address that `anyloom serve` printed, or send `Authorization: Bearer TOKEN`.",
                code="unauthorized",
            )

    def knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode("utf-8", "replace"))

    def _tokens(self, request: web.Request) -> Iterable[str]:
        scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            yield bearer.strip()
        yield request.cookies.get(cookie_name(request), "")
        # In an address a token ends up in histories and logs, so only where no header can be set: the upgrade of a
        # websocket, files in <img> and <video>, and the first visit, which swaps it for a cookie at once.
        if request.method in ("GET", "HEAD") and (
            request.path in ("/", SOCKET_PATH) or request.path.startswith(FILE_PATHS)
        ):
            yield request.query.get("token", "")

    @staticmethod
    def _check_content(request: web.Request) -> None:
        if request.method in SAFE_METHODS:
            return
        kind = request.content_type if hdrs.CONTENT_TYPE in request.headers else ""
        if kind in READ_TYPES or (not request.body_exists and kind not in FORM_TYPES):
            return
        raise RequestError(
            f"a body of type {kind or 'nothing'} is not read here.",
            remedy="Send application/json (files: multipart/form-data).",
            code="unsupported_media_type",
        )

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.check(request)
        if self.token and request.path == "/" and request.method == "GET" and "token" in request.query:
            return self._welcome(request)
        return await handler(request)

    def _welcome(self, request: web.Request) -> web.Response:
        """The first visit: keep the token in a cookie and take it out of the address."""
        answer = web.Response(status=303, headers={hdrs.LOCATION: "/", hdrs.CACHE_CONTROL: "no-store"})
        if self.knows(request.query["token"]):
            answer.set_cookie(
                cookie_name(request), self.token, httponly=True, samesite="Strict", secure=request.secure, path="/"
            )
        return answer


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: on every answer, errors and upgrades included."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "Anyloom"  # which versions of what it is made of is nobody's business
    if request.path.startswith("/api/"):
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def cookie_name(request: web.Request) -> str:
    """One per port: cookies do not know ports, and two servers may run on one machine."""
    sockname = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return f"anyloom_{sockname[1]}" if isinstance(sockname, tuple) else "anyloom"


def _host_name(host: str) -> str | None:
    """The name in a Host header without its port; None for what is no host."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  (raises ValueError for what is no port)
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return None
    return parts.hostname


def _own_address(request: web.Request) -> str | None:
    """The address that the connection came in on: a page can only have it as its host if it was served by us."""
    sockname = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return str(sockname[0]).removeprefix("::ffff:") if isinstance(sockname, tuple) else None


def _opens_page(request: web.Request) -> bool:
    """A person follows a link to the front page: shown in its own tab, it tells the other site nothing."""
    return (
        request.path == "/"
        and request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )

"""The server: routes, rights and headers over waitress, with bounds on connections, time and size.

Waitress, because it is pure Python without dependencies, made for being reached by anybody, and has the bounds that the
server of the standard library lacks.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Callable, Optional
from urllib.parse import parse_qs

from percore.errors import PercoreError
from percore.supervisor.base.logger import log
from percore.web import login
from percore.web.auth import Access
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right, find_route, text
from percore.web.peer import uid_of_client

DEFAULT_PORT = 9615
_MOST_CONNECTIONS = 100
_MOST_THREADS = 6
_LONGEST_HEAD = 32 * 1024
_LONGEST_BODY = 64 * 1024
_IDLE_SECONDS = 30
_REQUEST_SECONDS = 15  # from its first byte to its last
_MOST_FIELDS = 64

Start = Callable[[str, list[tuple[str, str]]], object]

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")


class WebSite:
    """The routes as a WSGI application; the first one that fits answers."""

    def __init__(self, routes: Sequence[HttpRoute], access: Access) -> None:
        self._access = access
        self._routes = (*login.routes(access), *routes)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        try:
            response = self._answer(_request(environ, self._access))
        except PercoreError as error:
            response = text(str(error), 502)
        except Exception as error:
            log(f"percore web: {environ.get('PATH_INFO', '')[:80]!r} failed: {type(error).__name__}: {error}"[:400])
            response = text("this failed; the reason is in the log of percore web", 500)
        return _send(response, start, environ["REQUEST_METHOD"])

    def _answer(self, request: HttpRequest) -> HttpResponse:
        route, rest, is_known = find_route(self._routes, request)
        if route is None:
            return text("method not allowed", 405) if is_known else text("there is no such page", 404)
        if request.right < route.needs:
            return self._refuse(request)
        if route.method == "POST" and route.needs > Right.NOTHING and not self._access.may_change(request.headers):
            return text("this needs the header X-Percore-Token, or Authorization: Bearer TOKEN", 403)
        return route.answer(request._replace(rest=rest))

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        if self._access.is_refused_by_name(request.headers):
            return text("this name is not known here -> percore web --allow-host NAME, or an address", 421)
        if not self._access.has_tokens:
            return text("this is for the user of the supervisor -> percore web --token-file FILE", 403)
        if request.right > Right.NOTHING:
            return text("this token may not do that", 403)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return login.page(401)
        challenge = (("WWW-Authenticate", "Bearer"),)
        return text("a token is needed: Authorization: Bearer TOKEN", 401)._replace(headers=challenge)


def _request(environ: dict[str, Any], access: Access) -> HttpRequest:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    peer = uid_of_client(environ) if not access.has_tokens else None
    return HttpRequest(
        environ["REQUEST_METHOD"], environ.get("PATH_INFO", "") or "/", _query(environ.get("QUERY_STRING", "")),
        headers, environ["wsgi.input"].read(_LONGEST_BODY), access.right_of(headers, peer),
    )  # fmt: skip


def _query(written: str) -> dict[str, list[str]]:
    try:
        return parse_qs(written, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}


def _send(response: HttpResponse, start: Start, method: str) -> Iterable[bytes]:
    given = {name.lower() for name, _ in response.headers}
    usual = [pair for pair in (*_HEADERS, _POLICY) if pair[0].lower() not in given]
    headers = [("Content-Type", response.content_type), ("Content-Length", str(len(response.body)))]
    start(f"{response.status} {HTTPStatus(response.status).phrase}", [*headers, *response.headers, *usual])
    return [b"" if method == "HEAD" else response.body]


# -- the process -----------------------------------------------------------------------------------------------------


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def make_server(site: WebSite, host: str, port: int) -> Any:
    """Listens already; `run()` serves. Raises PercoreError."""
    try:
        from waitress.channel import HTTPChannel
        from waitress.server import create_server
    except ImportError:
        raise missing_library("waitress") from None
    logging.getLogger("waitress").setLevel(logging.ERROR)

    class BoundedChannel(HTTPChannel):  # type: ignore[misc]
        """A request that comes drop by drop is given up."""

        began_at: Optional[float] = None

        def received(self, data: bytes) -> bool:
            now = time.monotonic()
            self.began_at = self.began_at or now
            if now - self.began_at > _REQUEST_SECONDS:
                self.will_close = True
                return False
            is_taken = bool(super().received(data))
            if self.request is None:
                self.began_at = None
            return is_taken

    try:
        server = create_server(
            site, host=host, port=port, threads=_MOST_THREADS, connection_limit=_MOST_CONNECTIONS,
            max_request_header_size=_LONGEST_HEAD, max_request_body_size=_LONGEST_BODY, channel_timeout=_IDLE_SECONDS,
            cleanup_interval=5, ident="percore", server_name=host, expose_tracebacks=False, clear_untrusted_proxy_headers=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or error
        raise PercoreError(
            f"port {port} of {host} cannot be opened: {reason}", next="percore web --port PORT"
        ) from None
    server.channel_class = BoundedChannel
    return server


def missing_library(name: str) -> PercoreError:
    return PercoreError(f"the Python package '{name}' is missing", next="pip install 'percore[web]'")

"""A request and an answer, and the table that a path is looked up in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Callable, NamedTuple, Optional


class Right(IntEnum):
    """What a client may do; each right includes those before it."""

    NOTHING = 0
    FIGURES = 1  # numbers and names of apps
    READING = 2  # everything that is shown, such as logs
    ACTIONS = 3  # restart, reload, scale


class HttpRequest(NamedTuple):
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]  # by their names in lower case
    body: bytes
    right: Right  # of the client
    rest: str = ""  # of the path, where the route ends with *

    def one(self, name: str, default: str = "") -> str:
        """The last value of this name in the query."""
        return (self.query.get(name) or (default,))[-1]

    def json(self) -> dict[str, Any]:
        """Raises ValueError where the body is no JSON object."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        return found


class HttpResponse(NamedTuple):
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


class HttpRoute(NamedTuple):
    """`path` may end with `/*`: the rest is `request.rest`. `needs`: who has less is refused before `answer` is called.

    `accepts`: only for clients that accept this kind of content, as browsers do text/html.
    """

    path: str
    answer: Callable[[HttpRequest], HttpResponse]
    needs: Right = Right.READING
    method: str = "GET"
    accepts: str = ""


def text(content: str, status: int = 200) -> HttpResponse:
    return HttpResponse(f"{content}\n".encode(), status=status)


def as_json(content: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(content).encode(), "application/json", status)


def find_route(routes: Sequence[HttpRoute], request: HttpRequest) -> tuple[Optional[HttpRoute], str, bool]:
    """The first route that fits, the rest of the path, and whether the path is known with another method."""
    is_known = False
    for route in routes:
        rest = _rest_of(request.path, route.path)
        if rest is None or route.accepts not in request.headers.get("accept", ""):
            continue
        if request.method in (route.method, "HEAD" if route.method == "GET" else route.method):
            return route, rest, True
        is_known = True
    return None, "", is_known


def _rest_of(path: str, wanted: str) -> Optional[str]:
    if not wanted.endswith("/*"):
        return "" if path == wanted else None
    start = wanted[:-1]
    return path[len(start) :] if path.startswith(start) and len(path) > len(start) else None

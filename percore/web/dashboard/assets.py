"""The files of the page, read once: nothing is fetched from anywhere else, and no script stands in the page itself."""

from __future__ import annotations

import functools
import os

from percore.common.typing import Optional
from percore.web.http import HttpResponse, text

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")
PAGE = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
STYLES = ("uPlot.min.css", "dashboard.css")
SCRIPTS = ("uPlot.iife.min.js", "format.js", "charts.js", "views.js", "dashboard.js")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def page_response() -> HttpResponse:
    content = read_asset(PAGE)
    return HttpResponse(content or b"", TYPES[".html"], headers=(("Content-Security-Policy", POLICY),))


def asset_response(name: str) -> HttpResponse:
    """Only what the page names."""
    content = read_asset(name) if name in (*STYLES, *SCRIPTS, "icon.svg") else None
    if content is None:
        return text("there is no such file", 404)
    kept = (("Cache-Control", "no-cache"),)
    return HttpResponse(content, TYPES[os.path.splitext(name)[1]], headers=kept)


@functools.cache
def read_asset(name: str) -> Optional[bytes]:
    """None where it is missing: the library of the charts, in a checkout that was never built."""
    try:
        with open(os.path.join(DIRECTORY, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None

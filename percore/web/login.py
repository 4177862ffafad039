"""The login form of browsers, and the way out again."""

from __future__ import annotations

from typing import Optional
from urllib.parse import parse_qs

from percore.web.auth import Access
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right, as_json

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>percore: log in</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ display: grid; place-items: center; min-height: 90vh; margin: 1rem }}
form {{ display: grid; gap: .75rem; width: min(22rem, 100%) }}
h1 {{ font-size: 1.25rem; margin: 0 }}
input, button {{ font: inherit; padding: .5rem .75rem }}
p {{ margin: 0 }}
</style></head><body><main><form method="post" action="/login">
<h1>percore</h1>{message}
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button></form></main></body></html>
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def page(status: int = 200, message: str = "") -> HttpResponse:
    shown = f'<p role="alert">{message}</p>' if message else ""
    headers = (("Content-Security-Policy", _POLICY),)
    return HttpResponse(_PAGE.format(message=shown).encode(), "text/html; charset=utf-8", status, headers)


def routes(access: Access) -> tuple[HttpRoute, ...]:
    return (
        HttpRoute("/login", lambda _: page(), Right.NOTHING),
        HttpRoute("/login", lambda request: _log_in(access, request), Right.NOTHING, "POST"),
        HttpRoute("/logout", lambda _: _log_out(access), Right.NOTHING, "POST"),
        HttpRoute("/session", lambda request: _session(access, request)),
    )


def _log_in(access: Access, request: HttpRequest) -> HttpResponse:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return page(403, "Log in from this page.")
    cookie = access.log_in(_given(request) or "")
    if cookie is None:
        return page(401, "This token is not known.")
    return HttpResponse(b"", status=303, headers=(("Location", "/"), ("Set-Cookie", cookie)))


def _given(request: HttpRequest) -> Optional[str]:
    try:
        return parse_qs(request.body.decode("ascii"), max_num_fields=4).get("token", [""])[0].strip()
    except ValueError:
        return None


def _log_out(access: Access) -> HttpResponse:
    gone = f"{access.cookie}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
    return HttpResponse(b"", status=303, headers=(("Location", "/login"), ("Set-Cookie", gone)))


def _session(access: Access, request: HttpRequest) -> HttpResponse:
    """What a page of ours needs: it sends `token` as X-Percore-Token with every POST."""
    may_act = request.right >= Right.ACTIONS
    return as_json({"token": access.page_token, "actions": may_act, "logs_out": access.has_tokens})

"""The page with its styles, scripts and data in one file, which opens anywhere and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from percore.common.typing import Any
from percore.web.dashboard.assets import PAGE, SCRIPTS, STYLES, read_asset
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.history import SPANS

_SPAN = SPANS[0].seconds


def render_report(board: PageBoard) -> bytes:
    data = json.dumps(collect(board), separators=(",", ":")).replace("<", "\\u003c")
    styles = [_text(name) for name in STYLES]
    scripts = [_text(name) for name in SCRIPTS]
    page = re.sub(r"<(link|script)\b[^>]*assets/[^>]*>(</script>)?\n", "", _text(PAGE))
    head = [f'<meta http-equiv="Content-Security-Policy" content="{_policy(styles, scripts)}">']
    head += [f'<link rel="icon" href="{_icon()}">', *(f"<style>{style}</style>" for style in styles)]
    end = [f'<script type="application/json" id="report">{data}</script>']
    end += [f"<script>{script}</script>" for script in scripts]
    page = page.replace("</head>", "\n".join([*head, "</head>"])).replace("assets/icon.svg", _icon())
    return page.replace("</body>", "\n".join([*end, "</body>"])).encode()


def collect(board: PageBoard) -> dict[str, Any]:
    """The answers to all that the page asks, by what it asks: path, host, app."""
    snapshot = {**board.snapshot(), "may_act": False}
    found: dict[str, Any] = {_key("api/snapshot"): snapshot, _key("api/history"): _history(board)}
    for host in snapshot["hosts"]:
        found[_key("api/history", host["name"])] = _history(board, host["name"])
        for app in host["apps"]:
            names = (host["name"], app["name"])
            found[_key("api/app", *names)] = board.app(*names)
            found[_key("api/history", *names)] = _history(board, *names)
    return found


def _history(board: PageBoard, *subject: str) -> dict[str, Any]:
    return board.history(subject, seconds=_SPAN, since=board.began_at - SPANS[0].step, with_parts=False)


def _key(path: str, host: str = "", app: str = "") -> str:
    return f"{path}\n{host}\n{app}"


def _text(name: str) -> str:
    return (read_asset(name) or b"").decode()


def _icon() -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(read_asset("icon.svg") or b"").decode()


def _policy(styles: list[str], scripts: list[str]) -> str:
    """Only what is in the file runs, and nothing is asked of anybody."""
    allowed = {"style-src": styles, "script-src": scripts}
    sources = "; ".join(f"{kind} {' '.join(map(_hash, texts))}" for kind, texts in allowed.items())
    return f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; {sources}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

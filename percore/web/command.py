"""`percore web`: its options, and the process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

from percore.errors import UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.commands.arguments import make_parser
from percore.web.auth import Access, read_tokens
from percore.web.dashboard.host_source import start_board
from percore.web.health import answer_health
from percore.web.http import HttpRoute, Right
from percore.web.server import DEFAULT_PORT, WebSite, is_loopback, make_server
from percore.web.snapshot import Snapshots, ask_supervisor
from percore.web.status import answer_status


def serve_web(arguments: list[str]) -> int:
    options = _read_options(arguments)
    tokens = read_tokens(options.token_file) if options.token_file else []
    access = Access(tokens, port=options.port, names=options.allow_host, allows_actions=options.allow_actions)
    home = Home.of_user()
    server = make_server(WebSite(make_routes(home), access), options.host, options.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    log(f"percore web: http://{options.host}:{server.effective_port}/ shows {home.path}")
    server.run()
    return 0


def make_routes(home: Home) -> Sequence[HttpRoute]:
    snapshots = Snapshots(home, ask_supervisor)
    return (
        HttpRoute("/health", lambda request: answer_health(snapshots, request), Right.NOTHING),
        HttpRoute("/status", lambda request: answer_status(snapshots, request)),
        *start_board(home, snapshots, lambda request: answer_status(snapshots, request)).routes(),
    )


def _read_options(arguments: list[str]) -> Any:
    parser = make_parser("web")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"the port ({DEFAULT_PORT})")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file with the tokens, of mode 0600; needed beyond loopback"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name by which browsers ask for this host"
    )
    parser.add_argument(
        "--allow-actions", action="store_true", help="let the dashboard reload, restart and scale without a token"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        raise UsageError(f"the port must be between 1 and 65535, not '{options.port}'")
    if not is_loopback(options.host) and not options.token_file:
        raise UsageError(
            f"{options.host} can be reached by others, so a token is needed",
            next="(umask 077; openssl rand -hex 24 > FILE); percore web --token-file FILE",
        )
    return options

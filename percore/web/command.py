"""`percore web`: its options, and the process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

from percore.errors import PercoreError, UsageError
from percore.supervisor.base import systemd
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.commands.arguments import make_parser
from percore.web.app_metrics import farewell
from percore.web.app_metrics.collect import AppMetrics
from percore.web.auth import Access, read_tokens
from percore.web.dashboard.host_source import start_board
from percore.web.health import answer_health
from percore.web.http import HttpRoute, Right
from percore.web.own_metrics import table
from percore.web.pages import MetricsPages, encoded
from percore.web.server import DEFAULT_PORT, WebSite, is_address, is_loopback, make_server
from percore.web.snapshot import Snapshots, ask_supervisor
from percore.web.status import answer_status

_LOOPBACK = "127.0.0.1"
_OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def serve_web(arguments: list[str]) -> int:
    options = _read_options(arguments)
    tokens = read_tokens(options.token_file) if options.token_file else []
    access = Access(tokens, port=options.port, names=options.allow_host, allows_actions=options.allow_actions)
    home = Home.of_user()
    snapshots = Snapshots(home, ask_supervisor)
    app_metrics = AppMetrics(home, snapshots)
    pages = MetricsPages(snapshots, app_metrics, with_apps=options.with_apps)
    server = make_server(WebSite(make_routes(home, snapshots, pages), access), options.host, options.port)
    farewell.start(home, app_metrics, options.scrape_interval)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    systemd.notify("READY=1")
    log(f"percore web: http://{options.host}:{server.effective_port}/ shows {home.path}")
    server.run()
    app_metrics.ledgers.save()
    return 0


def print_metrics(arguments: list[str]) -> int:
    """Once, from the supervisor; needs no running `percore web`, and takes nothing from one."""
    parser = make_parser("metrics")
    parser.add_argument(
        "app", metavar="APP", nargs="?", help="the own metrics of this app instead, of all its workers together"
    )
    parser.add_argument("--by-worker", action="store_true", help="each worker by a label")
    parser.add_argument("--openmetrics", action="store_true", help="in that format instead of Prometheus' own")
    parser.add_argument("--list", action="store_true", help="what there is of percore's own, as a table in Markdown")
    options = parser.parse_args(arguments)
    if options.list:
        sys.stdout.write("".join(f"{line}\n" for line in table()))
        return 0
    home = Home.of_user()
    snapshots = Snapshots(home, ask_supervisor)
    if error := snapshots.get().error:
        raise PercoreError(error, next="see 'percore list'")
    pages = MetricsPages(snapshots, AppMetrics(home, snapshots, saves=False))
    per_worker = options.by_worker or None
    found = pages.app_families(options.app, per_worker=per_worker) if options.app else pages.families(with_apps=False)
    if found is None:
        raise UsageError(f"'{options.app}' has no metrics of its own", next="app_metrics: /metrics in its process file")
    sys.stdout.write(encoded(found, _OPENMETRICS if options.openmetrics else "").body.decode())
    return 0


def make_routes(home: Home, snapshots: Snapshots, pages: MetricsPages) -> Sequence[HttpRoute]:
    return (
        *pages.routes(),
        HttpRoute("/health", lambda request: answer_health(snapshots, request), Right.NOTHING),
        HttpRoute("/status", lambda request: answer_status(snapshots, request)),
        *start_board(home, snapshots).routes(),
        HttpRoute("/", lambda request: answer_status(snapshots, request)),  # where PM2 has it
    )


def _read_options(arguments: list[str]) -> Any:
    parser = make_parser("web")
    parser.add_argument("--host", default=_LOOPBACK, help=f"the address to listen on ({_LOOPBACK})")
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
    parser.add_argument("--with-apps", action="store_true", help="put the apps' own metrics on /metrics as well")
    parser.add_argument(
        "--scrape-interval", type=float, default=5.0, metavar="SECONDS",
        help="how often workers are asked for their own metrics where nobody reads; 0: never (5)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.host == "localhost":
        options.host = _LOOPBACK  # one address, not those of both protocols
    if not (options.scrape_interval == 0 or 1 <= options.scrape_interval <= 3600):
        raise UsageError("--scrape-interval must be between 1 and 3600 seconds, or 0")
    if not 0 <= options.port < 65536:
        raise UsageError(f"the port must be between 1 and 65535, not '{options.port}'")
    if not is_loopback(options.host) and not options.token_file:
        raise UsageError(
            f"{options.host} can be reached by others, so a token is needed",
            next="(umask 077; openssl rand -hex 24 > FILE); percore web --token-file FILE",
        )
    if not is_address(options.host):
        raise UsageError(f"--host must be an address of this host, not '{options.host}'", next="--host 0.0.0.0, or ::")
    return options

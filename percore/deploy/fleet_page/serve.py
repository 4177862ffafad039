"""`invoke web`: the page of all hosts on this machine's loopback, or in one file that needs no server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from percore.deploy.command_line import relative
from percore.deploy.fleet_page.watch import FleetWatch
from percore.deploy.hand_off.write import replace_file
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.parallel import count_hosts, on_all
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError, UsageError
from percore.web.auth import Access, Token
from percore.web.dashboard.board import Board
from percore.web.dashboard.one_file import render_report
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right
from percore.web.server import WebSite, make_server

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 9616
MOST_RECORDED_SECONDS = 300


def serve(scope: Scope, report: Report, *, port: int, allow_actions: bool) -> None:
    """Until Ctrl-C. Each start has an address of its own, with a key in it, so no other user of this machine gets in."""
    hosts = load_hosts(scope)
    right = Right.ACTIONS if allow_actions else Right.READING
    token = Token(secrets.token_urlsafe(24), right)
    access = Access([token], port=port)
    board, watch = make_board(scope, hosts)
    with closing_hosts(hosts):
        server = make_server(WebSite([_enter(access, token), *board.routes()], access), LOOPBACK, port)
        watch.start()
        said = "with actions" if allow_actions else "to look at; --allow-actions lets it reload, restart and scale"
        report.line(f"{count_hosts(hosts)} of {scope.env}, {said}; Ctrl-C ends it")
        report.line(f"http://{LOOPBACK}:{server.effective_port}/enter/{token.secret}")
        server.run()


def _enter(access: Access, token: Token) -> HttpRoute:
    """The printed address: the browser gets a session, and forgets the key."""

    def answer(request: HttpRequest) -> HttpResponse:
        cookie = access.log_in(request.rest)
        headers = [("Location", "/"), *([("Set-Cookie", cookie)] if cookie else [])]
        return HttpResponse(b"", status=303, headers=headers)

    return HttpRoute("/enter/*", answer, Right.NOTHING)


def make_board(scope: Scope, hosts: Sequence[Host]) -> tuple[Board, FleetWatch]:
    """They need each other: looks go to the board, orders to the hosts."""
    watch = FleetWatch(hosts)
    board = Board(scope.env, watch, every=watch.every, is_fleet=True)
    watch.take = board.take
    return board, watch


def write_report(scope: Scope, report: Report, *, output: str, seconds: int) -> None:
    """What all hosts look like, recorded for some seconds; hosts that do not answer are shown as such."""
    if not 0 <= seconds <= MOST_RECORDED_SECONDS:
        raise UsageError(f"--seconds should be a number from 0 to {MOST_RECORDED_SECONDS}")
    path = Path(output)
    hosts = load_hosts(scope)
    board, watch = make_board(scope, hosts)
    with closing_hosts(hosts):
        ends_at = time.monotonic() + max(seconds, watch.every)  # figures per second need two looks
        while True:
            on_all(hosts, watch.look_once)
            if time.monotonic() >= ends_at:
                break
            time.sleep(watch.every - time.time() % watch.every)
    try:
        replace_file(path, render_report(board))
    except OSError as error:
        raise PercoreError(f"the report cannot be written: {error.strerror}", where=output) from None
    report.finish(f"wrote {relative(path)} about {count_hosts(hosts)}")

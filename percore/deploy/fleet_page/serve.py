"""`invoke web`: the page of all hosts on this machine's loopback, or in one file that needs no server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from percore.deploy.command_line import relative
from percore.deploy.fleet.watch import UP, HostView, LiveHosts
from percore.deploy.fleet_page.source import EVERY_SECONDS, FleetSource, look, sample_of, try_to_look
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.parallel import count_hosts, on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.whole import replace_file
from percore.errors import PercoreError, UsageError
from percore.web.auth import Access, Token
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.one_file import render_report
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right, text
from percore.web.server import WebSite, make_server

LOOPBACK = "127.0.0.1"
MOST_RECORDED_SECONDS = 300


def serve(scope: Scope, report: Report, *, port: int, allow_actions: bool) -> None:
    """Until Ctrl-C. Each start has an address of its own, with a key in it, so no other user of this machine gets in."""
    hosts = load_hosts(scope)
    right = Right.ACTIONS if allow_actions else Right.READING
    token = Token(secrets.token_urlsafe(24), right)
    access = Access([token], port=port)
    board = make_board(scope, hosts)
    with closing_hosts(hosts):
        server = make_server(WebSite([enter_route(access, token), *board.routes()], access), LOOPBACK, port)
        watch_into(board, hosts).start()
        said = "with actions" if allow_actions else "to look at; --allow-actions lets it reload, restart and scale"
        report.line(f"{count_hosts(hosts)} of {scope.env}, {said}; Ctrl-C ends it")
        report.line(f"http://{LOOPBACK}:{server.effective_port}/enter/{token.secret}")
        server.run()


def enter_route(access: Access, token: Token) -> HttpRoute:
    """The printed address: the browser gets a session, and forgets the key."""

    def answer(request: HttpRequest) -> HttpResponse:
        cookie = access.log_in(request.rest)
        if cookie is None:
            return text("this address is of another run: use the one that was printed last", 403)
        return HttpResponse(b"", status=303, headers=(("Location", "/"), ("Set-Cookie", cookie)))

    return HttpRoute("/enter/*", answer, Right.NOTHING)


def make_board(scope: Scope, hosts: Sequence[Host]) -> PageBoard:
    return PageBoard(scope.env, FleetSource(hosts), every=EVERY_SECONDS, is_fleet=True)


def watch_into(board: PageBoard, hosts: Sequence[Host]) -> LiveHosts:
    def look_for_page(host: Host) -> HostView:
        return HostView(host.name, UP, found=look(host))

    def take(view: HostView) -> None:
        board.take(view.name, sample_of(view), time.time())

    return LiveHosts(hosts, EVERY_SECONDS, take, look_for_page)


def write_report(scope: Scope, report: Report, *, output: str, seconds: int) -> None:
    """What all hosts look like, recorded for some seconds; hosts that do not answer are shown as such."""
    if not 0 <= seconds <= MOST_RECORDED_SECONDS:
        raise UsageError(f"--seconds should be a number from 0 to {MOST_RECORDED_SECONDS}")
    path = Path(output)
    if not path.parent.is_dir():
        raise UsageError(f"--output: there is no directory {path.parent}", next="make it, or name another file")
    hosts = load_hosts(scope)
    board = make_board(scope, hosts)

    def look_once(host: Host) -> None:
        board.take(host.name, try_to_look(host), time.time())

    with closing_hosts(hosts):
        ends_at = time.monotonic() + max(seconds, EVERY_SECONDS)  # figures per second need two looks
        while True:
            on_all(hosts, look_once)
            if time.monotonic() >= ends_at:
                break
            time.sleep(EVERY_SECONDS - time.time() % EVERY_SECONDS)
    try:
        replace_file(path, render_report(board))
    except OSError as error:
        raise PercoreError(f"the report cannot be written: {error.strerror}", where=output) from None
    report.finish(f"wrote {relative(path)} about {count_hosts(hosts)}")

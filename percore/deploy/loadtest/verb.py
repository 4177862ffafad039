"""`invoke loadtest`: load on the hosts of an environment, and how it spread over their workers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.connection.care_messages import Figures
from percore.deploy.loadtest.clients import HostLoad, LoadTarget, LoadWish, send_load
from percore.deploy.loadtest.picture import draw, find_converter, write_picture, write_png
from percore.deploy.loadtest.spread import WorkerShare, compare, shares_of, total
from percore.deploy.loadtest.wrk import send_wrk
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import open_hosts
from percore.deploy.rollout.parallel import count_hosts, on_all, stop_at
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError, PreflightError, UsageError

_MOST_SECONDS, _MOST_CONNECTIONS, _MOST_RATE = 600.0, 1000, 100_000.0
LOAD_HEADS = ("host", "requests", "1/s", "failed", "p50", "p90", "p99", "longest")
SHARE_HEADS = ("host", "app", "worker", "pid", "accepted", "share")
_SHARES = (0.5, 0.9, 0.99, 1.0)
_TOOLS = {"own": send_load, "wrk": send_wrk}


@dataclass(frozen=True)
class LoadOptions:
    wish: LoadWish
    path: str
    direct: bool
    tool: str
    json: bool
    svg: str
    png: str


def loadtest(scope: Scope, report: Report, options: LoadOptions) -> None:
    """Says what it will do, asks, does it, and compares its count with that of the workers. Exit code 1 when a request failed."""
    check(options)
    with open_hosts(scope, report) as hosts:
        places = [place_of(host, options) for host in hosts]
        tell(places, scope, report, options)
        require_yes(scope, hosts, report)
        before = _accepted(hosts, report)
        loads = _TOOLS[options.tool](places, options.wish)
        after = _accepted(hosts, report)
    shares = [share for host in hosts for share in shares_of(host.name, before[host.name], after[host.name])]
    kept = options.tool == "wrk" or any(not options.direct and keeps_connections(host) for host in hosts)
    if options.json:
        report.json(as_json(loads, shares))
    else:
        show(loads, shares, report, kept=kept)
    write_pictures(options, scope, shares)
    failed = sum(sum(load.faults.values()) for load in loads.values())
    if failed:
        raise PercoreError(f"{failed} requests failed", next=scope.command("logs", "--lines 50"))


def check(options: LoadOptions) -> None:
    wish = options.wish
    if not 1 <= wish.seconds <= _MOST_SECONDS:
        raise UsageError(f"--duration must be between 1 and {_MOST_SECONDS:g} seconds")
    if not 1 <= wish.connections <= _MOST_CONNECTIONS:
        raise UsageError(f"--connections must be between 1 and {_MOST_CONNECTIONS}")
    if not 0 <= wish.rate <= _MOST_RATE:
        raise UsageError(f"--rate must be between 0 (no limit) and {_MOST_RATE:g} requests a second")
    if (
        not options.path.startswith("/")
        or options.path.startswith("//")
        or not options.path.isprintable()
        or " " in options.path
    ):
        raise UsageError(f"--path must begin with one / and be a path, not '{options.path}'", next="--path /health")
    if options.tool not in _TOOLS:
        raise UsageError(f"--tool must be one of {', '.join(_TOOLS)}")
    if options.png:
        find_converter()


def place_of(host: Host, options: LoadOptions) -> LoadTarget:
    """Nothing but a host of the inventory: NGINX on it, or with --direct the app."""
    settings = host.settings
    site = None if options.direct else settings.site
    tls = bool(site and site.certificate)
    port = settings.port if options.direct else site.tls_port if site and tls else settings.shown_port
    if port is None:
        raise UsageError("the app has no port", where=host.name, next="set port in the inventory")
    return LoadTarget(host.name, host.url_host, port, tls, settings.asked_host or host.url_host, options.path)


def keeps_connections(host: Host) -> bool:
    """NGINX sends several requests over one connection to the app."""
    site = host.settings.site
    return bool(site and site.keepalive)


def tell(places: Sequence[LoadTarget], scope: Scope, report: Report, options: LoadOptions) -> None:
    wish = options.wish
    rate = f"{wish.rate:g} requests a second" if wish.rate else "as many requests as possible"
    kind = "connections that are kept (wrk)" if options.tool == "wrk" else "clients, a connection for each request"
    report.line(f"{rate} for {wish.seconds:g} s by {wish.connections} {kind}, to {len(places)} hosts of {scope.env}:")
    for place in places:
        report.line(f"  {place.host}: {place.url}")


def require_yes(scope: Scope, hosts: Sequence[Host], report: Report) -> None:
    """Not on this machine alone."""
    if scope.yes or all(host.address.local for host in hosts):
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at; nothing was sent", next="add --yes")
    if not report.ask(f"send this load to {count_hosts(hosts)} of {scope.env}?"):
        raise PreflightError("the answer was not yes; nothing was sent")


def _accepted(hosts: Sequence[Host], report: Report) -> dict[str, list[Mapping[str, Any]]]:
    found, faults = on_all(hosts, _ask)
    stop_at(faults, report)
    return found


def _ask(host: Host) -> list[Mapping[str, Any]]:
    """The workers, and what each of them accepted so far."""
    said: Figures = host.ask("figures")
    counts = {id: connections["accepted"] for id, connections in said["connections"].items()}
    return [
        {
            "app": app["name"],
            "slot": worker["slot"],
            "pid": worker["pid"],
            "accepted": counts.get(str(worker.get("id"))),
        }
        for app in said["status"]["apps"]
        for worker in app["workers"]
        if worker["pid"]
    ]


def show(loads: Mapping[str, HostLoad], shares: Sequence[WorkerShare], report: Report, *, kept: bool) -> None:
    report.table(LOAD_HEADS, [_load_row(host, load) for host, load in loads.items()])
    for host, load in loads.items():
        for fault, count in load.faults.most_common():
            report.host(host, f"{count} x {fault}")
    report.line()
    whole = total(shares) or 1
    report.table(SHARE_HEADS, [_share_row(share, whole) for share in shares])
    for host, load in loads.items():
        if text := compare(host, load.sent, [share for share in shares if share.host == host], kept=kept):
            report.line(text)


def _load_row(host: str, load: HostLoad) -> list[object]:
    spans = [load.percentile(share) for share in _SHARES]
    shown = ["-" if span is None else f"{1000 * span:.1f} ms" for span in spans]
    return [host, load.sent, f"{load.rate:,.0f}", sum(load.faults.values()), *shown]


def _share_row(share: WorkerShare, whole: int) -> list[object]:
    count = share.note if share.accepted is None else f"{share.accepted}{f' ({share.note})' if share.note else ''}"
    part = "-" if share.accepted is None else f"{100 * share.accepted / whole:.1f} %"
    return [share.host, share.app, share.slot, share.pid, count, part]


def as_json(loads: Mapping[str, HostLoad], shares: Sequence[WorkerShare]) -> dict[str, Any]:
    return {
        "hosts": [
            {
                "host": host, "requests": load.sent, "per_second": round(load.rate, 1), "seconds": round(load.seconds, 3),
                "failed": dict(load.faults), "accepted": total([share for share in shares if share.host == host]),
                **{f"p{share * 100:g}_ms": None if (span := load.percentile(share)) is None else round(1000 * span, 3)
                   for share in _SHARES},
            }
            for host, load in loads.items()
        ],
        "workers": [share._asdict() for share in shares],
    }  # fmt: skip


def write_pictures(options: LoadOptions, scope: Scope, shares: Sequence[WorkerShare]) -> None:
    if not (options.svg or options.png):
        return
    svg = draw(f"connections accepted by each worker of {scope.env}", shares)
    if options.svg:
        write_picture(Path(options.svg), svg)
    if options.png:
        write_png(Path(options.png), svg)

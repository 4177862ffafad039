"""What runs on each host after a rollout, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from percore.deploy.report import Report, describe_apps
from percore.deploy.rollout.choose import Move
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.parallel import Outcome, count_hosts
from percore.deploy.rollout.switch.switch import Switched


class HostResult(NamedTuple):
    """JSON-ready by `_asdict`, and its names stay."""

    host: str
    release: str | None
    apps: str
    result: str


def unchanged(seen: Iterable[Seen]) -> list[HostResult]:
    return [HostResult(one.name, one.current, describe_apps(one.reply["status"]), "unchanged") for one in seen]


def after_switch(moves: Iterable[Move], outcome: Outcome[Switched]) -> list[HostResult]:
    return [_after_switch(move, outcome.results.get(move.name)) for move in moves]


def _after_switch(move: Move, switched: Switched | None) -> HostResult:
    if switched is None:
        return HostResult(move.name, move.current, describe_apps(move.status), "failed, on its former release")
    return HostResult(move.name, move.release, describe_apps(switched.status), "healthy")


def in_order(results: Iterable[HostResult], hosts: Iterable[Host]) -> list[HostResult]:
    by_host = {result.host: result for result in results}
    return [by_host[host.name] for host in hosts]


def recap(results: Sequence[HostResult], report: Report) -> None:
    report.line()
    report.table(HostResult._fields, results)
    report.finish(f"done: {count_hosts(results)} on {name_releases(result.release for result in results)}")


def name_releases(releases: Iterable[str | None]) -> str:
    return ", ".join(sorted({str(release) for release in releases}))


def nothing_to_change(seen: Sequence[Seen]) -> str:
    return f"nothing to change: {count_hosts(seen)} already on {name_releases(one.current for one in seen)}"


def show_urls(hosts: Sequence[Host], report: Report) -> None:
    for host in hosts[:5]:
        port, site = host.settings.shown_port, host.settings.site
        if site and site.certificate:
            report.line(f"  https://{host.url_host}{'' if site.tls_port == 443 else f':{site.tls_port}'}/")
        elif port is not None:
            report.line(f"  http://{host.url_host}{'' if port == 80 else f':{port}'}/")

"""`invoke logs` and `invoke flush`: the apps' log lines of all hosts in the order of time, and logs that are emptied."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from percore.common.bounds import compile_regex
from percore.deploy.fleet.merge import LiveMerge, OrderedMerge
from percore.deploy.report import Report
from percore.deploy.rollout.diff import require_answer
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, connect_all, hosts_of_app, load_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import Faults, all_or_stop, count_hosts, stop_at, try_one
from percore.deploy.rollout.placement import require_app
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError, UsageError
from percore.supervisor.logs.selection import read_moment
from percore.supervisor.logs.timestamps import read_stamp

FEW = 20
CLOCK_SECONDS = 1.0
"""A clock that differs by more is reckoned with; less is the time that the line takes."""


@dataclass(frozen=True)
class LogWish:
    """What the operator asked for; texts as he typed them."""

    app: str = ""
    lines: str = ""
    since: str = ""
    until: str = ""
    grep: str = ""
    err: bool = False
    follow: bool = False


@dataclass(frozen=True)
class Shown:
    """A line of one host; `fields` are those that the host's `percore logs --json` gives it."""

    host: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


def logs(scope: Scope, report: Report, wish: LogWish, *, as_json: bool = False) -> None:
    """Of the hosts that answer; the others are named at the end."""
    words = _words_of(wish)
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        faults = connect_all(hosts)
        reached = [host for host in hosts if host.name not in faults]
        having = hosts_of_app(reached, wish.app) if wish.app and reached else reached
        _tell_clocks(having, report)
        _show_merged(having, words, wish, report, faults, as_json=as_json)
    stop_at(faults, report)


def _words_of(wish: LogWish) -> Callable[[float], list[str]]:
    """What is asked of a host whose clock is so many seconds ahead. Raises UsageError before any host is asked."""
    now = time.time()
    since, until = (_moment_of(text, name, now) for text, name in ((wish.since, "--since"), (wish.until, "--until")))
    count = _count_of(wish, since)
    _check_regex(wish.grep)
    if wish.follow and until is not None:
        raise UsageError("--follow has no end, and --until is one", next="leave out one of them")

    def words(skew: float) -> list[str]:
        times = (("--since", since), ("--until", until))
        return [
            *([wish.app] if wish.app else []),
            "--json",
            "--follow" if wish.follow else "--nostream",
            *(["--lines", str(count)] if count is not None else []),
            *(f"{name}=@{moment + skew:.3f}" for name, moment in times if moment is not None),
            *([f"--grep={wish.grep}"] if wish.grep else []),
            *(["--err"] if wish.err else []),
        ]

    return words


def _moment_of(text: str, name: str, now: float) -> float | None:
    try:
        return read_moment(text, now) if text else None
    except ValueError as error:
        raise UsageError(str(error), where=name) from None


def _count_of(wish: LogWish, since: float | None) -> int | None:
    """None: all lines since then."""
    if not wish.lines:
        return FEW if since is None else None
    if not wish.lines.isdigit() or len(wish.lines) > 6:
        raise UsageError(f"'{wish.lines}' is no number of lines", where="--lines")
    return int(wish.lines)


def _check_regex(text: str) -> None:
    try:
        compile_regex(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is no regular expression: {error}", where="--grep") from None


def skew_of(host: Host) -> float:
    """By how much its clock is ahead of ours, in seconds."""
    skew = host.agent.clock_skew
    return skew if abs(skew) > CLOCK_SECONDS else 0.0


def _tell_clocks(hosts: Sequence[Host], report: Report) -> None:
    for host in hosts:
        if skew := skew_of(host):
            way = "ahead of" if skew > 0 else "behind"
            report.warn(f"{host.name}: its clock is {abs(skew):.0f} s {way} ours; its lines are sorted by our clock")


def _show_merged(
    hosts: Sequence[Host],
    words: Callable[[float], list[str]],
    wish: LogWish,
    report: Report,
    faults: Faults,
    *,
    as_json: bool,
) -> None:
    names = [host.name for host in hosts]
    merge: LiveMerge[Shown] | OrderedMerge[Shown] = LiveMerge(names) if wish.follow else OrderedMerge(names)

    def ask(host: Host) -> None:
        skew = skew_of(host)
        fault = try_one(host, lambda each: _ask(each, words(skew), merge, skew))
        if isinstance(fault, PercoreError):
            faults[host.name] = fault
            if wish.follow:
                report.warn(f"{fault}; the other hosts are followed")
        merge.end(host.name)

    for host in hosts:  # all at once: the first line of one may be later than all of another
        threading.Thread(target=ask, args=(host,), daemon=True, name=host.name).start()
    for shown in merge.lines():
        _show(shown, report, as_json=as_json)


def _ask(host: Host, words: list[str], merge: LiveMerge[Shown] | OrderedMerge[Shown], skew: float) -> None:
    def take(event: dict[str, Any]) -> None:
        if event["event"] == "line":
            shown = read_line(host.name, event["text"])
            moment = moment_of(shown)
            merge.put(host.name, None if moment is None else moment - skew, shown)

    host.agent.ask("stream", target=host.target(), words=words, on_event=take)


def read_line(host: str, text: str) -> Shown:
    """What is no such object is shown as it is: a notice of the command, or a line that is too long for one message."""
    try:
        fields = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
        return Shown(host, text)
    if "process_id" not in fields or not isinstance(fields.get("app_name"), str):
        return Shown(host, text)
    return Shown(host, f"{fields['process_id']}|{fields['app_name']} | {fields['message']}", fields)


def moment_of(shown: Shown) -> float | None:
    stamp = shown.fields.get("timestamp")
    if not isinstance(stamp, str) or shown.fields.get("untimed"):
        return None
    return read_stamp(stamp.encode())


def _show(shown: Shown, report: Report, *, as_json: bool) -> None:
    if as_json:
        report.json({"host": shown.host, **(shown.fields or {"notice": shown.text})}, indent=None)
    else:
        report.log(shown.host, shown.text)


# -- emptying --------------------------------------------------------------------------------------------------------


def flush(scope: Scope, report: Report, *, app: str) -> None:
    """Empty the logs of all apps, or of one, and delete their older files; what is written from then on stays."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        require_app(hosts, app)
        having = hosts_of_app(hosts, app) if app else hosts
        what = f"the logs of {app or 'all apps'} on {count_hosts(having)} of {scope.env}"
        require_answer(scope, report, f"empty {what}, and delete the older ones?", "nothing was emptied")
        all_or_stop(having, lambda host: host.ask("control", report, verb="flush", app=app or None), report)
    report.finish(f"emptied {what}")

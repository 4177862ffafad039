"""All hosts, looked at again and again: one connection each, which comes back by itself where it was lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from percore.deploy.connection.messages import AppStatus, Current
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import close_all
from percore.deploy.rollout.parallel import try_one
from percore.errors import PercoreError

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 2.0, 15.0
STALE_SECONDS = 5.0
"""After so long without an answer a host counts as away: a link may be cut without a word."""
GIVEN_UP_SECONDS = 20.0
"""After so long its connection is given up, and made anew."""
CONNECTING, UP, AWAY = "connecting", "up", "away"


class HostView(NamedTuple):
    """What was last seen of a host. While it is away, nothing is shown as if it were still so."""

    name: str
    state: str = CONNECTING
    reason: str = ""
    apps: Sequence[AppStatus] = ()
    found: Any = None  # what another `look` than the usual one saw


def look_at_apps(host: Host) -> HostView:
    answer: Current = host.ask("status")
    return HostView(host.name, UP, "", answer["status"]["apps"])


class LiveHosts:
    """`tell` is called from any thread when something is new; `look` asks a host that is connected."""

    def __init__(
        self,
        hosts: Sequence[Host],
        interval: float,
        tell: Callable[[HostView], object],
        look: Callable[[Host], HostView] = look_at_apps,
    ) -> None:
        self.hosts = {host.name: host for host in hosts}
        self._interval = interval
        self._tell = tell
        self._look = look
        self._views = {host.name: HostView(host.name) for host in hosts}
        self._answered: dict[str, float] = {}  # when each did so last, over the connection that it has
        self._ended = threading.Event()
        self._gate = threading.Semaphore(hosts[0].forks if hosts else 1)  # so many connect at the same time
        self._hurry = {host.name: threading.Event() for host in hosts}

    def start(self) -> None:
        for host in self.hosts.values():
            threading.Thread(target=self._follow, args=(host,), daemon=True, name=host.name).start()
        threading.Thread(target=self._watch_silence, daemon=True).start()

    def views(self) -> list[HostView]:
        return list(self._views.values())

    def look_again(self, name: str) -> None:
        """Soon: something was done there."""
        self._hurry[name].set()

    def close(self) -> None:
        self._ended.set()
        for event in self._hurry.values():
            event.set()
        close_all(list(self.hosts.values()))

    def _follow(self, host: Host) -> None:
        retry = FIRST_RETRY_SECONDS
        while not self._ended.is_set():
            fault = try_one(host, self._look_while_there)
            self._answered.pop(host.name, None)
            _drop(host)
            if self._ended.is_set():
                return
            was_up = self._views[host.name].state == UP
            retry = FIRST_RETRY_SECONDS if was_up else min(retry * 2, LAST_RETRY_SECONDS)
            self._note(HostView(host.name, AWAY, fault.what if isinstance(fault, PercoreError) else ""))
            self._ended.wait(retry * random.uniform(0.8, 1.2))  # hosts behind one switch do not come back all at once

    def _look_while_there(self, host: Host) -> None:
        with self._gate:
            if self._ended.is_set():
                return
            host.connect()
        while not self._ended.is_set():
            began = time.monotonic()
            self._note(self._look(host))
            self._answered[host.name] = time.monotonic()
            left = self._interval - (time.monotonic() - began)
            hurry = self._hurry[host.name]
            hurry.wait(max(left, self._interval / 4))
            hurry.clear()

    def _watch_silence(self) -> None:
        while not self._ended.wait(min(1.0, STALE_SECONDS / 2)):
            for name, at in list(self._answered.items()):
                self._judge_silence(name, time.monotonic() - at - self._interval)

    def _judge_silence(self, name: str, seconds: float) -> None:
        """One that says nothing any more is away, although nothing has failed yet."""
        if seconds < STALE_SECONDS:
            return
        self._note(HostView(name, AWAY, f"no answer for {seconds:.0f} s"))
        if seconds > GIVEN_UP_SECONDS and self._answered.pop(name, None) is not None:
            # The thread that waits for its answer connects anew. A goodbye over a dead link may take a while.
            threading.Thread(target=_drop, args=(self.hosts[name],), daemon=True).start()

    def _note(self, view: HostView) -> None:
        self._views[view.name] = view
        self._tell(view)


def _drop(host: Host) -> None:
    remote, host.remote = host.remote, None
    if remote is not None:
        with contextlib.suppress(PercoreError, OSError):
            remote.close()

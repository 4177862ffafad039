"""What the supervisor says, asked at most once a second, however many readers there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import request

FRESH_SECONDS = 1.0


class Snapshot(NamedTuple):
    """`error` says why the supervisor told nothing; the rest is empty then."""

    at: float  # monotonic seconds, when it was begun
    time: float
    error: str
    daemon: Mapping[str, Any]  # `ping`
    apps: Mapping[str, Mapping[str, Any]]  # `status`, by name: with the workers that come and go in a reload
    workers: list[Mapping[str, Any]]  # `describe`: one for each slot; names of variables alone
    release: str


class Snapshots:
    def __init__(self, home: Home, ask: Callable[..., Mapping[str, Any]]) -> None:
        self._home = home
        self._ask = ask
        self._lock = threading.Lock()
        self._last = _nothing("the supervisor was not asked yet", -FRESH_SECONDS)

    @property
    def last(self) -> Snapshot:
        """Whatever its age: nothing is asked."""
        return self._last

    def get(self) -> Snapshot:
        """Not older than a second."""
        with self._lock:
            if time.monotonic() - self._last.at >= FRESH_SECONDS:
                self._last = self._look()
            return self._last

    def get_after(self, moment: float) -> Snapshot:
        """Begun after that; waits, where it must, until the supervisor may be asked again."""
        while (found := self.get()).at <= moment:
            time.sleep(max(0.0, found.at + FRESH_SECONDS - time.monotonic()))
        return found

    def _look(self) -> Snapshot:
        at = time.monotonic()
        try:
            daemon = self._ask(self._home, "ping")
            found = self._ask(self._home, "status")
            workers = self._ask(self._home, "describe", selectors=["all"])["workers"]
        except PercoreError as error:
            return _nothing(error.what, at)
        apps = {app["name"]: app for app in found["apps"]}
        return Snapshot(at, time.time(), "", daemon, apps, workers, found["release"] or "")


def _nothing(error: str, at: float) -> Snapshot:
    return Snapshot(at, time.time(), error, {}, {}, [], "")


def ask_supervisor(home: Home, op: str, **arguments: Any) -> Mapping[str, Any]:
    """The result of one request. Raises PercoreError; starts no supervisor."""
    *_, result = request(home, op, **arguments)
    if not result.get("ok"):
        raise PercoreError(str(result.get("error", "the supervisor did not answer")))
    return result

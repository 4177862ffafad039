"""Apps that could not be restored, because their record is invalid here, and what runs of them: it goes on serving until an
app of that name is started, so that no singleton runs twice. Their records stay in the state: another version may know better.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Mapping, Sequence

from percore.common.typing import Any
from percore.supervisor.base.logger import log
from percore.supervisor.process.process import end, open_unadopted
from percore.supervisor.state.saved import Aside

Entries = dict[str, list[int]]


class SetAside:
    def __init__(self, home: str) -> None:
        self._home = home
        self._apps: list[Aside] = []
        self._processes: dict[str, list[int]] = {}  # pidfds, by app
        self._sockets: dict[str, list[socket.socket]] = {}  # as the store has them, by the name there
        self._is_all = False  # there is no state

    def find_all(self) -> None:
        """There is no state: whatever runs is ours."""
        self._is_all = True
        self._processes = dict(open_unadopted(self._home, ()))
        if self._processes:
            log(
                f"orphans of an earlier supervisor run, and no state file lists them: {', '.join(sorted(self._processes))}; "
                "they end when an app is started"
            )

    def take(self, apps: Sequence[Aside]) -> None:
        self._apps = list(apps)

    def find(self, adopted: Collection[str], known: Collection[str], entries: Mapping[str, Sequence[int]]) -> None:
        """Keeps what runs of other apps than those that are known, and `entries`, which the store has of them. Of known apps,
        what was not adopted is ended. `adopted` are tokens.
        """
        found = open_unadopted(self._home, adopted)
        self._processes = {name: pidfds for name, pidfds in found.items() if self._apps and name not in known}
        end([pidfd for name, pidfds in found.items() if name not in self._processes for pidfd in pidfds])
        self._sockets = {
            name: [socket.socket(fileno=number) for number in numbers] for name, numbers in entries.items()
        }
        if not self._apps:
            self._close(list(self._sockets))
        for app in self._apps:
            self._tell(app)

    def _tell(self, app: Aside) -> None:
        title = f"'{app.name}'" if app.name else "an app without a name"
        runs = (
            f"{len(self._processes[app.name])} of its processes go on"
            if app.name in self._processes
            else "none of it runs"
        )
        log(
            f"{title} is set aside: {app.reason}; {runs}, and its record stays in the state until an app of that name is "
            f"started"
        )

    @property
    def names(self) -> list[str]:
        return [app.name for app in self._apps]

    @property
    def full_names(self) -> dict[str, str]:
        """The names of those that have one, by the full name."""
        return {app.full_name: app.name for app in self._apps if app.name}

    @property
    def records(self) -> list[Any]:
        return [app.record for app in self._apps]

    @property
    def entries(self) -> Entries:
        return {name: [sock.fileno() for sock in sockets] for name, sockets in self._sockets.items()}

    def make_way(self, name: str) -> None:
        """An app of this name is about to run: two of a singleton must not."""
        if self._is_all:
            self.forget()  # each process holds the sockets of all
            return
        self._apps = [app for app in self._apps if app.name != name]
        self._end([name] if self._apps else list(self._processes))
        self._close([key for key in self._sockets if not self._apps or json.loads(key)[0] == name])

    def forget(self) -> None:
        self._is_all = False
        self._apps.clear()
        self._end(list(self._processes))
        self._close(list(self._sockets))

    def _end(self, names: Collection[str]) -> None:
        end([pidfd for name in names for pidfd in self._processes.pop(name, ())])

    def _close(self, names: Collection[str]) -> None:
        for name in names:
            for sock in self._sockets.pop(name):
                sock.close()

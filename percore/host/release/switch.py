"""Making a staged release the one that runs, and taking that back exactly.

What a release puts elsewhere on the host (units, sites, links, files) lies in its `.percore/activation.json`, so going
back to it restores those as well. Every change first notes what would restore the present state: `undo` replays the
notes backwards.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Callable, NamedTuple, Optional

from percore.errors import PartialError, PercoreError, RolloutError, describe_os_error
from percore.host.files import read_file
from percore.host.release import health
from percore.host.release.handlers import HANDOVER, Debt, Debts, describe, in_order, pay
from percore.host.release.journal import Journal
from percore.host.release.releases import BAD, GOOD, Releases
from percore.host.resources.registry import make
from percore.host.resources.resource import Contents, Spec
from percore.host.resources.systemd import is_active, journal_of
from percore.host.supervisor import Supervisor

Emit = Callable[[dict[str, Any]], None]


class Plan(NamedTuple):
    """What activation does around the apps: `before` and `after` they are switched; `health` says what to ask.

    `handlers` are those that a change may notify, in the order in which they run.
    """

    before: list[Spec]
    after: list[Spec]
    handlers: list[Spec]
    health: dict[str, Any]

    @classmethod
    def load(cls, releases: Releases, release: str, *, amended: bool = False) -> Plan:
        """`amended`: as it will be once the change of some of it is confirmed."""
        record = json.loads(read_file(releases.plan_path(release, amended=amended)))
        # Records of before there were handlers have none.
        return cls(record["before"], record["after"], record.get("handlers", []), record["health"])


def kept_contents(releases: Releases, release: str) -> Contents:
    """Contents of the files of a release, which lie beside its activation record."""

    def read(sha256: str) -> bytes:
        return read_file(os.path.join(releases.path(release), ".percore", "files", sha256))

    return read


class Activation:
    """One switch of one host. `run` does it or takes it back; `undo` takes it back later, when another host failed.

    `amended`: to the release that runs, with other files and units around its apps.
    """

    def __init__(
        self, releases: Releases, supervisor: Supervisor, release: str, emit: Emit, *, amended: bool = False
    ) -> None:
        self.releases = releases
        self.supervisor = supervisor
        self.release = release
        self.emit = emit
        self.amended = amended
        self.journal = Journal(releases.journal_path)
        self.former = releases.current()
        self.was_good = releases.marks().get(release, {}).get("mark") == GOOD
        self.debts = Debts(releases.owed_path)
        self.owed_before: dict[str, Debt] = {}
        self.handled: list[Spec] = []  # handlers that were begun: what they start may have read what we changed
        self.restore: list[Spec] = []
        self.boundary = 0  # how many notes of `restore` come from before the apps were switched
        self.apps_switched = False
        self.was_running = False

    @classmethod
    def resume(cls, releases: Releases, supervisor: Supervisor, emit: Emit) -> Optional[Activation]:
        """The switch that an agent left unfinished here; None when there is none."""
        entries = Journal(releases.journal_path).read()
        if not entries:
            return None
        header = entries[0]
        found = cls(releases, supervisor, header["release"], emit, amended=header.get("amended", False))
        found.former, found.was_good, found.was_running = header["former"], header["was_good"], header["was_running"]
        found.owed_before = header.get("owed", {})
        for entry in entries:
            if entry["what"] == "restore":
                found.restore.append(entry["spec"])
            elif entry["what"] == "handler":
                found.handled.append(entry["spec"])
            elif entry["what"] == "boundary":
                found.boundary = len(found.restore)
            elif entry["what"] == "apps":
                found.apps_switched = entry["switched"]
        return found

    def run(self, owner: str, run: str, agent: dict[str, int]) -> dict[str, Any]:
        """Returns the supervisor's status of the new release; raises after having taken everything back.

        `owner` and `run` say for whom, `agent` by which process; they let that rollout take up the switch again after its
        connection was cut.
        """
        self.owed_before = self.debts.read()
        self.was_running = self.supervisor.is_installed() and bool(self._status().get("daemon", True))
        self.journal.begin(
            owner=owner, run=run, release=self.release, former=self.former, was_good=self.was_good,
            was_running=self.was_running, owed=self.owed_before, amended=self.amended, **agent,
        )  # fmt: skip
        try:
            return self._switch()
        except PercoreError as error:
            self._take_back(error)
            raise
        except Exception as error:
            what = describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            fault = RolloutError(what)
            self._take_back(fault)
            raise fault from error

    def undo(self, mark: str = BAD) -> None:
        """Bring back the release, the files and the units of before; raises PartialError for what did not come back."""
        self.journal.give_room()
        with contextlib.suppress(OSError):  # on the fullest disk there is still a way back
            self.journal.note("undoing")
        again = [handler for handler in self.handled if self._is_needed_again(handler)]
        faults = []
        for step in (
            self._undo_after_apps,
            self._undo_apps,
            self._undo_before_apps,
            lambda: self._undo_handlers(again),
            lambda: self.releases.switch(self.former),
            lambda: self._mark_undone(mark),
        ):
            try:
                step()
            except PercoreError as error:
                faults.append(str(error))
            except OSError as error:
                faults.append(describe_os_error(error))
        self.journal.end()
        if faults:
            raise PartialError(
                f"could not take back everything: {'; '.join(faults)}", next="look at the host, then deploy again"
            )

    def _mark_undone(self, mark: str) -> None:
        if self.amended:
            self.releases.drop_amendment(self.release)
        elif not self.was_good:
            self.releases.mark(self.release, mark)

    def recheck(self) -> dict[str, Any]:
        """Some time after the switch: every worker still answers, and none had to be started again."""
        status = self._check_health(Plan.load(self.releases, self.release).health)
        for app in status["apps"]:
            for worker in app["workers"]:
                if worker.get("unstable_restarts") or worker.get("crash_looping"):
                    error = RolloutError(
                        f"{app['name']} worker {worker['slot']} ended after the switch and was started again"
                    )
                    error.detail = "\n".join(self.supervisor.log_tail(app["name"]))
                    raise error
        return status

    def _switch(self) -> dict[str, Any]:
        plan = Plan.load(self.releases, self.release, amended=self.amended)
        self._install(plan.before, plan.handlers)
        self.boundary = len(self.restore)
        self.journal.note("boundary")
        self._renew_supervisor()
        if not self.amended:
            self._apply_apps()
        self._install(plan.after, plan.handlers)
        self._install(self._left_over(plan), plan.handlers)
        self._run_handlers(plan.handlers)
        status = self._check_health(plan.health)
        _check_units(plan)
        self.releases.switch(self.release)
        self.journal.note("switched")
        return status

    def _install(self, specs: list[Spec], handlers: list[Spec]) -> None:
        contents = kept_contents(self.releases, self.release)
        for spec in specs:
            resource = make(spec, contents)
            difference = resource.change()
            if difference is None:
                continue
            self.emit({"event": "progress", "text": difference})
            self.debts.notify(spec, handlers, difference)
            for former in reversed(resource.former()):
                self.journal.note("restore", spec=former)
                self.restore.append(former)
            resource.apply()
            if spec["kind"] == "unit":
                self.debts.units_changed()

    def _renew_supervisor(self) -> None:
        owed = [debt["handler"] for debt in self.debts.outstanding().values() if debt["handler"]["kind"] == HANDOVER]
        for handler in owed:
            self._begin(handler)
        self.supervisor.renew(self.emit, anew=bool(owed))
        for handler in owed:
            self.debts.settle(handler["name"])

    def _run_handlers(self, handlers: list[Spec]) -> None:
        """Pay what is owed, also what earlier runs left."""
        outstanding = self.debts.outstanding()
        for debt in in_order(self.debts.read(), handlers):
            handler = debt["handler"]
            if handler["name"] in outstanding:
                self.emit({"event": "progress", "text": f"{describe(handler)}, because: {debt['because']}"})
                self._begin(handler)
                pay(handler)
            self.debts.settle(handler["name"])

    def _begin(self, handler: Spec) -> None:
        unit = handler.get("unit")
        begun = {**handler, "was_active": unit is not None and is_active(unit)}
        self.journal.note("handler", spec=begun)
        self.handled.append(begun)

    def _apply_apps(self) -> None:
        self.emit({"event": "progress", "text": "switch the apps"})
        path = self.releases.record_path(self.release)
        # Set before: `percore apply` takes itself back when it fails, yet what it left is worth comparing once more.
        self._note_apps(switched=True)
        try:
            changes = self.supervisor.apply(path, self.release, self.emit)
        except PartialError:
            raise
        except RolloutError:
            self._note_apps(switched=False)
            raise
        self.emit({"event": "changes", "changes": changes})

    def _note_apps(self, *, switched: bool) -> None:
        self.journal.note("apps", switched=switched)
        self.apps_switched = switched

    def _left_over(self, plan: Plan) -> list[Spec]:
        """What the former release, or this one before it was amended, has besides."""
        if self.former is None or (self.former == self.release and not self.amended):
            return []
        try:
            former = Plan.load(self.releases, self.former)
        except (OSError, ValueError, KeyError):
            return []
        wanted = {path for spec in plan.before + plan.after for path in _paths(spec)}
        gone = [spec for spec in former.after + former.before if not wanted & {*_paths(spec)}]
        # What of it is not shown stays so.
        return [
            {**absence, **({"shown": spec["shown"]} if "shown" in spec else {})}
            for spec in gone
            for absence in _absence_of(spec, gone)
        ]

    def _check_health(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.emit({"event": "progress", "text": "check health"})
        status = self._status()
        try:
            workers = health.check_workers(status, path=ask.get("path"), seconds=float(ask.get("seconds", 10)))
            if ask.get("site_port"):
                health.check_site(
                    int(ask["site_port"]),
                    path=ask.get("path"),
                    host=ask.get("site_host", ""),
                    seconds=float(ask.get("seconds", 10)),
                )
        except health.HealthError as error:
            error.detail = "\n".join(self.supervisor.log_tail(error.app))
            raise
        self.emit(
            {
                "event": "progress",
                "text": f"healthy: {workers} workers answered" + (", NGINX too" if ask.get("site_port") else ""),
            }
        )
        return self._status()

    def _status(self) -> dict[str, Any]:
        return self.supervisor.status()

    def _take_back(self, error: PercoreError) -> None:
        self.emit({"event": "progress", "text": f"take back: {error.what}"})
        try:
            self.undo()
        except PartialError as partial:
            raise PartialError(f"{error.what}; {partial.what}", next=partial.next, detail=error.detail) from error
        if isinstance(error, PartialError):
            # The supervisor could not take itself back alone; applying the former release just did.
            raise RolloutError(error.what, detail=error.detail) from error

    def _undo_apps(self) -> None:
        if not self.apps_switched:
            if self.former is None and not self.was_running:
                self._end_supervisor()
            return
        if self.former is not None:
            self.supervisor.apply(self.releases.record_path(self.former), self.former, self.emit)
        else:
            self.supervisor.delete(self.releases.record_path(self.release))
            self._end_supervisor()
        self.apps_switched = False

    def _end_supervisor(self) -> None:
        # Under systemd the unit's own restore stops the daemon; a daemon of an ordinary user is ended here.
        if not self.was_running and self.supervisor.user is None:
            self.supervisor.kill()

    def _undo_before_apps(self) -> None:
        self._replay(0)
        if self.former is not None:
            self.supervisor.renew(self.emit, anew=any(handler["kind"] == HANDOVER for handler in self.handled))

    def _undo_handlers(self, again: list[Spec]) -> None:
        """What a handler started may have read what is now taken back: it starts again. What else was owed is moot."""
        self.debts.replace(self.owed_before)
        for handler in again:
            self.debts.owe(handler, "the release was taken back")
        for handler in again:
            self.emit({"event": "progress", "text": f"{describe(handler)} again"})
            pay(handler)
            self.debts.settle(handler["name"])

    def _is_needed_again(self, handler: Spec) -> bool:
        if handler["kind"] in ("run", HANDOVER):
            return handler["kind"] == "run" and self.former is not None
        ends = {spec["name"] for spec in self.restore if spec["kind"] == "unit" and spec.get("active") is False}
        return handler["was_active"] and handler["unit"] not in ends

    def _undo_after_apps(self) -> None:
        self._replay(self.boundary)

    def _replay(self, first: int) -> None:
        while len(self.restore) > first:
            resource = make(self.restore[-1])
            if resource.difference() is not None:
                resource.apply()
            self.restore.pop()


def _check_units(plan: Plan) -> None:
    """What should run still does, some time after it was started; RolloutError with a unit's last words."""
    for name in dict.fromkeys(spec["name"] for spec in plan.before if spec["kind"] == "unit" and spec.get("active")):
        if not is_active(name):
            raise RolloutError(f"{name} does not stay up", detail=journal_of(name))


def _absence_of(spec: Spec, gone: list[Spec]) -> list[Spec]:
    """What makes a resource of the former release go; a unit whose file goes ends first."""
    notify = {"notify": spec["notify"]} if "notify" in spec else {}
    if spec["kind"] == "site":
        return [{"kind": "absent", "path": path} for path in _paths(spec)] + [{"kind": "nginx-reload"}]
    if spec["kind"] == "unit-file":
        units = [unit["name"] for unit in gone if unit["kind"] == "unit" and spec["path"].endswith(f"/{unit['name']}")]
        ended = [{"kind": "unit", "name": name, "active": False, "enabled": False} for name in units]
        return [*ended, {"kind": "absent-unit-file", "path": spec["path"]}]
    return [{"kind": "absent", "path": path, **notify} for path in _paths(spec)]


def _paths(spec: Spec) -> list[str]:
    if spec["kind"] == "site":
        return [spec["link"], spec["path"]]
    return [spec["path"]] if spec["kind"] in {"file", "unit-file", "link"} else []

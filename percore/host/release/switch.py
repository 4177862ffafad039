"""Making a staged release the one that runs, or rolling back. Every change first notes what brings back the present state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Optional

from percore.common import names
from percore.errors import PartialError, PercoreError, RolloutError
from percore.host.messages import Plan, Spec
from percore.host.release import health
from percore.host.release.change.change import Change, check_units
from percore.host.release.change.handlers import HANDOVER
from percore.host.release.change.journal import Journal
from percore.host.release.change.record import SwitchRecord
from percore.host.release.marks import GOOD
from percore.host.release.placement import record_resource
from percore.host.release.plan import kept_contents, left_over, load_plan, plan_or_none
from percore.host.release.releases import Releases
from percore.host.release.running import apps_told, own_part, selectors
from percore.host.resources.registry import make
from percore.host.supervisor.supervisor import Emit, Supervisor


class Activation(Change):
    """One switch of one host. `run` does it or rolls back; `roll_back` does so later, when another host failed.

    `amended`: to the release that runs, with other files and units around its apps.
    """

    def __init__(
        self, releases: Releases, supervisor: Supervisor, release: str, emit: Emit, *, amended: bool = False,
        absent: Optional[Collection[str]] = None,
    ) -> None:  # fmt: skip
        record = SwitchRecord(Journal(releases.journal_path), release, releases.current(), amended=amended)
        super().__init__(releases, supervisor, record, emit)
        self._absent = absent

    @classmethod
    def resume(cls, releases: Releases, supervisor: Supervisor, emit: Emit) -> Optional[Activation]:
        """The switch that an agent left unfinished here; None when there is none."""
        record = SwitchRecord.read(Journal(releases.journal_path))
        if record is None:
            return None
        found = cls(releases, supervisor, record.release, emit)
        found.record = record
        return found

    def run(self, owner: str, run: str, agent: dict[str, int]) -> dict[str, Any]:
        """Returns the supervisor's status of the new release; raises after having rolled everything back.

        `owner` and `run` say for whom, `agent` by which process; they let that rollout take up the switch again after its
        connection was cut.
        """
        record = self.record
        record.was_good = self.releases.marks.read().get(record.release, {}).get("mark") == GOOD
        record.pending_before = self._handlers.read()
        record.was_running = self.supervisor.is_installed() and bool(self.supervisor.status().get("daemon", True))
        record.begin(owner, run, agent)
        return self._or_give_up(self._switch)

    def status(self) -> dict[str, Any]:
        """What runs of this project; the apps of others are not asked for their health."""
        return own_part(self.releases, self.supervisor.status())

    def recheck(self) -> dict[str, Any]:
        """Some time after the switch: every worker still answers, and none had to be started again."""
        status = self.check_now()
        for app in status["apps"]:
            for worker in app["workers"]:
                if worker.get("unstable_restarts") or worker.get("crash_looping"):
                    error = RolloutError(
                        f"{app['name']} worker {worker['slot']} ended after the switch and was started again"
                    )
                    error.detail = "\n".join(self._log_tail(app["name"]))
                    raise error
        return status

    def check_now(self) -> dict[str, Any]:
        """Of a release that runs already: every worker answers, and the way through NGINX."""
        return self._check_health(load_plan(self.releases, self.record.release).health)

    def _switch(self) -> dict[str, Any]:
        record = self.record
        plan = load_plan(self.releases, record.release, amended=record.amended)
        contents = kept_contents(self.releases, record.release)
        self._install(plan.before, plan.handlers, contents)
        record.note_boundary()
        self._replace_supervisor()
        if not record.amended:
            self._apply_apps()
        left = self._left_over(plan)
        # Of two sites that want to be the default server, NGINX takes neither.
        self._install([spec for spec in left if spec["kind"] == "absent-site"], plan.handlers, contents)
        self._install(plan.after, plan.handlers, contents)
        self._install(left, plan.handlers, contents)
        self._run_handlers(plan.handlers)
        status = self._check_health(plan.health)
        check_units(plan.before)
        self.releases.switch(record.release)
        record.journal.note("switched")
        return status

    def _replace_supervisor(self) -> None:
        outstanding = [pending["handler"] for pending in self._handlers.outstanding().values()]
        handovers = [handler for handler in outstanding if handler["kind"] == HANDOVER]
        for handler in handovers:
            self._begin(handler)
        self.supervisor.replace(self._emit, always=bool(handovers))
        for handler in handovers:
            self._handlers.remove(handler["name"])

    def _apply_apps(self) -> None:
        self._say("switch the apps")
        release = self.record.release
        if self._absent is not None:  # the placement is the fleet's, whatever it was when the release was staged
            spec = record_resource(self.releases, release, self._absent, self.supervisor.user)
            if (placed := make(spec)).difference():
                self._apply(placed)
        # Noted before: `percore apply` rolls itself back when it fails, yet what it left is worth comparing once more.
        self.record.note_apps(switched=True)
        try:
            changes = self.supervisor.apply(self.releases.record_path(release), release, self._emit)
        except PartialError:
            raise
        except RolloutError:
            self.record.note_apps(switched=False)
            raise
        self._emit({"event": "changes", "changes": changes})

    def _left_over(self, plan: Plan) -> list[Spec]:
        """What the former release, or this one before it was amended, has besides."""
        record = self.record
        if record.former is None or (record.former == record.release and not record.amended):
            return []
        former = plan_or_none(self.releases, record.former)
        return [] if former is None else left_over(plan, former)

    def _check_health(self, ask: Mapping[str, Any]) -> dict[str, Any]:
        self._say("check health")
        path, seconds = ask.get("path"), float(ask.get("seconds", 10))
        try:
            status = health.wait_settled(self.status, seconds=seconds)
            host = str(ask.get("host") or names.first_host(str(ask.get("site_host", ""))))  # an older plan's
            workers = health.check_workers(status, path=path, seconds=seconds, host=host)
            if ask.get("port"):
                told = apps_told(self.releases, self.record.release, int(ask["port"]))
                health.check_port(status, told, port=int(ask["port"]), seconds=seconds)
            if ask.get("site_port"):
                health.check_site(_site_of(ask, host), seconds=seconds)
        except health.HealthError as error:
            error.detail = "\n".join(self._log_tail(error.app))
            raise
        self._say(f"healthy: {workers} workers answered" + (", NGINX too" if ask.get("site_port") else ""))
        return self.status()

    def _log_tail(self, app: str) -> list[str]:
        apps = self.supervisor.status()["apps"]
        return self.supervisor.log_tail(*selectors(self.releases, [app], apps))

    def _give_up(self, error: PercoreError) -> None:
        super()._give_up(error)
        if isinstance(error, PartialError):
            # The supervisor could not roll itself back alone; applying the former release just did.
            raise RolloutError(error.what, detail=error.detail) from error


def _site_of(ask: Mapping[str, Any], host: str) -> health.SiteCheck:
    tls_port = int(ask["tls_port"]) if ask.get("tls_port") else None
    return health.SiteCheck(int(ask["site_port"]), host, ask.get("path"), str(ask.get("site_token", "")), tls_port)

"""The supervisor as the program of a container: it runs what it is given, in the foreground, and ends when that ended.

`percore runtime` reads the process file and then executes this in its own place: one small process, that can be pid 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from percore.common.typing import Any, NamedTuple, Optional
from percore.errors import UsageError
from percore.supervisor.base import logger, rlimits
from percore.supervisor.base.home_owner import find_home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import PLAN_VARIABLE, Program
from percore.supervisor.base.states import HAS_PROCESS, State
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.apply import start
from percore.supervisor.core.jobs import Outcome
from percore.supervisor.core.manager import Manager
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.core.status import is_crash_looping
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.daemon import Daemon
from percore.supervisor.home_watch import take_lock
from percore.supervisor.logs.console import Relay
from percore.supervisor.process.process import become_subreaper, kill_unadopted
from percore.supervisor.state.fd_store import FdStore
from percore.supervisor.state.state_file import StateFile

NOTHING_ONLINE = 2  # as PM2's runtime ends


class RuntimePlan(NamedTuple):
    """What `percore runtime` worked out."""

    apps: list[dict[str, Any]]
    env: dict[str, str]
    style: str
    stamps: bool
    auto_exit: bool


def main() -> None:
    plan = read_plan()
    home = find_home()
    home.make()
    rlimits.forbid_cores()
    held = take_lock(home.lock)
    if held is None:
        raise SystemExit(f"percore: a supervisor already runs in {home.path} -> percore kill, or another PERCORE_HOME")
    become_subreaper()
    kill_unadopted(home.path, ())  # of one that was killed here; a container has none
    loop = Loop()
    relay = Relay(loop, plan.style, stamps=plan.stamps)
    logger.send_to(relay.say)
    persistence = Persistence(loop, home, Forgetful(home.state), FdStore(None))
    manager = Container(loop, home, persistence, relay.open_logs)
    configs = [AppConfig.from_record(record) for record in plan.apps]
    relay.silent = {config.name for config in configs if config.disable_logs}
    # What would write files, or read them, is switched off in one place.
    configs = [
        config._replace(disable_logs=True, log_file=None, log_type=None, log_date_format=None) for config in configs
    ]

    def begin() -> None:
        # As everything that is asked for: in a turn of the loop, after which jobs go on.
        loop.later(0, lambda: manager.jobs.submit("start", start(manager.apps, configs, plan.env), manager.has_begun))

    def after_turn() -> None:
        manager.after_turn()
        if plan.auto_exit:
            manager.end_when_nothing_runs()

    Daemon(loop, home, held, manager).serve(begin, after_turn)
    relay.close()
    sys.exit(manager.exit_code)


def read_plan() -> RuntimePlan:
    with open(int(os.environ.pop(PLAN_VARIABLE)), "rb") as file:
        return RuntimePlan(**json.load(file))


class Forgetful(StateFile):
    """A container begins anew: what runs here is in its process file, and no other supervisor adopts it."""

    def save(self, content: Mapping[str, Any]) -> None:
        pass


class Container(Manager):
    exit_code = 0
    _has_begun = False
    _is_ending = False

    def has_begun(self, reply: Mapping[str, Any]) -> None:
        """All apps were started; one that failed is tried again, as always."""
        if reply["event"] == "result":
            self._has_begun = True
            self.jobs.note_change()

    def end_when_nothing_runs(self) -> None:
        if not self._has_begun or self._is_ending:
            return
        workers = [worker for app in self.apps.values() for worker in app.workers]
        codes = [code_of(worker) for worker in workers]
        if any(code is None for code in codes) or any(app.leaving for app in self.apps.values()):
            return
        self._is_ending = True
        self.exit_code = NOTHING_ONLINE if NOTHING_ONLINE in codes else next(filter(None, codes), 0)
        log(f"nothing runs any more: ends with {self.exit_code}")
        self.loop.later(0, lambda: self.jobs.submit("end", self.shut_down(), lambda _: None, urgent=True))

    def shut_down(self) -> Outcome:
        self._is_ending = True  # on request it ends with 0, whatever the apps did before
        return super().shut_down()

    def update(self, program: Program) -> Outcome:
        raise UsageError("percore runtime is not replaced in place", next="start a new container")

    def leave(self) -> Outcome:
        raise UsageError(
            "the workers of percore runtime end with it", next="percore startup on a host, not in a container"
        )


def code_of(worker: Worker) -> Optional[int]:
    """What a worker that is over says; None while it runs, or is about to."""
    if worker.state is State.FATAL or is_crash_looping(worker):
        return NOTHING_ONLINE
    if worker.state in HAS_PROCESS or worker.state is State.BACKOFF:
        return None
    return worker.history.exit_code if worker.state is State.EXITED else 0

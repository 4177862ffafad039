"""The supervisor as the program of a container: it runs what it is given, in the foreground, and ends when that ended.

`percore runtime` reads the process file and then executes this in its own place: one small process, that can be pid 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from percore.common.typing import Any, NamedTuple
from percore.supervisor.base import logger, rlimits
from percore.supervisor.base.home_owner import find_home
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import PLAN_VARIABLE
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.apply import start
from percore.supervisor.core.container_manager import ContainerManager
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.home_watch import take_lock
from percore.supervisor.logs.console import Relay
from percore.supervisor.process.process import become_subreaper, kill_unadopted
from percore.supervisor.service import Service
from percore.supervisor.state.fd_store import FdStore
from percore.supervisor.state.state_file import StateFile


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
    manager = ContainerManager(loop, persistence, relay.open_logs)
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

    Service(loop, home, held, manager).serve(begin, after_turn)
    relay.close()
    sys.exit(manager.exit_code)


def read_plan() -> RuntimePlan:
    with open(int(os.environ.pop(PLAN_VARIABLE)), "rb") as file:
        return RuntimePlan(**json.load(file))


class Forgetful(StateFile):
    """A container begins anew: what runs here is in its process file, and no other supervisor adopts it."""

    def save(self, content: Mapping[str, Any]) -> None:
        pass

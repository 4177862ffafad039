"""`depends_on`: who starts after whom, who stops before whom, and what is told when that cannot be."""

from __future__ import annotations

import json
from typing import Any

from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

# Says that it is ready a moment after it began, and writes into one file when it came and went.
WORKER = """
import os, signal, socket, sys, time

def note(what):
    with open("order", "a") as order:
        order.write(f"{what} {os.environ['PERCORE_APP']}\\n")

def end(*_):
    note("end")
    sys.exit(0)

note("begin")
if os.path.exists(f"broken-{os.environ['PERCORE_APP']}"):
    sys.exit(3)
signal.signal(signal.SIGINT, end)
time.sleep(0.1)
note("ready")
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""


def app(supervisor: Supervisor, name: str, *needs: str, **fields: Any) -> dict[str, Any]:
    (supervisor.folder / "worker.py").write_text(WORKER)
    return supervisor.singleton(
        name=name, script="worker.py", args=[], interpreter="python3", wait_ready=True, depends_on=list(needs), **fields
    )


def three(supervisor: Supervisor) -> list[dict[str, Any]]:
    """Written in an order that is not that of the dependencies."""
    return [app(supervisor, "web", "api"), app(supervisor, "api", "db"), app(supervisor, "db")]


def take_order(supervisor: Supervisor) -> list[str]:
    """What happened since the last call."""
    path = supervisor.folder / "order"
    lines = path.read_text().splitlines()
    path.write_text("")
    return lines


def started(*names: str) -> list[str]:
    return [line for name in names for line in (f"begin {name}", f"ready {name}")]


def file_of(supervisor: Supervisor, *apps: dict[str, Any]) -> str:
    path = supervisor.folder / "ecosystem.json"
    path.write_text(json.dumps({"apps": [{("exec_mode" if key == "mode" else key): value for key, value in app.items()}
                                         for app in apps]}))  # fmt: skip
    return str(path)


def states(supervisor: Supervisor) -> dict[str, str]:
    status = json.loads(supervisor.run("status", "--json").stdout)
    return {app["name"]: app["workers"][0]["state"] for app in status["apps"]}


def test_start_restart_and_apply_begin_with_what_others_need_and_stop_ends_with_it(supervisor: Supervisor) -> None:
    supervisor.run("start", file_of(supervisor, *three(supervisor)))
    assert take_order(supervisor) == started("db", "api", "web")
    supervisor.run("stop", "all")
    assert take_order(supervisor) == ["end web", "end api", "end db"]
    supervisor.run("start", "all")
    assert take_order(supervisor) == started("db", "api", "web")
    supervisor.run("restart", "all")
    assert [line for line in take_order(supervisor) if line.startswith("ready")] == [
        "ready db",
        "ready api",
        "ready web",
    ]
    supervisor.run("delete", "all")
    assert take_order(supervisor) == ["end web", "end api", "end db"]
    supervisor.apply(*three(supervisor))
    assert take_order(supervisor) == started("db", "api", "web")


def test_what_depends_on_a_failed_app_is_not_started_and_says_why(supervisor: Supervisor) -> None:
    (supervisor.folder / "broken-db").touch()
    done = supervisor.run("start", file_of(supervisor, *three(supervisor)), check=False)
    assert done.returncode != 0
    assert "not started because of that: api, web" in done.stderr
    assert set(take_order(supervisor)) == {"begin db"}
    assert (states(supervisor)["api"], states(supervisor)["web"]) == ("stopped", "stopped")
    told = supervisor.run("describe", "web").stdout
    assert "it was not started, because 'api', which it depends on, was not started" in told
    refused = supervisor.run("start", "api", check=False)
    assert refused.returncode == 1
    assert "'db', which it depends on, is not running -> percore start db" in refused.stderr


def test_after_a_boot_each_waits_until_what_it_needs_is_up(supervisor: Supervisor) -> None:
    supervisor.apply(*three(supervisor))
    take_order(supervisor)
    supervisor.stop_daemon()
    assert take_order(supervisor) == ["end web", "end api", "end db"]
    (supervisor.folder / "broken-db").touch()
    supervisor.run("ping")
    wait_for(lambda: "api: it waits for 'db', which it depends on" in supervisor.log(), "it to be said")
    wait_for(lambda: (supervisor.folder / "order").read_text().count("begin db") > 1, "the first to try again")
    assert states(supervisor)["web"] == "stopped"
    (supervisor.folder / "broken-db").unlink()
    wait_for(lambda: set(states(supervisor).values()) == {"running"}, "all of them")
    assert take_order(supervisor)[-6:] == started("db", "api", "web")


def test_a_circle_is_refused_and_named(supervisor: Supervisor) -> None:
    done = supervisor.run(
        "start", file_of(supervisor, app(supervisor, "a", "b"), app(supervisor, "b", "a")), check=False
    )
    assert done.returncode == 2
    assert "'depends_on' contains a cycle: a -> b -> a" in done.stderr


def test_a_job_that_has_done_its_work_counts_as_up(supervisor: Supervisor) -> None:
    migrate = supervisor.singleton(name="migrate", args=["echo migrated >> order"], autorestart=False)
    supervisor.run("start", file_of(supervisor, app(supervisor, "api", "migrate"), migrate))
    assert take_order(supervisor) == ["migrated", *started("api")]

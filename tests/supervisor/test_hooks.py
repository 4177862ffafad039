"""`hooks` with real commands and a real server: what they are told, and that nothing waits for them."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.automation import hook_runner
from percore.supervisor.automation.webhook import sign
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import is_running
from tests.waiting import wait_for


def events(supervisor: Supervisor) -> list[dict[str, Any]]:
    path = supervisor.folder / "events"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


WRITE = "cat >> events; echo >> events"


def first(supervisor: Supervisor, event: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(
        lambda: next((entry for entry in events(supervisor) if entry["event"] == event), None), event
    )
    return found


def test_a_command_is_told_of_a_crash_in_json_and_variables(supervisor: Supervisor) -> None:
    note = "echo $PERCORE_EVENT $PERCORE_EVENT_APP $PERCORE_EVENT_SLOT: $PERCORE_EVENT_REASON > variables"
    supervisor.apply(supervisor.singleton(hooks={"crash": [note, WRITE]}))
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    told = first(supervisor, "crash")
    assert (told["app"], told["slot"], told["reason"], told["count"]) == ("tick", 0, "killed by SIGKILL", 1)
    assert told["log_tail"][0].startswith("start ")
    assert (supervisor.folder / "variables").read_text() == "crash tick 0: killed by SIGKILL\n"


def test_a_crash_loop_is_told_once_and_the_crashes_are_counted(supervisor: Supervisor) -> None:
    hooks = {"crash": [WRITE], "crash_loop": [WRITE], "given_up": [WRITE]}
    supervisor.apply(
        supervisor.singleton(
            args=["test -e bad && exit 3; sleep 1000"], restart_delay=0.01, max_restarts=12, hooks=hooks
        )
    )
    (supervisor.folder / "bad").touch()
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    first(supervisor, "given_up")
    first(supervisor, "crash_loop")
    assert [entry["event"] for entry in events(supervisor)].count("crash") == 1


def test_a_failed_reload_and_the_good_one_after_it_are_told(supervisor: Supervisor) -> None:
    hooks = {"reload_failed": [WRITE], "recovered": [WRITE]}
    supervisor.apply(supervisor.api(hooks=hooks))
    supervisor.apply(supervisor.api(hooks=hooks, env={"FAIL": "throw"}), release="r2", check=False)
    assert "exited with code" in first(supervisor, "reload_failed")["reason"]
    supervisor.apply(supervisor.api(hooks=hooks, env={"GOOD": "1"}), release="r3")
    assert first(supervisor, "recovered")["app"] == "api"


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, json.loads(body)))
            self.server.headers = dict(self.headers)  # type: ignore[attr-defined]
            self.server.body = body  # type: ignore[attr-defined]
            self.send_response({"bad": 500, "moved": 302}.get(self.path.split("/")[1], 200))
            if self.path == "/moved":
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            received.append((self.path, {}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    received: list[tuple[str, dict[str, Any]]] = []
    made = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    made.received = received  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_an_address_gets_the_event_and_what_fails_is_one_line_without_secrets(
    supervisor: Supervisor, server: http.server.HTTPServer
) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    supervisor.apply(
        supervisor.singleton(
            hooks={"crash": [f"{base}/good", f"{base}/bad/secret", "echo no such thing >&2; exit 7"]},
            env={"PERCORE_HOOK_SECRET": "of hooks"},
        )
    )
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    wait_for(lambda: "hook crash ended with code 7: no such thing" in supervisor.log(), "the failed command")
    assert [path for path, _ in server.received] == ["/good", "/bad/secret"]  # type: ignore[attr-defined]
    assert server.received[0][1]["event"] == "crash"  # type: ignore[attr-defined]
    assert "hook crash was answered with 500 by 127.0.0.1" in supervisor.log()
    sent = {name.lower(): value for name, value in server.headers.items()}  # type: ignore[attr-defined]
    signed = sign("of hooks", sent["webhook-id"], int(sent["webhook-timestamp"]), server.body)  # type: ignore[attr-defined]
    assert sent["webhook-signature"] == signed["webhook-signature"]
    for place in ("describe", "jlist"):
        assert "secret" not in supervisor.run(*([place, "tick"] if place == "describe" else [place])).stdout
    assert "secret" not in supervisor.log() + (supervisor.home / "state.json").read_text()


def test_an_address_that_redirects_is_a_failure_and_the_signature_goes_nowhere_else(
    server: http.server.HTTPServer,
) -> None:
    told = hook_runner.tell(f"http://127.0.0.1:{server.server_port}/moved", {"event": "crash"}, "of hooks")
    assert told == "was answered with 302 by 127.0.0.1"
    assert [path for path, _ in server.received] == ["/moved"]  # type: ignore[attr-defined]


def test_a_command_need_not_read_its_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = {"event": "crash", "app": "a", "reason": "", "log_tail": ["x" * 1_000_000]}
    assert hook_runner.run("exec <&-; echo too much >&2; exit 3", message) == "ended with code 3: too much"


def test_a_memory_restart_is_told(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances=1, max_memory_restart=120 << 20, hooks={"memory": [WRITE]}))
    supervisor.get("/leak")
    told = first(supervisor, "memory")
    assert told["app"] == "api"
    assert "MB is over its limit of 120 MB" in told["reason"]


def test_a_command_has_a_time_limit_and_what_it_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_runner, "_COMMAND_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    said = hook_runner.run("sleep 1000 & echo $! > child; sleep 1000", {"event": "crash", "app": "a", "reason": ""})
    assert said == "did not end within 0.5 s and was killed"
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: not is_running(child), "its child to end")


def test_so_many_hooks_run_at_once_and_more_are_left_out(supervisor: Supervisor) -> None:
    hook = "echo $$ >> hanging; while ! test -e done; do sleep 0.05; done"
    names = [f"tick{number}" for number in range(9)]
    supervisor.apply(*(supervisor.singleton(name=name, hooks={"crash": [hook]}) for name in names))
    hanging = supervisor.folder / "hanging"
    for count, name in enumerate(names[:8], start=1):
        os.kill(supervisor.pids(name)[0], signal.SIGKILL)
        wait_for(lambda count=count: hanging.exists() and len(hanging.read_text().split()) == count, "its hook")
    os.kill(supervisor.pids(names[8])[0], signal.SIGKILL)
    wait_for(lambda: "tick8: hook crash left out: 8 others still run" in supervisor.log(), "the ninth to be left out")
    (supervisor.folder / "done").touch()
    wait_for(lambda: not any(is_running(int(pid)) for pid in hanging.read_text().split()), "the hooks to end")


def test_a_hook_that_hangs_holds_up_nothing(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(hooks={"crash": ["echo $$ > hanging; exec sleep 1000"]}))
    [before] = supervisor.pids("tick")
    os.kill(before, signal.SIGKILL)
    path = supervisor.folder / "hanging"
    pid = int(wait_for(lambda: path.exists() and path.read_text(), "the hook"))
    wait_for(lambda: supervisor.pids("tick") not in ([before], [0]), "the next worker")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "hook crash ended with code -9" in supervisor.log(), "its end to be said")

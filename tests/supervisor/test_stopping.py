"""How a worker is asked to end: by a message, or by a signal to it alone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from percore.common.procfs import command_line_of
from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def test_a_node_program_is_asked_by_a_message_where_the_file_says_so(supervisor: Supervisor) -> None:
    (supervisor.folder / "message.js").write_text(
        "process.on('SIGINT', () => console.log('signal'));\n"
        "process.on('message', (text) => { console.log('message', text); process.exit(0); });\n"
        "console.log('up');\n"
    )
    supervisor.apply(
        supervisor.singleton(
            script="message.js", args=[], interpreter="node", shutdown_with_message=True, kill_timeout=20.0
        )
    )
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "up" in log.read_text(), "the program")
    supervisor.run("stop", "tick")
    assert log.read_text().split("\n")[:-1] == ["up", "message shutdown"]


def test_without_treekill_the_signal_reaches_the_program_alone(supervisor: Supervisor) -> None:
    (supervisor.folder / "go").touch()
    wait = "while [ -e go ]; do sleep 0.05; done"
    script = f"(trap 'echo child' INT; {wait}; echo spared) & trap 'echo parent; exit 0' INT; echo up; {wait}"
    supervisor.apply(supervisor.singleton(args=[script], interpreter="bash", treekill=False, kill_timeout=0.5))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "up" in log.read_text(), "the program")
    supervisor.run("stop", "tick")
    (supervisor.folder / "go").unlink()
    wait_for(lambda: "spared" in log.read_text(), "the end of the child")
    assert log.read_text().split() == ["up", "parent", "spared"]


UPDATED = """
const { spawn } = require('child_process');
require('http').createServer((_, answer) => answer.end(process.env.PERCORE_TOKEN)).listen(process.env.PORT);
const { AGAIN, COMMANDS, DETACHED } = process.env;
if (AGAIN !== '1') spawn('sh', ['-c', COMMANDS], { detached: DETACHED === '1', stdio: 'inherit' });
"""


@pytest.mark.parametrize(
    ("treekill", "detached", "commands"),
    [
        (False, "1", "PERCORE delete api; AGAIN=1 PERCORE start self.js --name api -i 1; echo done > done"),
        (True, "0", "PERCORE delete api; AGAIN=1 PERCORE start self.js --name api -i 1; echo done > done"),
        (True, "0", "AGAIN=1 PERCORE reload api --update-env && echo done > done"),
    ],
)
def test_a_program_that_updates_itself_by_a_command_of_percore_goes_on_to_its_end(
    supervisor: Supervisor, treekill: bool, detached: str, commands: str
) -> None:
    (supervisor.folder / "self.js").write_text(UPDATED)
    percore = f"{sys.executable} -m percore.supervisor.cli"
    env = {"COMMANDS": commands.replace("PERCORE", percore), "DETACHED": detached, "PYTHONPATH": str(ROOT)}
    supervisor.apply(supervisor.api(script="self.js", instances=1, treekill=treekill, env=env, min_uptime=0))
    wait_for((supervisor.folder / "done").exists, "the update")
    assert [worker["state"] for worker in supervisor.workers("api")] == ["running"]


def test_without_treekill_what_a_program_started_outlives_it(supervisor: Supervisor) -> None:
    script = "(exec -a spared sleep 77) & echo $! > child; wait"
    supervisor.apply(supervisor.singleton(args=[script], interpreter="bash", treekill=False))
    wait_for(lambda: (supervisor.folder / "child").exists() and (supervisor.folder / "child").read_text(), "the child")
    child = int((supervisor.folder / "child").read_text())
    supervisor.run("restart", "tick")
    second = wait_for(lambda: (pid := int((supervisor.folder / "child").read_text())) != child and pid, "the second")
    try:
        supervisor.run("delete", "tick")
        assert [command_line_of(pid) for pid in (child, second)] == [b"spared\x0077\x00"] * 2
    finally:
        os.kill(child, signal.SIGKILL)
        os.kill(second, signal.SIGKILL)

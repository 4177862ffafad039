"""How a worker is asked to end: by a message, or by a signal to it alone."""

from __future__ import annotations

from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for


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
    wait = "while :; do sleep 0.05; done"
    script = f"(trap 'echo child' INT; {wait}) & trap 'echo parent; exit 0' INT; echo up; {wait}"
    supervisor.apply(supervisor.singleton(args=[script], interpreter="bash", treekill=False, kill_timeout=0.5))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "up" in log.read_text(), "the program")
    supervisor.run("stop", "tick")
    assert log.read_text().split() == ["up", "parent"]

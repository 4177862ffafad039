"""Logs that rotate while real programs write them."""

from __future__ import annotations

from pathlib import Path

from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

WRITER = """
let number = 0;
const write = () => {
  for (let i = 0; i < 5000 && number < 100000; i++) console.log(`${number++} ${'x'.repeat(60)}`);
  if (number < 100000) setTimeout(write, 1);
  else process.kill(process.pid, 'SIGKILL');
};
write();
"""


def test_no_line_is_lost_while_the_log_rotates_and_its_writer_and_the_supervisor_are_killed(
    supervisor: Supervisor,
) -> None:
    (supervisor.folder / "writer.js").write_text(WRITER)
    log = supervisor.home / "logs" / "writer-out.log"
    supervisor.apply({
        "name": "writer", "script": "writer.js", "cwd": str(supervisor.folder), "interpreter": "node",
        "autorestart": False, "log_max_size": 256 << 10, "log_keep": 100, "min_uptime": 0.1,
    })  # fmt: skip
    for _ in range(3):
        supervisor.kill_daemon()
        supervisor.run("ping")
    wait_for(lambda: supervisor.workers("writer")[0]["pid"] == 0, "the writer to end", seconds=60)
    older = sorted(log.parent.glob("writer-out.log.*"), key=lambda path: -int(path.suffix[1:]))
    text = b"".join(path.read_bytes() for path in [*older, log])
    numbers = [int(line.split()[0]) for line in text.decode().splitlines()]
    assert len(older) > 3
    assert numbers[:100_000] == list(range(100_000))


def test_the_supervisors_own_log_is_not_endless_either(supervisor: Supervisor) -> None:
    log: Path = supervisor.home / "logs" / "percore.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"an old line\n" * 1_200_000)
    supervisor.run("ping")
    wait_for(lambda: log.stat().st_size < 10 << 20, "the log to be rotated")
    assert (log.parent / "percore.log.1").stat().st_size <= 10 << 20

"""docs/how-to/troubleshooting.md shows what `percore doctor` prints: each of its situations is made, and both compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md").read_text()
SEED = ("Workers keep restarting", "High memory", "Port already in use", "A reload is not without downtime")
STUBBORN = "process.on('SIGINT', () => {}); require('http').createServer((_, r) => r.end()).listen(process.env.PORT);"
LISTENS = "require('net').createServer().listen(process.env.PORT, '127.0.0.1');"
GROWS = """
const kept = [];
const grow = () => process.memoryUsage.rss() < 144 << 20 && setTimeout(grow, kept.push(Buffer.alloc(1 << 20, 1)) && 1);
grow();
setInterval(() => {}, 1000);
"""


def lines_of_page() -> list[str]:
    return [line for block in re.findall(r"```doctor\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def as_page(line: str, port: int) -> str:
    """The figures of this machine and moment as the page has them."""
    line = re.sub(r"this (host has|unit may use) \S+", "this host has MEMORY", line.replace(str(port), "3000"))
    line = re.sub(r"in use by .*? \(pid \d+\)", "in use by PROGRAM", line)
    return re.sub(r"(uses )1[34]\d(\.\d)?M( of its limit)", r"\g<1>146M\3", line)


def test_the_page_has_the_four_headings_of_pm2s_users_and_each_shows_what_doctor_prints() -> None:
    parts = dict(zip(re.findall(r"^## (.*)$", PAGE, re.MULTILINE), re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]))
    assert tuple(parts)[:4] == SEED
    assert all("```doctor" in parts[heading] for heading in SEED)


def test_doctor_prints_what_the_page_shows(supervisor: Supervisor) -> None:
    files = {"dies.js": "process.exit(1)", "stubborn.js": STUBBORN, "listens.js": LISTENS, "grows.js": GROWS}
    for name, text in files.items():
        (supervisor.folder / name).write_text(text)
    port = supervisor.port
    sized = [
        {"name": "web", "script": "grows.js", "max_memory_restart": "150M"},
        {"name": "big", "script": "sleep", "args": "1000", "interpreter": "none", "instances": 2, "exec_mode": "fork",
         "max_memory_restart": "900000M"},
    ]  # fmt: skip
    slow = {
        "name": "slow",
        "script": "stubborn.js",
        "exec_mode": "cluster",
        "kill_timeout": 300,
        "env": {"PORT": free_port()},
    }
    found = set[str]()

    def start(*apps: dict[str, object]) -> None:
        (supervisor.folder / "apps.json").write_text(json.dumps({"apps": apps}))
        supervisor.run("start", "apps.json", check=False)

    def sees(*words: str) -> bool:
        output = supervisor.run("doctor", check=False).stdout
        found.update(as_page(line, port) for line in output.splitlines() if line.startswith("! "))
        return all(any(word in line for line in found) for word in words)

    start({"name": "api", "script": "dies.js"})
    wait_for(lambda: sees("keeps failing"), "the app that ends to be reported", interval=0.3)
    supervisor.run("delete", "api")
    start(*sized)
    wait_for(lambda: sees("does not add up", "of its limit"), "the memory to be reported", interval=0.3)
    start(slow, {"name": "lone", "script": "listens.js", "port": port})
    supervisor.run("reload", "slow")
    wait_for(lambda: sees("was killed", "is a restart"), "the reloads to be reported", interval=0.3)
    supervisor.run("delete", "lone")
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            other.stdout.readline()
            start({"name": "lone", "script": "listens.js", "port": port})
            wait_for(lambda: sees("is in use by"), "the port to be reported", interval=0.3)
        finally:
            other.kill()
    assert {*lines_of_page()} - found == set(), "\n".join(sorted(found))

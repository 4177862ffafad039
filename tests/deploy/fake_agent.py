"""Hosts that say what a test wants: a program in the place of a host's Python, which speaks the agent's protocol."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

WORKER = {
    "slot": 0, "pid": 41, "state": "running", "release": "", "port": 5000, "memory_bytes": 1000, "cpu_percent": 0.5,
    "uptime_seconds": 1.0, "restarts": 0, "config_hash": "0a", "env_hash": "0b",
}  # fmt: skip
STATUS = {
    "release": None,
    "daemon": True,
    "apps": [{"name": "web", "mode": "cluster", "wanted": 1, "workers": [WORKER]}],
}
PHASE = {"asked": 10, "failed": 0, "faults": [], "p50": 0.1, "p99": 0.1}
CHANGES = {"changes": [{"text": "write /etc/x", "diff": "-a\n+b\n"}], "reasons": ["app web is new"], "handlers": []}
OLD, OLDER = "20260101120000-0a1b2c3d", "20260101110000-0a1b2c3d"
FACTS: dict[str, Any] = {
    "hostname": "web", "system": "Linux", "machine": os.uname().machine, "kernel": "6.1.0", "os": "debian", "os_version": "12",
    "os_codename": "bookworm", "python": "3.11.2", "python_path": "/usr/bin/python3", "uid": 0, "user": "root", "cores": 2,
    "memory_bytes": 10**9, "systemd": True, "nginx": None, "node": "/usr/bin/node", "disk_free_bytes": 10**11,
}  # fmt: skip
HONEST: dict[str, Any] = {
    "inspect": {
        "current": OLD, "marks": {OLD: {"mark": "good"}, OLDER: {"mark": "good"}}, "changes": ["write /etc/x"], "owed": [],
        "unfinished": False, "status": STATUS, "workers": [], "disk_free_bytes": 10**11, "inodes_free": None,
        "memory_free_bytes": 10**10, "versions": {"node": "20.1.0"},
    },
    "compare": CHANGES, "compare_release": CHANGES, "ports": {"strangers": {}}, "stage": {"changed": []},
    "amend": {"changed": []}, "prepare": {"changed": []}, "stop": {"changed": []},
    "activate": {"former": OLD, "status": STATUS}, "health": {"status": STATUS}, "revert": {"status": STATUS},
    "confirm": {"pruned": []}, "attach": {"status": STATUS}, "status": {"current": OLD, "status": STATUS, "missing": []},
    "probe": {"probe": {"target": None, "before": PHASE, "during": PHASE}}, "hold": {}, "let_go": {"holder": {}},
    "find": {"release": OLDER, "current": OLD}, "exec": {"code": 0}, "run": {"code": 0},
    "release_command": {"code": 0}, "jobs": {"jobs": []}, "stream": {},
    "patch": {"packages": [], "reboot": [], "units": []}, "reboot": {"boot": "1"}, "prove": {"missing": []},
    "diagnose": {"findings": [], "certificates": []},
    "history": {"entries": [
        {"at": 1.0, "who": "ann", "what": "deploy", "release": OLD, "former": None, "result": "good"},
    ]},
    "drift": {"current": OLD, "status": STATUS, "workers": [], "files": [], "owed": []},
}  # fmt: skip


def result(op: str, **changed: Any) -> dict[str, Any]:
    return {"event": "result", "ok": True, **HONEST[op], **changed}


def facts(**changed: Any) -> dict[str, Any]:
    return {"event": "facts", "facts": {**FACTS, "time": time.time(), **changed}}


class FakeHost:
    """Answers honestly but where `says` was called. `greeting` and `facts` stand beside the operations."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.program, self._asked, self._answers = folder / "python3", folder / "asked", folder / "answers.json"
        self.write_program()
        self.be_honest()

    def write_program(self) -> None:
        source = Path(__file__).resolve()
        root = source.parents[2]
        self.program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
            f"from tests.deploy.fake_agent import main\nmain({str(self.program.parent)!r})\n"
        )
        self.program.chmod(0o755)

    def be_honest(self) -> None:
        self._said: dict[str, str] = {}
        self._answers.write_text("{}")
        self._asked.write_text("")

    def says(self, op: str, *answer: Any) -> None:
        """Bytes as they are, everything else as JSON lines."""
        lines = [part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n" for part in answer]
        self._said[op] = base64.b64encode(b"".join(lines)).decode()
        self._answers.write_text(json.dumps(self._said))

    def asked(self, op: str = "") -> list[dict[str, Any]]:
        messages = [json.loads(line) for line in self._asked.read_text().splitlines()]
        return [message for message in messages if op in ("", message["op"])]


def main(folder: str) -> None:
    said = json.loads(Path(folder, "answers.json").read_text())

    def answer(op: str, otherwise: bytes) -> None:
        sys.stdout.buffer.write(base64.b64decode(said[op]) if op in said else otherwise)
        sys.stdout.buffer.flush()

    answer("greeting", b"percore agent is here\n")
    sys.stdin.buffer.readline()
    answer("facts", json.dumps(facts()).encode() + b"\n")
    with open(Path(folder, "asked"), "a") as asked:
        for line in sys.stdin.buffer:
            if line.strip():
                message = json.loads(line)
                asked.write(json.dumps(message) + "\n")
                asked.flush()
                if message["op"] != "bye":
                    answer(message["op"], json.dumps(result(message["op"])).encode() + b"\n")

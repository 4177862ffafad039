"""Asks the real ansible-core, in a process of its own that is started once for all tests of a module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    code: int
    output: str
    errors: str

    def json(self) -> Any:
        assert self.code == 0, self.errors
        return json.loads(self.output)


class Ansible:
    """`ask("ansible-inventory", "-i", path, "--list")` is what that command line answers."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self.folder = folder

    def ask(self, *words: str) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "ansible-core ended"
        return Answer(*json.loads(line))


@contextmanager
def running_ansible(folder: Path) -> Iterator[Ansible]:
    """`folder` is its home: no configuration of this machine's user plays a part."""
    settings = {
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "HOME": str(folder),
        "REACH_SET": "is set",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE", "PERCORE"))}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ansible_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**environment, **settings},
    ) as process:
        yield Ansible(process, folder)
        assert process.stdin is not None
        process.stdin.close()

"""Runs in a process of its own, so that ansible-core (GPL, a test-only dependency) stays apart from percore.

Each line on stdin is a JSON list: a command of ansible-core and its arguments. It is run in a fork of this process, which has
imported everything already; the answer is one JSON line: exit code, what it printed, what it complained about. The command
`limits` takes an inventory and many patterns, and prints a JSON list of the hosts of each; None where it refuses.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback

import ansible.cli.adhoc
import ansible.cli.inventory
import ansible.cli.vault
import ansible.plugins.inventory.auto
import ansible.plugins.inventory.host_list
import ansible.plugins.inventory.ini
import ansible.plugins.inventory.script
import ansible.plugins.inventory.yaml
import ansible.plugins.vars.host_group_vars
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

COMMANDS = {
    "ansible": ansible.cli.adhoc.AdHocCLI,
    "ansible-inventory": ansible.cli.inventory.InventoryCLI,
    "ansible-vault": ansible.cli.vault.VaultCLI,
}


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as answer:
                answer.write(json.dumps(run(json.loads(line))))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            sys.stdout.write(answer.read() + "\n")
        sys.stdout.flush()
        os.waitpid(child, 0)


def limits(path: str, *patterns: str) -> None:
    inventory = InventoryManager(loader=DataLoader(), sources=[path])
    found: list[list[str] | None] = []
    for pattern in patterns:
        try:
            inventory.subset(pattern)
            found.append([host.name for host in inventory.get_hosts("all")])
        except AnsibleError:
            found.append(None)
    print(json.dumps(found))


def run(words: list[str]) -> list[object]:
    output, errors = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    code: object = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            if words[0] == "limits":
                limits(*words[1:])
                return [0, _text(output), _text(errors)]
            cli = COMMANDS[words[0]](words)
            cli.parse()
            code = cli.run() or 0
        except SystemExit as error:
            code = error.code
        except Exception as error:
            print(f"{error}\n{traceback.format_exc()}", file=errors)
            code = 1
    return [code, _text(output), _text(errors)]


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


if __name__ == "__main__":
    main()

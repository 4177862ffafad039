"""`invoke lab.up`, `lab.down`, `lab.ssh`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from percore.errors import UsageError
from percore.lab.lab import Lab, need_root


@task(help={"hosts": "how many (1-200)", "suite": "bullseye, bookworm or trixie"})
def up(_: Context, hosts: int = 3, suite: str = "bookworm") -> None:
    """Boot real Linux hosts on this machine and write inventories/lab.yml."""
    began = time.monotonic()
    sys.stdout.write(f"booting {hosts} {suite} hosts (the first time makes the image, half a minute)\n")
    sys.stdout.flush()
    lab = Lab.up(hosts, suite)
    for host in lab.hosts:
        sys.stdout.write(f"  {host.name:<8} {host.address}\n")
    sys.stdout.write(f"up after {time.monotonic() - began:.1f} s -> ./run deploy --env lab\n")


@task
def down(_: Context) -> None:
    """End the lab and everything it started; repairs after a crash."""
    need_root()
    Lab.describe("lab", 0, Path.cwd()).down()
    sys.stdout.write("the lab is down\n")


@task(help={"host": "node1, node2..."})
def ssh(_: Context, host: str) -> None:
    """Open a shell on a lab host."""
    lab = Lab.running()
    chosen = next((candidate for candidate in lab.hosts if candidate.name == host), None)
    if chosen is None:
        raise UsageError(f"the lab has no host '{host}'", next=f"one of {', '.join(each.name for each in lab.hosts)}")
    command = chosen.ssh_command()
    os.execvp(command[0], command)


lab_collection = Collection("lab", up, down, ssh)

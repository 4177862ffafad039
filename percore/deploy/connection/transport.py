"""Starting a program on a host with the rights its address asks for: over SSH, or on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.channel import SUDO_PROMPT, Channel
from percore.deploy.connection.local import LocalChannel
from percore.deploy.connection.ssh import SshChannel
from percore.errors import PreflightError


def open_channel(address: HostAddress, program: list[str], *, directory: Path) -> Channel:
    """Starts the program on the host, with the rights the address asks for; `directory` is where a local one runs.

    Raises UnreachableError, PreflightError or UsageError, in one line.
    """
    if address.local and not sys.platform.startswith("linux"):
        raise PreflightError(
            "apps run on Linux, and this machine does not", where=address.host, next="deploy to hosts: --env production"
        )
    words = _as_user(address, program)
    return LocalChannel(address, words, directory) if address.local else SshChannel(address, words)


def _as_user(address: HostAddress, program: list[str]) -> list[str]:
    if not address.become:
        return program
    # Without a password sudo must not wait for one; with one it reads it from standard input, before the program does.
    asking = ["-S", "-p", SUDO_PROMPT] if address.become_password else ["-n"]
    return ["sudo", *asking, "-H", "-u", address.become_user, "--", *program]

"""Where a host is and who to be there, out of Ansible's own variables. Pure."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from percore.common.names import is_ssh_user
from percore.deploy.connection.openssh.config import Wish, check_host_keys
from percore.deploy.plan.host_plan import is_true
from percore.errors import UsageError

LONGEST = 10_000

DISCOVERIES = ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent")
_NAMES = " ".join(["python3", *(f"python3.{minor}" for minor in range(14, 8, -1)), "/usr/libexec/platform-python"])
FIND_PYTHON = (
    "/bin/sh",
    "-c",
    f'for python in {_NAMES}; do "$python" -c "import sys; sys.exit(sys.version_info < (3, 9))" </dev/null 2>/dev/null'
    ' && exec "$python" "$@"; done; echo "no Python 3.9 or newer was found there" >&2; exit 127',
    "sh",
)
"""The first that is new enough; it gets the words behind these."""


@dataclass(frozen=True)
class HostAddress:
    """Where and how to reach a host, under short names. Passwords are never shown."""

    host: str
    local: bool
    ssh: Wish
    password: str | None = field(repr=False)
    become: bool
    become_user: str
    become_password: str | None = field(repr=False)
    python: tuple[str, ...]  # the words that start it

    @property
    def address(self) -> str:
        return self.ssh.host


def read_address(host: str, variables: Mapping[str, Any]) -> HostAddress:
    """Raises UsageError for a value that cannot be honoured: dropping it silently could reach another host."""

    def text(*names: str) -> str | None:
        found = next((name for name in names if variables.get(name) not in (None, "")), None)
        return None if found is None else _plain(found, variables[found], host)

    connection = (text("ansible_connection") or "ssh").removeprefix("ansible.builtin.")
    if connection not in ("local", "ssh", "smart", "paramiko", "paramiko_ssh"):
        raise UsageError(
            f"ansible_connection '{connection}' is not known", where=f"host {host}", next="use ssh or local"
        )
    method = text("ansible_become_method") or "sudo"
    become = is_true(variables.get("ansible_become", False))
    if become and method not in ("sudo", "ansible.builtin.sudo"):
        raise UsageError(f"ansible_become_method '{method}' is not supported", where=f"host {host}", next="use sudo")
    is_local = connection == "local"
    return HostAddress(
        host=host,
        local=is_local,
        ssh=Wish(
            host=text("ansible_host", "ansible_ssh_host") or host,
            port=_port(text("ansible_port", "ansible_ssh_port"), host),
            user=text("ansible_user", "ansible_ssh_user"),
            key_file=text("ansible_ssh_private_key_file", "ansible_private_key_file"),
            arguments=() if is_local else _ssh_arguments(variables, host),
        ),
        password=text("ansible_password", "ansible_ssh_password", "ansible_ssh_pass"),
        become=become,
        become_user=_user(text("ansible_become_user", "ansible_sudo_user") or "root", host),
        become_password=text("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
        or os.environ.get("PERCORE_BECOME_PASSWORD"),
        python=_python(text("ansible_python_interpreter") or "", host, is_local=is_local),
    )


def _ssh_arguments(variables: Mapping[str, Any], host: str) -> tuple[str, ...]:
    words: list[str] = []
    for name in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"):
        try:
            words += shlex.split(_plain(name, str(variables.get(name) or "").replace("\n", " "), host))
        except ValueError as error:
            raise UsageError(f"{name} cannot be split into words: {error}", where=f"host {host}") from None
    try:
        check_host_keys(words)
    except UsageError as error:
        raise UsageError(error.what, where=f"host {host}", next=error.next) from None
    return tuple(words)


def _python(written: str, host: str, *, is_local: bool) -> tuple[str, ...]:
    """A program, perhaps with arguments; `auto` in all its forms: one that is new enough is looked for there."""
    if written in DISCOVERIES or not written:
        return (os.path.realpath(sys.executable),) if is_local else FIND_PYTHON if written else ("python3",)
    try:
        return tuple(shlex.split(written))
    except ValueError as error:
        raise UsageError(
            f"ansible_python_interpreter cannot be split into words: {error}", where=f"host {host}"
        ) from None


def _port(value: str | None, host: str) -> int | None:
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,5}", value) and 0 < int(value) < 65536:
        return int(value)
    raise UsageError(f"ansible_port should be a number and is {value[:80]!r}", where=f"host {host}")


def _plain(name: str, value: object, host: str) -> str:
    """No program, file or question takes more: a line feed in a password would answer the next question, too."""
    text = str(value)
    if re.search(r"[\x00\r\n\ud800-\udfff]", text) or len(text) > LONGEST:
        raise UsageError(f"{name} is more than one line, or no text", where=f"host {host}")
    return text


def _user(value: str, host: str) -> str:
    if is_ssh_user(value):
        return value
    raise UsageError(f"ansible_become_user {ascii(value)[:80]} is not the name of a user", where=f"host {host}")

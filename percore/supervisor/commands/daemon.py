"""`percore daemon`: imports nothing that the supervisor does not need, because it stays in its memory."""

from __future__ import annotations

from percore.supervisor import daemon
from percore.supervisor.commands.asking import take_none


def run_daemon(arguments: list[str]) -> int:
    take_none("daemon", arguments)
    daemon.main()
    return 0

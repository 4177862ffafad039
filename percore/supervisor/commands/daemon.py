"""`percore daemon`: imports nothing that the supervisor does not need, because it stays in its memory."""

from __future__ import annotations

from percore.supervisor import daemon


def run_daemon(arguments: list[str]) -> int:
    if arguments:
        from percore.supervisor.commands.parsing import take_none

        take_none("daemon", arguments)
    daemon.main()
    return 0

"""`percore daemon`: imports nothing that the supervisor does not need, because it stays in its memory."""

from __future__ import annotations

from percore.supervisor import daemon


def run_daemon(_: list[str]) -> int:
    daemon.main()
    return 0

"""The table of exit codes."""

from __future__ import annotations

from collections.abc import Iterator

from percore.supervisor.commands.help.exit_codes import EXIT_CODES
from tests.reference.markdown import table


def all_codes() -> Iterator[str]:
    yield from table(
        ("Code", "Meaning", "State of the hosts"), [(str(code.number), code.meaning, code.state) for code in EXIT_CODES]
    )

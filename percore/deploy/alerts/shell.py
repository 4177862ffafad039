"""A command line as a person wrote it, for the shell that the control machine has."""

from __future__ import annotations

import os


def shell_command(line: str) -> list[str]:
    return ["cmd", "/c", line] if os.name == "nt" else ["/bin/sh", "-c", line]

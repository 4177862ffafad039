"""What the operator types to run a task here, for hints that can be pasted as they are."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def to_type(words: str) -> str:
    """`invoke deploy`, or `./run deploy` in a checkout, or by path where invoke is not in PATH."""
    return f"{_program()} {words}"


def _program() -> str:
    if script := os.environ.get("PERCORE_RUN"):  # set by ./run
        return shlex.quote(script)
    if shutil.which("invoke"):
        return "invoke"
    return f"{shlex.quote(relative(sys.executable))} -m invoke"


def relative(path: str | Path) -> str:
    """A path as seen from here; as it is where that is shorter, or where it is on another drive."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except ValueError:
        return str(path)

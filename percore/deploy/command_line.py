"""What the operator types to run a task here, for hints that can be pasted as they are."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from pathlib import Path


def to_type(words: str, collection: str = "") -> str:
    """`invoke deploy`, or `./run deploy` in a checkout, or by path where invoke is not in PATH.

    `collection` names percore's tasks where they are not in tasks.py; otherwise it is the one that was typed.
    """
    named = f" -c {shlex.quote(collection)}" if (collection := collection or _collection()) else ""
    return f"{_program()}{named} {words}"


def _program() -> str:
    if script := os.environ.get("PERCORE_RUN"):  # set by ./run and setup.sh
        return shlex.quote(script)
    if shutil.which("invoke"):
        return "invoke"
    return f"{shlex.quote(relative(sys.executable))} -m invoke"


def _collection() -> str:
    for option, name in itertools.pairwise(sys.argv):
        if option in ("-c", "--collection") and name != "tasks":
            return name
    return ""


def relative(path: str | Path) -> str:
    """A path as seen from here; as it is where that is shorter, or where it is on another drive."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except ValueError:
        return str(path)

"""What runs a script: by its first line, its extension, or what is found in PATH. Not for the supervisor itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from percore.common.typing import Optional
from percore.supervisor.base.first_line import (
    MOST_BYTES,
    NODE_TOOLS,
    NODES,
    FirstLine,
    kind_of,
    read_first_line,
    starts_node,
)

_BY_EXTENSION = {".js": "node", ".cjs": "node", ".mjs": "node", ".ts": "bun", ".tsx": "bun", ".py": "python3", ".sh": "bash",
                 ".rb": "ruby", ".pl": "perl", ".php": "php", ".coffee": "coffee", ".ls": "lsc"}  # fmt: skip

# What Node tries where there is no file of the name itself.
NODE_ENDINGS = ("", ".js", ".cjs", ".mjs", ".json", ".node", ".ts")


def find_program(script: str, cwd: str, path: Optional[str]) -> str:
    """What an interpreter runs: a file of the app, or else the program of this name in PATH, as in PM2."""
    place = os.path.join(cwd, script)
    if os.sep in script or script.startswith("-") or any(os.path.exists(f"{place}{end}") for end in NODE_ENDINGS):
        return script
    return shutil.which(script, path=path) or script


def find_interpreter(path: str) -> FirstLine:
    """By the file's first line, which wins over the extension where it names another kind of program; `none`: the file itself."""
    usual = _BY_EXTENSION.get(os.path.splitext(path)[1], "none")
    line = read_first_line(head_of(path))
    if line and not _is_usual(line, usual):
        return line
    if usual == "none" and os.path.isfile(path) and not os.access(path, os.X_OK):
        return FirstLine("node", ())
    return FirstLine(usual, ())


def _is_usual(line: FirstLine, usual: str) -> bool:
    """True for what the extension means as well: `#!/usr/bin/env python` in a .py file, where only python3 may be."""
    is_named = os.path.dirname(line.program) in ("", "/bin", "/usr/bin", "/usr/local/bin")
    return usual != "none" and is_named and not line.arguments and kind_of(line.program) == kind_of(usual)


def runs_node(interpreter: str, script: str, arguments: Sequence[str], cwd: str) -> bool:
    """Also by a wrapper: bin/www, node_modules/.bin/next, `npm start`, a shell script that ends in `exec node`."""
    if kind_of(interpreter) in NODES or (interpreter == "none" and script in NODE_TOOLS):
        return True
    if script == "-c":
        return starts_node(os.fsencode(" ".join(arguments[:1])))
    is_wrapped = interpreter == "none" or kind_of(interpreter) in ("sh", "env")
    program = script if is_wrapped else interpreter
    place = os.path.join(cwd, program)
    if os.sep not in program and not os.path.isfile(place):
        place = shutil.which(program) or place
    head = head_of(place)
    return (is_wrapped or head[:2] == b"#!") and starts_node(head)


def head_of(path: str) -> bytes:
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""

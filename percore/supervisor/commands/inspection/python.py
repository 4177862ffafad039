"""Profiles of Python programs by py-spy, where it is installed: it reads the process from outside, which goes on running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from percore.common.passwords import for_programs
from percore.errors import PercoreError

_INSTALL = "pip install py-spy"
_EXTRA_SECONDS = 60


def profile_python(pid: int, seconds: float, path: str) -> None:
    """Writes a profile in speedscope's form. Raises PercoreError."""
    program = find_py_spy()
    if not program:
        raise PercoreError("profiles of Python programs are made by py-spy, which is not installed", next=_INSTALL)
    words = [
        "record",
        "--pid",
        str(pid),
        "--duration",
        str(max(1, round(seconds))),
        "--format",
        "speedscope",
        "--output",
        path,
    ]
    try:
        done = subprocess.run(
            [program, *words, "--subprocesses", "--nonblocking"], env=for_programs(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=seconds + _EXTRA_SECONDS, umask=0o077,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PercoreError(f"py-spy did not end well: {error}", where=program) from None
    if done.returncode or not os.path.exists(path):
        hint = "run it as root" if os.geteuid() else ""
        raise PercoreError(
            "py-spy could not make a profile", where=program, detail=done.stderr.strip()[-2000:], next=hint
        )


def find_py_spy() -> str:
    """In PATH, or beside this Python. Not beside the worker's, which may be another user's."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=os.path.dirname(sys.executable)) or ""


def refuse_heap(name: str) -> None:
    raise PercoreError(
        f"{name} runs Python, whose heap cannot be read from outside",
        next="tracemalloc in the program counts it from its start on (PYTHONTRACEMALLOC=10), or: pip install memray",
    )

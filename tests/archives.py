"""Unpacking what was packed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def unpack(archive: Path, directory: Path) -> None:
    """By the system's tar: the filters of Python's are not in every release of Python 3.11."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xf", str(archive), "--no-same-owner", "-C", str(directory)], check=True)

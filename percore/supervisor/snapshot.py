"""What should run and what runs, on disk: old or new, never half.

The file is only readable by its owner, because an app's environment is part of what should run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Optional

VERSION = 1


def save(path: str, content: Mapping[str, Any]) -> None:
    """Writes atomically: a new file, synced, renamed over the old one. Raises OSError, the old file then stands."""
    unfinished = f"{path}.new"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"version": VERSION, "boot": boot_id(), **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)


def load(path: str) -> tuple[Optional[dict[str, Any]], str]:
    """(content, problem): None and "" when there is no file; None and a sentence when it was set aside as unreadable."""
    try:
        return read(path), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        aside = f"{path}.unreadable-{int(time.time())}"
        try:
            os.rename(path, aside)
        except OSError:
            aside = path
        return None, f"{path} could not be read ({error}); it was set aside as {aside}"


def read(path: str) -> dict[str, Any]:
    """The content of a state file, which stays where it is. Raises OSError, or ValueError when it is none of this version."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict) or content.get("version") != VERSION or not isinstance(content.get("apps"), list):
        raise ValueError(f"it is not a state file of version {VERSION}")
    return content


def boot_id() -> str:
    """Names this boot of the machine: pids of another boot mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""

"""What should run and what runs, on disk: old or new, never half, and the one before beside it.

Environments lie in a file of their own, because they hold secrets: the state names them, and can be shown to others. Both
files are only readable by their owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

VERSION = 1
_ENVIRONMENTS = ("env", "base_env")


class StateFile:
    def __init__(self, path: str) -> None:
        self.path = path
        self.environments_path = f"{os.path.splitext(path)[0]}.env.json"
        self.previous_path = f"{path}.previous"
        self._names: dict[str, str] = {}  # by content
        self._on_disk: set[str] = set()
        self._used_before: set[str] = set()

    def save(self, content: Mapping[str, Any]) -> None:
        """Raises OSError; the files then stand as they were."""
        used: set[str] = set()

        def name_of(environment: Mapping[str, str]) -> str:
            text = json.dumps(environment, sort_keys=True)
            name = self._names.setdefault(text, os.urandom(8).hex())
            used.add(name)
            return name

        state = _replace(content, dict, name_of)
        wanted = used | self._used_before
        if wanted != self._on_disk:
            # Before the state that names them; those of the state before are kept as long as it is.
            self._names = {text: name for text, name in self._names.items() if name in wanted}
            _write(self.environments_path, {name: json.loads(text) for text, name in self._names.items()})
            self._on_disk = wanted
        self._used_before = used
        with contextlib.suppress(OSError):
            os.unlink(self.previous_path)
        with contextlib.suppress(OSError):
            os.link(self.path, self.previous_path)
        _write(self.path, {"version": VERSION, "boot": boot_id(), **state})

    def load(self) -> tuple[Optional[dict[str, Any]], str]:
        """(content, problem). None when there is none; a sentence when a file was set aside as unreadable."""
        try:
            return self.read(), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError) as error:
            problem = f"{self.path} could not be read ({error}); it was set aside as {_set_aside(self.path)}"
        try:
            return self.read(self.previous_path), f"{problem}, and the one before it is used"
        except (OSError, ValueError):
            return None, problem

    def read(self, path: str = "") -> dict[str, Any]:
        """The content; nothing on disk changes. Raises OSError, or ValueError when it is not one of this version."""
        with open(path or self.path, encoding="utf-8") as file:
            state = json.load(file)
        if not isinstance(state, dict) or state.get("version") != VERSION or not isinstance(state.get("apps"), list):
            raise ValueError(f"it is not a state file of version {VERSION}")
        try:
            with open(self.environments_path, encoding="utf-8") as file:
                environments = json.load(file)
        except FileNotFoundError:
            environments = {}
        if not isinstance(environments, dict):
            raise ValueError(f"{self.environments_path} does not hold environments")
        self._names = {json.dumps(environment, sort_keys=True): name for name, environment in environments.items()}
        self._on_disk = self._used_before = set(environments)

        def environment_of(name: str) -> Any:
            if name not in environments:
                raise ValueError(f"an environment is missing in {self.environments_path}")
            return environments[name]

        content: dict[str, Any] = _replace(state, str, environment_of)
        return content


def _replace(value: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """A copy in which each environment of this kind, wherever it stands, is replaced."""
    if isinstance(value, Mapping):
        return {
            key: replace(item) if key in _ENVIRONMENTS and isinstance(item, kind) else _replace(item, kind, replace)
            for key, item in value.items()
        }
    return [_replace(item, kind, replace) for item in value] if isinstance(value, (list, tuple)) else value


def _write(path: str, content: Mapping[str, Any]) -> None:
    """Atomically: a new file, synced, renamed over the old one."""
    unfinished = f"{path}.new"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)


def _set_aside(path: str) -> str:
    aside = f"{path}.unreadable-{int(time.time())}"
    try:
        os.rename(path, aside)
    except OSError:
        return path
    return aside


def boot_id() -> str:
    """Names this boot of the machine: pids of another boot mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""

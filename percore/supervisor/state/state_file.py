"""What should run and what runs, on disk: old or new, never half, and the one before beside it.

Environments lie in a separate file, because they hold secrets: the state names them, and can be shown to others. Both
files are only readable by their owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Mapping

from percore.common.files import write_file
from percore.common.procfs import start_time_of
from percore.common.typing import Any, Optional

VERSION = 1
_NAME = re.compile("[0-9a-f]{16}")
_ENVIRONMENTS = ("env", "base_env", "hooks")  # an address to post to is a secret as well


class StateFile:
    def __init__(self, path: str) -> None:
        self.path = path
        self.environments_path = f"{os.path.splitext(path)[0]}.env.json"
        # Two of the same: unlike the state, they seldom change, so the one before would not do.
        self._environment_files = (self.environments_path, f"{self.environments_path}.copy")
        self._names: dict[str, str] = {}  # by content
        self._on_disk: set[str] = set()
        self._used_before: set[str] = set()
        self._foreign: dict[str, Any] = {}
        self._lacks = False  # an environment that the state names

    def save(self, content: Mapping[str, Any]) -> None:
        """Raises OSError; the files then stand as they were."""
        used: set[str] = set()

        def name_of(environment: Mapping[str, str]) -> str:
            text = json.dumps(environment, sort_keys=True)
            name = self._names.setdefault(text, os.urandom(8).hex())
            used.add(name)
            return name

        state = _replace(content, dict, name_of)
        wanted = used | self._used_before | set(self._foreign)
        if wanted != self._on_disk:
            # Before the state that names them; those of the state before are kept as long as it is.
            self._names = {text: name for text, name in self._names.items() if name in wanted}
            environments = {**self._foreign, **{name: json.loads(text) for text, name in self._names.items()}}
            for path in self._environment_files:
                _write(path, environments)
            self._on_disk = wanted
        self._used_before = used
        _keep(self.path)
        _write(self.path, {"version": VERSION, "boot": boot_id(), "init": start_time_of(1), **state})

    def load(self) -> tuple[Optional[dict[str, Any]], str]:
        """The content, or None where there is none that can be used; and what was wrong, for the log."""
        try:
            content = self.read()
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError) as error:
            problem = f"{self.path} could not be read ({error}); it was set aside as {_set_aside(self.path)}"
        else:
            return content, "; ".join(filter(None, (self._keep_newer(content["version"]), self._missing())))
        try:
            return self.read(_previous(self.path)), f"{problem}, and the one before it is used"
        except (OSError, ValueError):
            return None, problem

    def read(self, path: str = "") -> dict[str, Any]:
        """The content; nothing on disk changes. Raises OSError, or ValueError when it is no state.

        One of a newer version is read as far as this one understands it. An environment that is missing stays the name it has.
        """
        state = _read(path or self.path)
        if (
            not isinstance(state.get("apps"), list)
            or type(state.get("version")) is not int
            or state["version"] < VERSION
        ):
            raise ValueError(f"it is not a state file of version {VERSION}")
        environments = self._read_environments()
        self._names = {json.dumps(environment, sort_keys=True): name for name, environment in environments.items()}
        self._used_before = set(environments)
        # What is none of ours is never dropped.
        self._foreign = {name: found for name, found in environments.items() if not _NAME.fullmatch(name)}
        self._lacks = False

        def environment_of(name: str) -> Any:
            self._lacks |= name not in environments and bool(_NAME.fullmatch(name))
            return environments.get(name, name)

        try:
            content: dict[str, Any] = _replace(state, str, environment_of)
        except RecursionError:
            raise ValueError("it is too deep") from None
        return content

    def _missing(self) -> str:
        return f"environments that {self.path} names are not in {self.environments_path}" if self._lacks else ""

    def _keep_newer(self, version: int) -> str:
        """What a newer percore wrote, as it was, before ours takes its place; returns what to say about it."""
        if version <= VERSION:
            return ""
        for path in (self.path, self.environments_path):
            _link(path, f"{path}.version-{version}")
        return (
            f"{self.path} is of version {version}, and this percore writes {VERSION}; what it does not know is kept, and the "
            f"file stays as {self.path}.version-{version}"
        )

    def _read_environments(self) -> dict[str, Any]:
        found = []
        for path in self._environment_files:
            with contextlib.suppress(OSError, ValueError):
                found.append(_read(path))
        # Where one of the two is broken, the next `save` writes both.
        self._on_disk = set(found[0]) if len(found) == 2 else set()
        return found[0] if found else {}

    def forget(self) -> None:
        """What was written is gone: the next `save` writes all of it."""
        self._on_disk, self._used_before = set(), set()

    def exists(self) -> bool:
        return os.path.exists(self.path) or os.path.exists(_previous(self.path))

    def remove(self) -> None:
        """Forgets all of it. Raises OSError."""
        for path in (self.path, _previous(self.path), *self._environment_files):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _previous(path: str) -> str:
    return f"{path}.previous"


def _keep(path: str) -> None:
    if os.path.exists(path):  # else it was set aside, and the one before it is all there is
        _link(path, _previous(path))


def _link(path: str, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
    with contextlib.suppress(OSError):
        os.link(path, name)


def _replace(value: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """A copy in which each environment of this kind, wherever it stands, is replaced."""
    if isinstance(value, Mapping):
        return {
            key: replace(item) if key in _ENVIRONMENTS and isinstance(item, kind) else _replace(item, kind, replace)
            for key, item in value.items()
        }
    return [_replace(item, kind, replace) for item in value] if isinstance(value, (list, tuple)) else value


def _read(path: str) -> dict[str, Any]:
    """Raises OSError, or ValueError when it is not, to the last bit, what was written."""
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except RecursionError:
            raise ValueError("it is too deep") from None
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    if content.pop("checksum", None) != _checksum(_text_of(content)):
        raise ValueError("its checksum is wrong")
    return content


def _write(path: str, content: Mapping[str, Any]) -> None:
    text = _text_of(content)
    write_file(path, f'{text[:-1]}, "checksum": {_checksum(text)}}}'.encode(), is_alone=True)


def _text_of(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _set_aside(path: str) -> str:
    aside = f"{path}.unreadable-{int(time.time())}"
    try:
        os.rename(path, aside)
    except OSError:
        return path
    return aside


def is_this_boot(boot: str, init: int) -> bool:
    """`init` is the start of process 1, which tells the boots of a container apart where its boot id is the machine's.

    An older state has none (0).
    """
    return boot == boot_id() and init in (0, start_time_of(1))


def boot_id() -> str:
    """Names this boot of the machine: pids of another boot mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""

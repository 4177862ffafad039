"""What `ssh -G` says of one host, said of many: where no file and no word tells hosts apart, it is asked for two that nobody has,
and their answers must be the same but for the name.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from percore.common.bounds import read_file
from percore.deploy.yaml_files import FileStamp, stamp_of

FEW = 4
"""So many hosts are asked for one by one: that is as quick."""

KEPT_SECONDS = 60.0
"""A run that goes on for days sees a configuration that was changed."""

SYSTEM = "/etc/ssh/ssh_config"
DEEPEST = 16

_STAND_INS = ("first-stand-in.invalid", "second-stand-in.invalid")
_PLAIN_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_TELLS_APART = re.compile(r"(match|host|include|canonicalize\w*)\b", re.IGNORECASE)

Options = Mapping[str, Sequence[str]]
Stamps = dict[str, FileStamp]
Ask = Callable[[Any], Options]


class _Answer(NamedTuple):
    made: float
    files: Stamps  # that were read for it
    options: Options | None

    def is_fresh(self) -> bool:
        return time.monotonic() - self.made < KEPT_SECONDS and self.files == {
            path: stamp_of(path) for path in self.files
        }


class _Shared:
    """The answers, by what they are about: a wish without its host."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._asked: dict[Any, int] = {}
        self._answers: dict[Any, _Answer] = {}

    def options(self, wish: Any, ask: Ask) -> Options | None:
        key = replace(wish, host="")
        with self._changing:
            self._asked[key] = self._asked.get(key, 0) + 1
            if self._asked[key] <= FEW:
                return None
            if key not in self._answers or not self._answers[key].is_fresh():
                files: Stamps = {}
                self._answers[key] = _Answer(time.monotonic(), files, _find(wish, ask, files))
            return self._answers[key].options


_shared = _Shared()


def shared_options(wish: Any, ask: Ask) -> Options | None:
    """None: the host must be asked for itself."""
    if not _PLAIN_HOST.fullmatch(wish.host):
        return None
    found = _shared.options(wish, ask)
    return None if found is None else {**found, "host": [wish.host], "hostname": [wish.host]}


def _find(wish: Any, ask: Ask, files: Stamps) -> Options | None:
    if _is_script(shutil.which("ssh") or "") or tells_apart(wish.arguments, files):
        return None
    answers = [dict(ask(replace(wish, host=name))) for name in _STAND_INS]
    names = [
        (found.pop("host", [name]), found.pop("hostname", [])) for name, found in zip(_STAND_INS, answers, strict=True)
    ]
    is_same = answers[0] == answers[1] and names == [([name], [name]) for name in _STAND_INS]
    return answers[0] if is_same else None


def tells_apart(arguments: Sequence[str], files: Stamps) -> bool:
    """Whether a file that ssh reads has a section for some hosts, or a word makes another host of the one that is named.

    `files` gets those that were read.
    """
    if any(_TELLS_APART.match(word.removeprefix("-o").strip()) for word in arguments):
        return True
    return any(_has_sections(path, files) for path in _files(arguments))


def _is_script(path: str) -> bool:
    """Somebody's own `ssh`, which may add words, such as another configuration."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


def _home() -> str:
    """ssh asks the system, whatever `HOME` says."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError, KeyError):
            import pwd

            return pwd.getpwuid(os.getuid()).pw_dir
    return os.path.expanduser("~")


def _files(arguments: Sequence[str]) -> list[str]:
    """`-F FILE` takes the place of both."""
    following = [*arguments, ""][1:]
    given = [word[2:] or after for word, after in zip(arguments, following, strict=True) if word.startswith("-F")]
    return given or [f"{_home()}/.ssh/config", SYSTEM]


def _has_sections(path: str, files: Stamps, depth: int = 0) -> bool:
    """What cannot be read, or is included in a way that is not known here, may have some."""
    files[path] = stamp_of(path)
    try:
        text = "" if path == "none" else read_file(path).decode(errors="replace")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    for line in text.splitlines():
        keyword, value = [*re.split(r"[\s=]+", line.strip(), maxsplit=1), ""][:2]
        if keyword.lower() == "include" and depth < DEEPEST:
            if any(_has_sections(found, files, depth + 1) for found in _included(value, path)):
                return True
        elif _TELLS_APART.fullmatch(keyword) and (keyword.lower(), value.strip(' "')) != ("host", "*"):
            return True
    return False


def _included(value: str, path: str) -> Iterator[str]:
    """As ssh_config(5) has it: relative to ~/.ssh, or to /etc/ssh in the system's files."""
    system = os.path.dirname(SYSTEM)
    base = system if path.startswith(f"{system}/") else f"{_home()}/.ssh"
    for pattern in value.split():
        if set(pattern) & set("$%\"'\\"):
            yield "/"  # a directory: it cannot be read
        yield from glob.glob(os.path.join(base, os.path.expanduser(pattern)))

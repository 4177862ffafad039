"""Where a worker's output goes: files it writes by itself, so that nothing is lost when it, or we, die.

Node writes to pipes asynchronously and loses what is buffered on a crash; to a file it writes at once. The supervisor is
never in the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import NamedTuple, Optional

from percore.supervisor.config import FORK, AppConfig

_TAIL_LINES = 20
_NOWHERE = {"/dev/null", "NULL", "null"}


class LogPaths(NamedTuple):
    out: str
    error: str


def log_paths(config: AppConfig, number: int, folder: str) -> LogPaths:
    """Absolute paths of both streams of worker `number`; `/dev/null` where logging is off.

    Several workers of an app write separate files unless `merge_logs` is set or there can be only one.
    """
    if config.disable_logs:
        return LogPaths(os.devnull, os.devnull)
    is_merged = config.merge_logs or (config.mode == FORK and config.instances == 1)

    def place(given: Optional[str], stream: str) -> str:
        if given in _NOWHERE:
            return os.devnull
        path = (
            os.path.join(config.cwd, given) if given else os.path.join(folder, f"{file_name(config.name)}-{stream}.log")
        )
        if is_merged:
            return path
        stem, extension = os.path.splitext(path)
        return f"{stem}-{number}{extension}"

    return LogPaths(place(config.out_file, "out"), place(config.error_file, "error"))


def file_name(app_name: str) -> str:
    """An app's name as part of a file name: a slash would leave the folder."""
    return app_name.replace("/", "-")


def open_log(path: str) -> int:
    """A descriptor for a worker to append to; missing folders are made. Raises OSError."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size if path != os.devnull else 0
    except OSError:
        return 0


def data_begins(log: int) -> int:
    """The first byte of an open log that is not in the hole which a rotation left (rotation.py)."""
    try:
        return os.lseek(log, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole, or nothing at all
            return os.fstat(log).st_size
        raise


def last_lines(path: str, count: int, *, since: int = 0, until: Optional[int] = None) -> list[str]:
    """The last `count` lines of the file between byte `since` and byte `until`, read from its end, whatever its size."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError:
            return []
        first, end = data_begins(file.fileno()), file.seek(0, os.SEEK_END)
        since = max(since, first) if since <= end else first
        end = end if until is None else min(end, until)
        start = end
        parts: list[bytes] = []  # last one first: to join them each time would read a long line again and again
        newlines = 0
        while start > since and newlines <= count:
            step = min(64 * 1024, start - since)
            start -= step
            file.seek(start)
            parts.append(file.read(step))
            newlines += parts[-1].count(b"\n")
        lines = b"".join(reversed(parts)).splitlines()
        return [line.decode(errors="replace") for line in lines[-count:]] if count else []


def last_words(paths: LogPaths, since: tuple[int, int]) -> list[str]:
    """The last lines of both streams after these bytes, errors last: what tells why a worker ended."""
    out = last_lines(paths.out, _TAIL_LINES, since=since[0])
    if paths.error == paths.out:
        return out
    error = last_lines(paths.error, _TAIL_LINES, since=since[1])
    return [*out[-(_TAIL_LINES - len(error)) :], *error] if len(error) < _TAIL_LINES else error

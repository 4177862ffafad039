"""Where a worker's output goes: files it writes by itself, so that nothing is lost when it, or we, die.

Node writes to pipes asynchronously and loses what is buffered on a crash; to a file it writes at once. The supervisor is
never in the way. Where lines are to carry stamps, or to stand in a third file as well, the worker writes a spool, and
`scribe` writes from there what people read.
"""

from __future__ import annotations

import errno
import os

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import file_name
from percore.supervisor.config.kinds import FORK
from percore.supervisor.user_files import AnyUser, Found, find

_TAIL_LINES = 20
_NOWHERE = {"/dev/null", "NULL", "null"}
_STEP = 64 * 1024


class LogPaths(NamedTuple):
    out: str
    error: str
    combined: str = ""  # a third file with both; empty: there is none


class FileId(NamedTuple):
    """Names a file whatever it is called."""

    device: int
    inode: int


def log_paths(config: AppConfig, number: int, folder: str) -> LogPaths:
    """Absolute paths of what people read of worker `number`; `/dev/null` where logging is off.

    Several workers of an app write separate files unless `merge_logs` is set or there can be only one.
    """
    if config.disable_logs:
        return LogPaths(os.devnull, os.devnull)
    is_merged = config.merge_logs or (config.mode == FORK and config.instances == 1)

    def place(given: Optional[str], usual: str) -> str:
        if given in _NOWHERE:
            return os.devnull
        path = (
            os.path.join(config.cwd, given) if given else os.path.join(folder, f"{file_name(config.name)}{usual}.log")
        )
        if is_merged:
            return path
        stem, extension = os.path.splitext(path)
        return f"{stem}-{number}{extension}"

    combined = "" if config.log_file is None else place(config.log_file, "")
    return LogPaths(
        place(config.out_file, "-out"), place(config.error_file, "-error"), "" if combined == os.devnull else combined
    )


def has_scribe(config: AppConfig) -> bool:
    """True when somebody must write the logs for the worker: with stamps, as JSON, or both streams into one file."""
    wishes = config.log_date_format or config.log_type == "json" or config.log_file not in {None, *_NOWHERE}
    return bool(wishes) and not config.disable_logs


def written_paths(config: AppConfig, number: int, folder: str) -> tuple[str, str]:
    """What the worker itself has open."""
    if not has_scribe(config):
        return log_paths(config, number, folder)[:2]
    spool = os.path.join(folder, "spool", f"{file_name(config.name)}-{number}")
    return f"{spool}-out", f"{spool}-error"


def open_log(path: str, user: Optional[AnyUser] = None) -> int:
    """A descriptor for a worker of this user (None: ours) to append to; missing directories are made. Raises OSError."""
    with find_log(path, user) as found:
        return found.take()


def find_log(path: str, user: Optional[AnyUser]) -> Found:
    """As `open_log`, for whoever also reads what lies beside it."""
    found = find(path, user, os.O_WRONLY | os.O_APPEND | os.O_CREAT, makes=True)
    os.set_blocking(found.descriptor, True)  # a program does not expect that a pipe may be full
    return found


def id_of(found: os.stat_result) -> FileId:
    return FileId(found.st_dev, found.st_ino)


def has_file(path: str, file: FileId) -> bool:
    """True when this very file has that name."""
    try:
        return id_of(os.stat(path)) == file
    except OSError:
        return False


def data_begins(log: int) -> int:
    """The first byte of an open log that is not in the hole which a rotation left (rotation.py)."""
    try:
        return os.lseek(log, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole, or nothing at all
            return os.fstat(log).st_size
        raise


def last_lines(
    path: str, count: int, *, user: Optional[AnyUser] = None, since: int = 0, most: int = 1 << 20
) -> list[str]:
    """The last `count` lines of the file from byte `since` on, read from its end; of endless lines only `most` bytes."""
    try:
        with find(path, user, os.O_RDONLY) as found:
            log = found.take()
    except OSError:
        return []
    try:
        first, end = data_begins(log), os.fstat(log).st_size
        since = max(since, first, end - most) if since <= end else max(first, end - most)
        parts: list[bytes] = []  # last one first: to join them each time would read a long line again and again
        newlines = 0
        while end > since and newlines <= count:
            step = min(_STEP, end - since)
            end -= step
            parts.append(os.pread(log, step, end))
            newlines += parts[-1].count(b"\n")
    except OSError:
        return []
    finally:
        os.close(log)
    lines = b"".join(reversed(parts)).splitlines()
    return [line.decode(errors="replace") for line in lines[-count:]] if count else []


def last_words(paths: tuple[str, str], since: tuple[int, int], user: Optional[AnyUser]) -> list[str]:
    """The last lines of both streams after these bytes, errors last: what tells why a worker ended."""
    out = last_lines(paths[0], _TAIL_LINES, user=user, since=since[0])
    if paths[1] == paths[0]:
        return out
    error = last_lines(paths[1], _TAIL_LINES, user=user, since=since[1])
    return [*out[-(_TAIL_LINES - len(error)) :], *error] if len(error) < _TAIL_LINES else error

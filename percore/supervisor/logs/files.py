"""Where a worker's output goes: files it writes by itself, so that nothing is lost when it, or we, die.

Node writes to pipes asynchronously and loses what is buffered on a crash; to a file it writes at once. The supervisor is
never in the way. Where lines are to carry stamps, or to stand in a third file as well, the worker writes a raw log, from
which the log formatter makes what people read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from percore.common.typing import Callable, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.user import Identity
from percore.supervisor.base.user_files import AnyUser, FoundPath, find, open_file
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.config.app_bounds import file_name
from percore.supervisor.config.kinds import FORK

_TAIL_LINES = 20
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_NOWHERE = {"/dev/null", "NULL", "null"}
_STEP = 64 * 1024

LogOpener = Callable[[AppConfig, Place, tuple[str, str], Optional[Identity]], "list[int]"]
"""Opens what a process is to write, and returns the descriptors."""


class LogPaths(NamedTuple):
    out: str
    error: str
    combined: str = ""  # a third file with both; empty: there is none


class FileId(NamedTuple):
    """Names a file whatever it is called."""

    device: int
    inode: int


class OpenLogs(NamedTuple):
    """What one process has open as standard output and error."""

    paths: tuple[str, str] = (os.devnull, os.devnull)
    starts: tuple[int, int] = (0, 0)  # bytes that were there before
    files: tuple[FileId, ...] = ()

    @property
    def is_moved(self) -> bool:
        """True when it is no longer what it should write."""
        return not all(path == os.devnull or has_file(path, file) for path, file in zip(self.paths, self.files))

    def tail(self, user: Optional[AnyUser]) -> list[str]:
        """The last lines of the process."""
        return last_words(self.paths, self.starts, user) if self.files else []


def note_logs(paths: tuple[str, str], opened: Sequence[int]) -> OpenLogs:
    """Of descriptors that were just opened for a process."""
    out, error = map(os.fstat, opened)
    return OpenLogs(paths, (out.st_size, error.st_size), (id_of(out), id_of(error)))


def log_paths(config: AppConfig, number: int, directory: str) -> LogPaths:
    """Absolute paths of what people read of worker `number`; `/dev/null` where logging is off.

    Several workers of an app write separate files unless `merge_logs` is set or there can be only one.
    """
    if config.disable_logs:
        return LogPaths(os.devnull, os.devnull)
    is_merged = config.merge_logs or (config.mode == FORK and config.instances == 1)

    def place(given: Optional[str], usual: str) -> str:
        if given in _NOWHERE:
            return os.devnull
        usual = os.path.join(directory, f"{file_name(config.name)}{usual}.log")
        path = os.path.normpath(os.path.join(config.cwd, given)) if given else usual
        if is_merged or (given and _is_shared(path)):
            return path
        stem, extension = os.path.splitext(path)
        return f"{stem}-{number}{extension}"

    combined = "" if config.log_file is None else place(config.log_file, "")
    return LogPaths(
        place(config.out_file, "-out"), place(config.error_file, "-error"), "" if combined == os.devnull else combined
    )


def _is_shared(path: str) -> bool:
    """A device or a pipe is there once, for all workers."""
    try:
        return path.startswith("/dev/") or not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def has_formatter(config: AppConfig) -> bool:
    """True when a formatter writes the logs for the worker: with stamps, as JSON, or both streams into one file."""
    wishes = config.log_date_format or config.log_type == "json" or config.log_file not in {None, *_NOWHERE}
    return bool(wishes) and not config.disable_logs


def written_paths(config: AppConfig, number: int, directory: str) -> tuple[str, str]:
    """What the worker itself has open."""
    if not has_formatter(config):
        return log_paths(config, number, directory)[:2]
    raw = os.path.join(directory, "spool", f"{file_name(config.name)}-{number}")
    return f"{raw}-out", f"{raw}-error"


def open_logs(config: AppConfig, place: Place, paths: tuple[str, str], user: Optional[Identity]) -> list[int]:
    """Raises PercoreError; what was opened before is closed."""
    opened: list[int] = []
    for path in paths:
        try:
            opened.append(open_log(path, user))
        except OSError as error:
            for log in opened:
                os.close(log)
            raise PercoreError(
                f"its log {path} cannot be opened: {error.strerror}",
                next=f"let {config.user or 'the supervisor'} write there, or change out_file and error_file",
            ) from None
    return opened


def open_log(path: str, user: Optional[AnyUser] = None) -> int:
    """A descriptor for a worker of this user (None: ours) to append to; missing directories are made. Raises OSError."""
    log = open_file(path, user, _APPENDING, makes=True)
    os.set_blocking(log, True)  # a program does not expect that a pipe may be full
    return log


def find_log(path: str, user: Optional[AnyUser]) -> FoundPath:
    """As `open_log`, for a caller that also reads what lies beside it."""
    found = find(path, user, _APPENDING, makes=True)
    os.set_blocking(found.descriptor, True)
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
        log = open_file(path, user, os.O_RDONLY)
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


class OwnLog:
    """The supervisor's own log, which takes the place of `sys.stderr`: the journal under systemd, `logs/percore.log` otherwise.

    A full disk costs lines, which are counted, and nothing else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lost = 0
        self.is_file = has_file(path, id_of(os.fstat(2)))

    def write(self, text: str) -> int:
        lost = f"(the disk was full: {self._lost} messages before this one are missing)\n" if self._lost else ""
        try:
            os.write(2, (lost + text).encode(errors="replace"))
            self._lost = 0
        except OSError:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """After the file was moved or deleted. Raises OSError."""
        if self.is_file and not has_file(self._path, id_of(os.fstat(2))):
            opened = open_log(self._path)
            os.dup2(opened, 2)
            os.close(opened)

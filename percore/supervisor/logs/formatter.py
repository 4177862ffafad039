"""Writes the logs that people read, for workers that want stamps, JSON, or both streams in one file.

Such a worker writes a raw log, as it would write its log; this process, one for each home, reads it and appends what
becomes of them to the logs. It does not depend on the supervisor, nor the workers on it: whichever is killed, at any moment,
the next one goes on at the same byte. What to read and where to write stands in a plan that the supervisor leaves in a file.

Before a piece is appended, the place it comes from and the ends of the logs are noted beside the raw log. After a kill in
between, they tell how much of it was written, also where the logs were rotated meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Mapping

from percore.common.typing import Any, Callable, NamedTuple, Optional
from percore.supervisor.base.home import Home
from percore.supervisor.base.home_owner import go_on_as_owner
from percore.supervisor.base.inotify import MODIFY, Inotify
from percore.supervisor.base.user import identity_or_none
from percore.supervisor.base.user_files import FoundPath, acting, open_here
from percore.supervisor.logs.files import data_begins, find_log
from percore.supervisor.logs.follow import moved_since, name_of
from percore.supervisor.logs.formatter_files import FormatterFiles
from percore.supervisor.logs.node_json import node_json
from percore.supervisor.logs.rotate import noted, punch
from percore.supervisor.logs.timestamps import ISO_UTC, make_stamper

_PIECE = 64 << 10
_NOTE_BYTES = 1024
_PUNCHED_BYTES = 1 << 20
_KEPT_BYTES = 128 << 10  # the last words of a worker that fails are read from its raw log
_GATHER_SECONDS = 0.02  # what is written within so long is appended at once
_RETRY_SECONDS = 1.0  # after a log could not be written


class RawLogEntry(NamedTuple):
    """One raw log: what its lines become, and the logs they go to."""

    spool: str
    targets: tuple[str, ...]
    app: str
    id: int
    stream: str  # out or err
    date_format: str  # empty: no stamps
    is_json: bool
    user: Optional[str] = None  # whose the logs are, as the app's config names him
    group: Optional[str] = None


class End(NamedTuple):
    """Where a log ends, to be counted from after rotations."""

    inode: int
    newest: int  # names the newest older file
    first: int  # where the log's own data begins
    size: int


def read_plan(path: str) -> list[RawLogEntry]:
    try:
        with open(path, encoding="utf-8") as file:
            return [RawLogEntry(**{**entry, "targets": tuple(entry["targets"])}) for entry in json.load(file)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def make_writer(entry: RawLogEntry) -> Callable[[bytes, float, bool], bytes]:
    """A function from a piece of output, its moment, and whether it goes on a line that was begun, to what is written."""
    stamp = make_stamper(entry.date_format or ISO_UTC)

    def as_json(piece: bytes, moment: float, goes_on: bool) -> bytes:
        about = {"timestamp": stamp(moment), "type": entry.stream, "process_id": entry.id, "app_name": entry.app}
        lines = piece.decode(errors="replace").split("\n")
        if lines[-1] == "":
            lines.pop()
        return b"".join(node_json({"message": line, **about}) + b"\n" for line in lines)

    def stamped(piece: bytes, moment: float, goes_on: bool) -> bytes:
        prefix = f"{stamp(moment)}: ".encode()
        text = piece[:-1].replace(b"\n", b"\n" + prefix) + piece[-1:]
        return text if goes_on else prefix + text

    def as_it_is(piece: bytes, moment: float, goes_on: bool) -> bytes:
        return piece

    return as_json if entry.is_json else stamped if entry.date_format else as_it_is


class RawLog:
    def __init__(self, entry: RawLogEntry) -> None:
        self.entry = entry
        self._write = make_writer(entry)
        self._note = open_here(f"{entry.spool}.at", os.O_RDWR | os.O_CREAT, 0o600)
        self._raw = open_here(entry.spool, os.O_RDWR | os.O_CREAT)
        self._position, self._goes_on = 0, False
        self._logs: dict[str, FoundPath] = {}
        self._take_up()

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
        for descriptor in (self._note, self._raw):
            os.close(descriptor)

    def advance(self) -> bool:
        """Writes one piece; False when there was none. Raises OSError when a log cannot be written; nothing is lost then."""
        piece = self._next_piece()
        if not piece:
            return False
        self._append(piece, time.time())
        if self._position - data_begins(self._raw) > _PUNCHED_BYTES:
            with contextlib.suppress(OSError):
                punch(self._raw, (self._position - _KEPT_BYTES) & ~4095)
        return True

    def finish(self) -> None:
        """Its worker is gone: a last line without an end is a line, too."""
        while self.advance():
            pass
        self.write_rest()

    def write_rest(self) -> None:
        """The beginning of a line that is not ended yet, such as a prompt."""
        if rest := self._rest():
            self._append(rest, time.time())

    @property
    def waits_for_an_end(self) -> bool:
        """An object is made of a whole line only; other lines may be shown as they come."""
        return not self.entry.is_json and bool(self._rest())

    def _rest(self) -> bytes:
        return os.pread(self._raw, _PIECE, self._position)

    def remove(self) -> None:
        """It will not be written any more."""
        for path in (self.entry.spool, f"{self.entry.spool}.at"):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _next_piece(self) -> bytes:
        if os.fstat(self._raw).st_size < self._position:
            self._position, self._goes_on = 0, False  # it was emptied
        piece = os.pread(self._raw, _PIECE, self._position)
        whole = piece.rfind(b"\n") + 1
        # A line that does not end within a piece is written as it comes.
        return piece[:whole] or (piece if len(piece) == _PIECE else b"")

    # -- once each -----------------------------------------------------------------------------------------------------

    def _append(self, piece: bytes, moment: float) -> None:
        logs = [self._log(path) for path in self.entry.targets]
        pending = {"length": len(piece), "moment": moment, "logs": [_end_of(log) for log in logs]}
        self._put_down(pending)
        text = self._write(piece, moment, self._goes_on)
        for log in logs:
            _write_all(log.descriptor, text)
        self._step_over(piece)

    def _step_over(self, piece: bytes) -> None:
        self._position += len(piece)
        self._goes_on = not piece.endswith(b"\n")
        self._put_down(None)

    def _put_down(self, pending: Optional[Mapping[str, Any]]) -> None:
        """One write of less than a page, which a kill does not cut."""
        found = os.fstat(self._raw)
        note = {"inode": found.st_ino, "position": self._position, "goes_on": self._goes_on, "pending": pending}
        os.pwrite(self._note, json.dumps(note).encode().ljust(_NOTE_BYTES), 0)

    def _take_up(self) -> None:
        try:
            note = json.loads(os.pread(self._note, _NOTE_BYTES, 0))
            if note["inode"] != os.fstat(self._raw).st_ino:
                return
            self._position, self._goes_on = note["position"], note["goes_on"]
        except (ValueError, KeyError, TypeError):
            return
        pending = note["pending"]
        if pending:
            piece = os.pread(self._raw, pending["length"], self._position)
            text = self._write(piece, pending["moment"], self._goes_on)
            for path, fields in zip(self.entry.targets, pending["logs"]):
                log = self._log(path)
                _write_all(log.descriptor, text[_written(log, text, End(*fields)) :])
            self._step_over(piece)

    def _log(self, path: str) -> FoundPath:
        """The open log, again where it was moved or deleted."""
        log = self._logs.get(path)
        if log:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(log.descriptor), os.stat(path)):
                    return log
            log.close()
            del self._logs[path]
        self._logs[path] = log = find_log(path, identity_or_none(self.entry.user, self.entry.group))
        return log


def _end_of(log: FoundPath) -> End:
    """Looks until it sees the same twice: a rotation may be under way, though no other process appends."""
    with acting(log.user):
        while (found := _look(log)) != _look(log):
            pass
    return found


def _look(log: FoundPath) -> End:
    """What is being moved counts as moved."""
    step, found = noted(log.path), os.fstat(log.descriptor)
    newest = (name_of(f"{log.path}.moving") if step else 0) or name_of(f"{log.path}.1")
    return End(found.st_ino, newest, step.cut if step else data_begins(log.descriptor), found.st_size)


def _written(log: FoundPath, text: bytes, before: End) -> int:
    """How much of the text is in the log already."""
    now = _end_of(log)
    if now.inode == before.inode:
        moved = 0
        if now.newest != before.newest:
            with contextlib.suppress(OSError), acting(log.user):
                moved = sum(size for _, size in moved_since(log.path, before.newest))
        count = moved + now.size - now.first - (before.size - before.first)
        if 0 <= count <= len(text):
            return count
    # It was emptied, or replaced: its end must tell.
    with open(f"/proc/self/fd/{log.descriptor}", "rb") as file:
        end = os.pread(file.fileno(), len(text), max(0, now.size - len(text)))
    return next((count for count in range(len(text), 0, -1) if end.endswith(text[:count])), 0)


def _write_all(log: int, text: bytes) -> None:
    while text:
        text = text[os.write(log, text) :]


class Formatter:
    def __init__(self, files: FormatterFiles) -> None:
        self._plan = files.plan
        self._raw_logs: dict[RawLogEntry, RawLog] = {}
        self._inotify = Inotify()
        for directory in (files.raw_logs, files.directory):
            self._inotify.add(directory, more=MODIFY)
        self._said: set[str] = set()

    def run(self) -> None:
        """Until the plan names no raw log any more."""
        while self._follow_plan():
            is_troubled = self._write_all()
            begun = [raw for raw in self._raw_logs.values() if raw.waits_for_an_end]
            seconds = _RETRY_SECONDS if is_troubled or begun else None
            if select.select([self._inotify.descriptor], [], [], seconds)[0]:
                time.sleep(_GATHER_SECONDS)
                self._inotify.read()
                continue
            for raw in begun:
                self._try(raw.write_rest)

    def _follow_plan(self) -> bool:
        wanted = read_plan(self._plan)
        for entry in [entry for entry in self._raw_logs if entry not in wanted]:
            raw = self._raw_logs.pop(entry)
            self._try(raw.finish)
            raw.close()
            if entry.spool not in {other.spool for other in wanted}:
                raw.remove()
        for entry in wanted:
            if entry not in self._raw_logs:
                with contextlib.suppress(OSError):
                    self._raw_logs[entry] = RawLog(entry)
        return bool(wanted)

    def _write_all(self) -> bool:
        """True when something could not be written, and is to be tried again."""
        is_troubled = False
        has_moved = True
        while has_moved:
            has_moved = False
            for raw in self._raw_logs.values():
                done = self._try(raw.advance)
                is_troubled |= done is None
                has_moved |= bool(done)
        return is_troubled

    def _try(self, write: Callable[[], Any]) -> Any:
        """None when the logs cannot be written, which is said once: standard error is the supervisor's log."""
        try:
            return write() or False
        except OSError as error:
            sentence = f"{error.filename or 'a log'} cannot be written: {error.strerror}"
            if sentence not in self._said:
                self._said.add(sentence)
                with contextlib.suppress(OSError):
                    os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {sentence}; its lines wait\n".encode())
            return None


def main() -> None:
    home = Home.of_user()
    go_on_as_owner(home)
    files = FormatterFiles.of(home)
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # One that was told to end may still be finishing; two would write everything twice.
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    Formatter(files).run()

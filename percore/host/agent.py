"""The loop on the host: one message in, its work done, results out, until the control side goes away.

Each message is one JSON line with an `op`; the agent answers with JSON lines, the last one `{"event": "result"}`. What
the host lacks it asks for with `{"event": "need", "parts": [sha256...]}` and then reads exactly those bytes. The first
line out, unasked, are the facts.

Three things end with this process, whatever ends it: the rollout lock, a stream of log lines, and an activation that
the control side has not confirmed. The last is the dead man's switch: without a word from the control side the host rolls back to
its former release. A link can be cut without a word, so both sides say now and then that they are alive: we while we work, the
control side with empty lines while it waits for other hosts. For a moment after a cut another agent of the same rollout can take
up the switch (`attach`); what an agent that was killed left behind is rolled back by the next one (`inspect`).
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

from percore.common.control import decode_or_none
from percore.errors import PercoreError, PreflightError, UsageError, describe_os_error
from percore.host import facts
from percore.host.operations.table import perform
from percore.host.session import Session

Event = dict[str, Any]

ALIVE_SECONDS = 3.0
"""How often we say that we are still there."""

GRACE_SECONDS = 10.0
"""So long a switch waits for the control side to come back after its connection ended without a word."""


class Agent:
    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._session = Session(source, self.emit)
        self._writing = threading.Lock()
        self._working = threading.Lock()
        self._heard = 0  # lines
        self._is_deaf = False

    def run(self) -> None:
        self.emit({"event": "facts", "facts": facts.gather()})
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            for line in iter(self._source.readline, b""):
                with self._working:
                    if line.strip():
                        self.answer(line)
                    self._heard += 1
        finally:
            with self._working:
                self.leave()

    def _watch(self) -> None:
        """Say that we live; when the control side was silent for too long while we waited for it, leave.

        What counts is for how long we listened: a host that was asleep, or too busy to read what it was told, heard nothing.
        """
        silent = 0.0
        while True:
            heard = self._heard
            time.sleep(ALIVE_SECONDS)
            self.emit({"event": "alive"})
            if self._heard != heard or self._has_more() or not self._working.acquire(blocking=False):
                silent = 0.0
                continue
            try:
                silent += ALIVE_SECONDS
                if silent > self._session.patience:
                    self._session.is_over = True
                    self.leave()
                    sys.stderr.write(f"nothing was heard there from this machine for {silent:g} s\n")
                    sys.stderr.flush()
                    os._exit(1)
            finally:
                self._working.release()

    def _has_more(self) -> bool:
        """Something was said that is not read yet."""
        asked = select.poll()
        asked.register(self._source.fileno(), select.POLLIN)
        return bool(asked.poll(0))

    def answer(self, line: bytes) -> None:
        try:
            result = {"ok": True, **perform(self._session, _parse(line))}
        except PercoreError as error:
            result = {"ok": False, "error": _describe(error)}
        except OSError as error:
            result = {"ok": False, "error": _describe(_fault_of(error))}
        except Exception as error:
            fault = PercoreError(f"{type(error).__name__}: {error}")
            result = {"ok": False, "error": {**_describe(fault), "trace": traceback.format_exc()}}
        self.emit({"event": "result", **result})

    def leave(self) -> None:
        """The control side is gone: roll back what it did not confirm, then free the lock."""
        session = self._session
        if session.pending is not None:
            session.say_leaving()
            deadline = time.monotonic() + (0.0 if session.is_over else min(GRACE_SECONDS, session.patience))
            while time.monotonic() < deadline:
                time.sleep(0.1)  # an agent of the same rollout may end this process and go on
            session.roll_back_pending()
        session.release_locks()

    def emit(self, event: Event) -> None:
        """One line out. When the control side no longer listens the work goes on: half a switch would be worse."""
        with self._writing:
            if self._is_deaf:
                return
            try:
                self._sink.write(json.dumps(event).encode() + b"\n")
                self._sink.flush()
            except (OSError, ValueError):
                self._is_deaf = True
                self._session.say_leaving()


def _parse(line: bytes) -> dict[str, Any]:
    message = decode_or_none(line)
    if message is None:
        raise UsageError("the agent was sent a line that is no message")
    return message


def _fault_of(error: OSError) -> PercoreError:
    """What a person puts right has an exit code of its own; nothing was switched, or the switch tells it itself."""
    what = describe_os_error(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PreflightError(what, next="make room there, then deploy again")
    if error.errno == errno.EROFS:
        return PreflightError(what, next="mount it there so that it can be written, then try again")
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid():
        return PreflightError(what, next="set ansible_become: true")
    return PercoreError(what)


def _describe(error: PercoreError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("what", "where", "next", "detail", "exit_code")}


def _ignore(signum: int, frame: Any) -> None:
    """A hang-up of the connection is noticed as the end of input; children get the usual reaction back."""


def main() -> None:
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGINT, _ignore)
    # The login's own may be 077, and other users are to enter what is put here; what is private says so.
    os.umask(0o022)
    # Nothing but result lines may reach the control side on this pipe, whatever a library prints.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Agent(sys.stdin.buffer, sink).run()
    # Nothing is left to do, and others wait for this end: Python would tidy up for as long as a deploy compares.
    os._exit(0)

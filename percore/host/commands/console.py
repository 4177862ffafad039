"""A command whose input comes from the control side while it runs: on a terminal of its own, or its output line by line."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
from typing import Callable, Optional

from percore.common import typed
from percore.common.control import decode_or_none
from percore.errors import UsageError
from percore.host import replies
from percore.host.commands import messages as m
from percore.host.commands.release import LOOK_SECONDS, end_group
from percore.host.release.app_command import AppCommand, make_app_command
from percore.host.release.target import Target
from percore.host.session import Session
from percore.host.streams import LONGEST_SHOWN_LINE

PIECE_BYTES = 32 * 1024
MOST_PENDING = 256 * 1024
"""Bytes of input that wait for the command; meanwhile no more are read."""

END_OF_INPUT = b"\x04"
"""What ends the input of a program on a terminal."""


def run(session: Session, request: m.RunRequest, target: Target) -> replies.ExitReply:
    """Once, in the current release. It ends with the connection."""
    release = target.releases.current()
    if release is None:
        raise UsageError("nothing is deployed here yet", next="deploy first")
    place = target.releases.path(release)
    command = make_app_command(target.supervisor, release, place, request.app, request.words)
    started = {"event": "started", "release": release, "app": command.app}
    talk = _on_terminal(session, command, request.terminal) if request.terminal else _by_lines(session, command)
    try:
        session.emit(started)  # from now on the control side may send input
        return replies.ExitReply(talk.run())
    finally:
        talk.close()


def _by_lines(session: Session, command: AppCommand) -> Conversation:
    child = command.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdin
    assert child.stdout
    return Conversation(session, child, (child.stdin.fileno(), child.stdout.fileno()), ConsoleLines(session).show)


def _on_terminal(session: Session, command: AppCommand, terminal: m.OperatorTerminal) -> Conversation:
    ours, theirs = os.openpty()
    try:
        _resize(ours, terminal)
        if "user" in command.rights:
            os.fchown(theirs, command.rights["user"], -1)
        os.fchmod(theirs, 0o600)
        # The first terminal that the leader of a session opens is the one that its signals come from.
        words = ["/bin/sh", "-c", 'exec <"$0" >"$0" 2>&1; exec "$@"', os.ttyname(theirs), *command.words]
        env = {**command.env, "TERM": terminal.kind}
        null = subprocess.DEVNULL
        child = command._replace(words=words, env=env).start(stdin=null, stdout=null, stderr=null)

        def show(piece: bytes) -> None:
            session.emit({"event": "output", "data": base64.b64encode(piece).decode()})

        return Conversation(session, child, (ours, ours), show, terminal=theirs)
    except BaseException:
        os.close(ours)
        os.close(theirs)
        raise


def _resize(terminal: int, size: m.OperatorTerminal) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


class ConsoleLines:
    """Output as lines of a log; one without an end comes in pieces."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rest = b""

    def show(self, piece: bytes) -> None:
        """Nothing is the end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._rest and (not piece or len(self._rest) > LONGEST_SHOWN_LINE):
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._session.emit({"event": "line", "text": line.decode(errors="replace")})


class Conversation:
    """Between the control side and a child: `ends` are where its input is written and its output is read.

    `terminal` is the child's end of a terminal, which is held open so that its output can be read to the last.
    """

    def __init__(
        self, session: Session, child: subprocess.Popen[bytes], ends: tuple[int, int], show: Callable[[bytes], None],
        *, terminal: Optional[int] = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._child = child
        self._input, self._output = ends
        self._show = show
        self._terminal = terminal
        self._said = b""  # an unfinished message
        self._pending = b""
        self._is_at_end = False  # of the input
        self._is_heard = self._shows = True
        os.set_blocking(self._input, False)

    def run(self) -> int:
        """Until the child ends; returns how, as a shell says it."""
        is_over = False
        while not is_over:
            is_over = self._child.poll() is not None  # asked before, so that its last words are read after
            is_over = not self._take_turn(0.0 if is_over else LOOK_SECONDS) and is_over
        self._show(b"")
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        if self._child.poll() is None:
            end_group(self._child, signal.SIGHUP)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._terminal is not None:
            os.close(self._output)
            os.close(self._terminal)

    def _take_turn(self, seconds: float) -> bool:
        """Whether there was output."""
        hears = self._is_heard and len(self._pending) < MOST_PENDING
        source = self._session.source.fileno()
        reads = [*([self._output] if self._shows else []), *([source] if hears else [])]
        ready, writable, _ = select.select(reads, [self._input] if self._pending else [], [], seconds)
        if source in ready:
            self._hear(source)
        if writable:
            self._write()
        return self._output in ready and self._pass_output()

    def _pass_output(self) -> bool:
        piece = os.read(self._output, PIECE_BYTES)
        self._shows = bool(piece)  # nothing: the child closed it, and perhaps works on
        if piece:
            self._show(piece)
        return bool(piece)

    def _hear(self, source: int) -> None:
        piece = os.read(source, PIECE_BYTES)
        *lines, self._said = (self._said + piece).split(b"\n")
        if len(self._said) > MOST_PENDING:
            raise UsageError("the agent was told a line that is too long")
        for line in filter(None, map(bytes.strip, lines)):
            self._follow(line)
        if not piece:
            self._leave()

    def _follow(self, line: bytes) -> None:
        message = decode_or_none(line) or {}
        try:
            if message.get("op") == "input":
                self._take_input(base64.b64decode(typed.read(m.InputMessage, message).data, validate=True))
            elif message.get("op") == "resize" and self._terminal is not None:
                _resize(self._output, typed.read(m.OperatorTerminal, message))
            elif message.get("op") == "bye":
                self._session.is_over = True
                self._leave()
        except ValueError as error:
            raise UsageError(f"the agent was told '{message['op']}' {error}") from None

    def _take_input(self, data: bytes) -> None:
        self._is_at_end = not data
        self._pending += data or (END_OF_INPUT if self._terminal is not None else b"")
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                self._pending = self._pending[os.write(self._input, self._pending) :] if self._pending else b""
            except (BrokenPipeError, ValueError):
                self._pending = b""  # it reads nothing more
        if self._is_at_end and not self._pending and self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def _leave(self) -> None:
        """The operator is gone."""
        self._is_heard = False
        end_group(self._child, signal.SIGHUP)

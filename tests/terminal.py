"""A program in a terminal of its own, as a person sees it: what stands on the screen, and keys."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import ClassVar, Optional

import pyte

from tests.waiting import wait_for


class _Screen(pyte.Screen):
    def scroll_up(self, count: int = 1) -> None:
        """SU, which curses uses and pyte does not know."""
        row = self.cursor.y
        self.cursor.y = self.margins.bottom if self.margins else self.lines - 1
        for _ in range(count):
            self.index()
        self.cursor.y = row


class _Stream(pyte.Stream):
    csi: ClassVar = {**pyte.Stream.csi, "S": "scroll_up"}  # type: ignore[misc]
    events = frozenset({*pyte.Stream.events, "scroll_up"})


class Terminal:
    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, columns: int = 150, lines: int = 30
    ) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
            size = ("COLUMNS", "LINES")  # they would count for more than the terminal's own
            env = {name: value for name, value in env.items() if name not in size}
            # What curses would use of xterm's sequences, pyte does not know all (REP).
            os.execvpe(argv[0], list(argv), {**env, "TERM": "screen-256color", "LC_ALL": "C.UTF-8"})
        self.screen = _Screen(columns, lines)
        self.raw = b""
        self._stream = _Stream(self.screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.status: Optional[int] = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def read(self) -> str:
        """The whole screen, as it is after all that was written up to now."""
        while select.select([self._fd], [], [], 0)[0]:
            try:
                part = os.read(self._fd, 65536)
            except OSError:  # the program has ended
                break
            self.raw += part
            self._stream.feed(self._decoder.decode(part))
        return "\n".join(self.screen.display)

    def wait_for(self, text: str) -> str:
        self._wait(lambda: text in self.read(), f"'{text}' on the screen")
        return self.read()

    def wait_until_gone(self, text: str) -> None:
        self._wait(lambda: text not in self.read(), f"'{text}' to leave the screen")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_for(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.read()}") from None

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._fd)[:4]

    def wait_for_end(self) -> int:
        def ended() -> bool:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
            return bool(pid)

        wait_for(ended, "the program to end")
        self.read()
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

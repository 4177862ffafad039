"""`invoke run`: a command once, on one host, in the current release, as its app; on a terminal where the operator has one."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from percore.deploy.connection.agent import Remote
from percore.deploy.connection.messages import Current
from percore.deploy.report import Report, print_line, write_raw
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.scope import Scope
from percore.errors import PreflightError, UnreachableError, UsageError

PIECE_BYTES = 16 * 1024


def run_command(scope: Scope, report: Report, words: Sequence[str], *, app: str = "") -> int:
    """Returns the command's exit code; one word is a line for the host's shell."""
    if not words:
        raise UsageError("there is no command to run", next=scope.command("run", "-- COMMAND"))
    hosts = [host for host in load_hosts(scope) if app not in host.absent_apps]
    if not hosts:
        raise PreflightError(f"app '{app}' is on none of these hosts", next="see 'placement', or leave out --limit")
    with closing_hosts(hosts):
        host = _holder_of(app, _connect_first(hosts), hosts)
        return _converse(host, report, words, app)


def _connect_first(hosts: Sequence[Host]) -> Host:
    """The first host that answers."""
    for host in hosts[:-1]:
        try:
            host.connect()
            return host
        except UnreachableError as error:
            print_line(f"warning: {error.where}: {error.what}; trying the next host")
    hosts[-1].connect()
    return hosts[-1]


def _holder_of(app: str, host: Host, hosts: Sequence[Host]) -> Host:
    """Of an app of which the fleet has one, the host that runs it; any other has no such app."""
    if app not in host.single_apps:
        return host
    status: Current = host.ask("status")
    name = status.get("placement", {}).get(app, host.name)
    holder = next((each for each in hosts if each.name == name), None)
    if holder is None:
        raise PreflightError(f"app '{app}' runs on {name}, which is none of these hosts", next="change --limit")
    if holder is not host:
        holder.connect()
    return holder


def _converse(host: Host, report: Report, words: Sequence[str], app: str) -> int:
    kind = kind_of_terminal()
    terminal = {**_size(), "kind": kind} if kind else None
    keyboard = Keyboard(host.agent, is_terminal=bool(kind))

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            report.end_progress()
            print_line(f"{host.name}: release {event['release']}, app {event['app']}")
            keyboard.start()
        elif event["event"] == "line":
            report.log("", event["text"])
        elif event["event"] == "output":
            write_raw(base64.b64decode(event["data"]))

    with keyboard:
        reply = host.agent.ask(
            "run", target=host.target(), words=list(words), app=app, terminal=terminal, on_event=on_event
        )
    return int(reply["code"])


def _size() -> dict[str, int]:
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return {"rows": max(1, rows), "columns": max(1, columns)}


def kind_of_terminal() -> str:
    """What TERM says; empty where input and output are no terminal of which each key can be handed on."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.name != "nt"
    return (os.environ.get("TERM") or "dumb") if is_terminal else ""


class Keyboard:
    """Hands on what is typed, and the terminal's size when that changes, from `start` until the command ends."""

    def __init__(self, remote: Remote, *, is_terminal: bool) -> None:
        self._remote = remote
        self._is_terminal = is_terminal
        self._is_over = False
        self._restores = contextlib.ExitStack()

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._restores.close()

    def start(self) -> None:
        resized = self._restores.enter_context(raw_terminal()) if self._is_terminal else None
        threading.Thread(target=self._hand_on, args=(resized,), daemon=True).start()

    def _hand_on(self, resized: int | None) -> None:
        with contextlib.suppress(UnreachableError, OSError, ValueError):
            while not self._is_over:
                if resized is not None and resized in select.select([sys.stdin, resized], [], [])[0]:
                    os.read(resized, PIECE_BYTES)
                    self._remote.say(op="resize", **_size())
                    continue
                piece = os.read(sys.stdin.fileno(), PIECE_BYTES)
                if not self._is_over:
                    self._remote.say(op="input", data=base64.b64encode(piece).decode())
                if not piece:
                    return


@contextlib.contextmanager
def raw_terminal() -> Iterator[int]:
    """The terminal hands on each key as it is; gives what can be read from when its size changed."""
    if sys.platform == "win32":  # `kind_of_terminal` is empty there
        raise PreflightError("a command has no terminal on Windows", next="type it without one: < NUL")
    import termios
    import tty

    keys, (resized, noted) = sys.stdin.fileno(), os.pipe()
    before, former = termios.tcgetattr(keys), signal.getsignal(signal.SIGWINCH)
    signal.signal(signal.SIGWINCH, lambda *_: os.write(noted, b"w"))
    tty.setraw(keys)
    try:
        yield resized
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, former)

"""The release command: in the staged release, before any host switches."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

from percore.host import replies
from percore.host.commands import messages as m
from percore.host.output import Output
from percore.host.release.app_command import make_app_command
from percore.host.release.target import Target
from percore.host.session import Session
from percore.host.streams import show

END_SECONDS = 10.0
"""Between SIGTERM and SIGKILL of a command that is told to end."""

LOOK_SECONDS = 0.2


def release_command(session: Session, request: m.ReleaseCommandRequest, target: Target) -> replies.ExitReply:
    """In the staged release. A connection that is lost does not end it: half a migration would be worse."""
    releases, began = target.releases, time.monotonic()
    place = releases.path(request.release)
    command = make_app_command(target.supervisor, request.release, place, request.app, [request.command])
    child = command.start(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with _ended_by_goodbye(session, child):
        code = _show_to_its_end(session, child)
    releases.history.add(
        who=session.owner,
        what="release command",
        release=request.release,
        former=releases.current(),
        result=f"exit code {code} after {time.monotonic() - began:.0f} s",
    )
    return replies.ExitReply(code)


def _show_to_its_end(session: Session, child: subprocess.Popen[bytes]) -> int:
    """How the child ended, as a shell says it."""
    with child:
        show(session, Output(child))
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _ended_by_goodbye(session: Session, child: subprocess.Popen[bytes]) -> Iterator[None]:
    """The child, which leads a session, is ended when the operator ends the run (`bye`)."""
    is_over = threading.Event()
    watching = threading.Thread(target=_watch_for_goodbye, args=(session, child, is_over), daemon=True)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()  # else it would take the next message for its own


def _watch_for_goodbye(session: Session, child: subprocess.Popen[bytes], is_over: threading.Event) -> None:
    """Nothing else is said to us while an operation is at work."""
    while not is_over.is_set():
        if select.select([session.source], [], [], LOOK_SECONDS)[0]:
            session.is_over = session.source.readline().strip() != b""
            if session.is_over:
                end_group(child, signal.SIGTERM)
            return


def end_group(child: subprocess.Popen[bytes], by: signal.Signals) -> None:
    """Ends a child that leads a session, and what belongs to its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, by)
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

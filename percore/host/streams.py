"""The operations whose answer is what a program writes, line by line as it comes."""

from __future__ import annotations

import subprocess
import threading

from percore.errors import PercoreError
from percore.host import messages as m
from percore.host import replies
from percore.host.output import Output
from percore.host.release.target import Target
from percore.host.session import Session

LONGEST_SHOWN_LINE = 256 * 1024


def execute(session: Session, request: m.ExecRequest) -> replies.ExitReply:
    """Any command, its output as it comes; `code` is how it ended."""
    try:
        child = subprocess.Popen(
            request.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise PercoreError(f"cannot run '{request.words[0]}': {error.strerror}") from None
    show(session, Output(child))
    code = child.wait()
    return replies.ExitReply(code if code >= 0 else 128 - code)


def stream(session: Session, request: m.StreamRequest, target: Target) -> replies.EmptyReply:
    """Lines of `percore logs` as they come, until the command ends or the control side says or closes anything."""
    is_named = bool(request.words[:1]) and request.words[0][:2] != "--"
    named, options = (request.words[:1], request.words[1:]) if is_named else (_own_names(target), request.words)
    child = target.supervisor.start("logs", *target.selectors(named), *options, errors=subprocess.STDOUT)
    if "--follow" in request.words:
        threading.Thread(target=_end_with_input, args=(session, child), daemon=True).start()
    output = Output(child)
    show(session, output)
    if (code := output.code()) > 0:
        raise PercoreError(f"'percore logs' ended with code {code}")
    return replies.EmptyReply()


def _own_names(target: Target) -> list[str]:
    """Without an app, `percore logs` shows all; where other projects have apps as well, ours are named."""
    return [app["name"] for app in target.status()["apps"]] if target.foreign_apps() else []


def show(session: Session, output: Output) -> None:
    """A line without an end comes in pieces."""
    for line in output.lines(longest=LONGEST_SHOWN_LINE):
        session.emit({"event": "line", "text": line.decode(errors="replace")})


def _end_with_input(session: Session, child: subprocess.Popen[bytes]) -> None:
    session.source.read(1)
    child.terminate()

"""The loop on the host: one message in, its work done, results out, until the control side goes away.

Each message is one JSON line with an `op`; the agent answers with JSON lines, the last one `{"event": "result"}`. What
the host lacks it asks for with `{"event": "need", "parts": [sha256...]}` and then reads exactly those bytes. The first
line out, unasked, are the facts.

Three things end with this process, whatever ends it: the rollout lock, a stream of log lines, and an activation that
the control side has not confirmed. The last is the dead man's switch: without a word from the control side the former release
comes back. A link can be cut without a word, so both sides say now and then that they are alive: we while we work, the control
side with empty lines while it waits for other hosts. For a moment after a cut the switch can be taken up again by another agent
of the same rollout (`attach`); what an agent that was killed left behind is taken back by the next one (`inspect`).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO, Optional

from percore.errors import PercoreError, PreflightError, RolloutError, describe_os_error
from percore.host import diff, facts
from percore.host.lock import Lock
from percore.host.output import Output
from percore.host.ports import find_conflicts
from percore.host.probe import Prober
from percore.host.probe import Target as ProbeTarget
from percore.host.release.journal import Journal
from percore.host.release.releases import GOOD, STAGED
from percore.host.release.resume import end_agent, is_at_work, is_switched, myself
from percore.host.release.stage import Staging, prune_packages
from percore.host.release.switch import Activation
from percore.host.release.target import CONFIRM_SECONDS, Target
from percore.host.resources.registry import make

Message = dict[str, Any]
LONGEST_SHOWN_LINE = 256 * 1024
ALIVE_SECONDS = 3.0
"""How often we say that we are still there."""

GRACE_SECONDS = 10.0
"""So long a switch waits for the control side to come back after its connection ended without a word."""

ATTACH_SECONDS = 120.0
"""So long a rollout that came back waits for what its former agent is still doing."""


class Agent:
    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source = source
        self.sink = sink
        self.lock: Optional[Lock] = None
        self._owner = ""
        self.pending: Optional[Activation] = None
        self.prober: Optional[Prober] = None
        self._writing = threading.Lock()
        self._working = threading.Lock()
        self._heard = time.monotonic()
        self._deaf = False
        self._given_up = False  # the control side said goodbye, or was silent for too long: nobody will come back
        self._silence = CONFIRM_SECONDS

    def run(self) -> None:
        self.emit({"event": "facts", "facts": facts.gather()})
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            for line in iter(self.source.readline, b""):
                with self._working:
                    if line.strip():
                        self.answer(json.loads(line))
                    self._heard = time.monotonic()
        finally:
            with self._working:
                self.leave()

    def _watch(self) -> None:
        """Say that we live; when the control side was silent for too long while we waited for it, leave."""
        while True:
            time.sleep(ALIVE_SECONDS)
            self.emit({"event": "alive"})
            if self._working.acquire(blocking=False):
                try:
                    if time.monotonic() - self._heard > self._silence:
                        self._given_up = True
                        self.leave()
                        os._exit(1)
                finally:
                    self._working.release()

    def answer(self, message: Message) -> None:
        try:
            reply = getattr(self, f"do_{message['op']}")(message)
            self.emit({"event": "result", "ok": True, **(reply or {})})
        except PercoreError as error:
            self.emit({"event": "result", "ok": False, "error": _describe(error)})
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fault = (PreflightError if is_full else PercoreError)(describe_os_error(error))
            fault.next = "make room there, then deploy again" if is_full else ""
            self.emit({"event": "result", "ok": False, "error": _describe(fault)})
        except Exception as error:
            fault = PercoreError(f"{type(error).__name__}: {error}")
            self.emit({"event": "result", "ok": False, "error": {**_describe(fault), "trace": traceback.format_exc()}})

    def leave(self) -> None:
        """The control side is gone: take back what it did not confirm, then free the lock."""
        if self.pending is not None:
            if self.lock is not None:
                self.lock.say_leaving()
            deadline = time.monotonic() + (0.0 if self._given_up else min(GRACE_SECONDS, self._silence))
            while time.monotonic() < deadline:
                time.sleep(0.1)  # an agent of the same rollout may end this process and go on
            self._take_back(self.pending, "unconfirmed")
        if self.lock is not None:
            self.lock.release()

    def _take_back(self, activation: Activation, result: str) -> None:
        """Undo a switch against which nothing is known."""
        try:
            activation.undo(mark=STAGED)
        except PercoreError:
            traceback.print_exc()
            result = f"{result}, not wholly taken back"
        activation.releases.history.add(
            who=self._owner, what="take back", release=activation.former, former=activation.release, result=result
        )

    def emit(self, event: dict[str, Any]) -> None:
        """One line out. When nobody listens any more the work goes on: half a switch would be worse."""
        with self._writing:
            if self._deaf:
                return
            try:
                self.sink.write(json.dumps(event).encode() + b"\n")
                self.sink.flush()
            except (OSError, ValueError):
                self._deaf = True
                if self.lock is not None:
                    self.lock.say_leaving()

    # The operations. Each takes the message and returns what the result line carries besides `ok`.

    def do_inspect(self, message: Message) -> Message:
        """What is here now, and what would change; takes the lock when an `owner` asks for it."""
        target = Target(message)
        if message.get("owner"):
            self._take_lock(target, message["owner"])
            self._recover(target)
            target.releases.clean()
        current = target.releases.current()
        changes = [text for text in (make(spec).change() for spec in message.get("resources", [])) if text]
        return {
            "current": current,
            "marks": target.releases.marks(),
            "changes": changes,
            "owed": target.debts.texts(),
            "unfinished": bool(Journal(target.releases.journal_path).read()),
            "status": target.status(),
            "disk_free_bytes": facts.free_bytes(target.releases.folder),
            "inodes_free": facts.free_inodes(target.releases.folder),
            "memory_free_bytes": facts.free_memory(),
            "versions": {name: facts.program_version(name) for name in message.get("programs", [])},
        }

    def do_compare(self, message: Message) -> Message:
        target = Target(message)
        return diff.compare(target, message, self._staging(target).receive_contents)

    def do_compare_release(self, message: Message) -> Message:
        return diff.compare_release(Target(message), message)

    def do_drift(self, message: Message) -> Message:
        return diff.find_drift(Target(message))

    def do_stage(self, message: Message) -> Message:
        return self._staging(Target(message)).stage(message)

    def do_amend(self, message: Message) -> Message:
        return self._staging(Target(message)).amend(message)

    def _staging(self, target: Target) -> Staging:
        return Staging(target, self.source, self.emit)

    def _take_lock(self, target: Target, owner: str) -> None:
        self._owner = owner
        self.lock = self.lock or Lock(target.releases.lock_path)
        self.lock.acquire(owner)
        self._silence = target.confirm_seconds

    def _recover(self, target: Target) -> None:
        """An agent that was killed, or a host that went down, left a switch that nobody confirmed."""
        unfinished = Activation.resume(target.releases, target.supervisor, self.emit)
        if unfinished is not None:
            self.emit({"event": "progress", "text": f"take back {unfinished.release}, which was never confirmed"})
            self._take_back(unfinished, "found unconfirmed")

    def do_probe(self, message: Message) -> Message:
        """Begin to probe where there are `targets`; `mark` the begin of what counts; tell what was found so far."""
        if message.get("targets"):
            self._end_probe()
            self.prober = Prober([ProbeTarget(**target) for target in message["targets"]])
            self.prober.start()
        if self.prober is None:
            return {"probe": None}
        if message.get("mark"):
            self.prober.mark()
        return {"probe": self.prober.summary()}

    def _end_probe(self) -> None:
        if self.prober is not None:
            self.prober.stop()

    def do_activate(self, message: Message) -> Message:
        target = Target(message)
        self.pending = None
        activation = Activation(
            target.releases, target.supervisor, message["release"], self.emit, amended=message.get("amended", False)
        )
        try:
            status = activation.run(self._owner, message.get("run", ""), myself())
        except PercoreError as error:
            self._note(target, message, activation, f"failed: {error.what}")
            raise
        self.pending = activation
        return {"former": activation.former, "status": status}

    def do_attach(self, message: Message) -> Message:
        """Take up a switch of this rollout whose agent lost its connection; RolloutError when it was taken back."""
        target = Target(message)
        journal = Journal(target.releases.journal_path)
        deadline = time.monotonic() + ATTACH_SECONDS
        while is_at_work(journal.read()) and time.monotonic() < deadline:
            time.sleep(0.1)
        entries = journal.read()
        if is_switched(entries, message["run"]):
            end_agent(entries)
        self._take_lock(target, message["owner"])
        if not is_switched(journal.read(), message["run"]):
            self._recover(target)
            raise RolloutError("the switch was taken back while the connection was cut", next="deploy again")
        self.pending = Activation.resume(target.releases, target.supervisor, self.emit)
        journal.note("agent", **myself())
        return {"status": target.status()}

    def do_health(self, message: Message) -> Message:
        """Is the switch of this session still well? RolloutError when a worker ended or does not answer."""
        if self.pending is None:
            raise RolloutError("nothing was switched here")
        return {"status": self.pending.recheck()}

    def do_revert(self, message: Message) -> Message:
        """Take back the activation of this session: another host failed."""
        target = Target(message)
        activation, self.pending = self.pending, None
        if activation is None:
            return {"status": target.status()}
        activation.undo()
        self._note(target, message, activation, "taken back: another host failed")
        return {"former": activation.former, "status": activation.supervisor.status()}

    def do_confirm(self, message: Message) -> Message:
        """The whole fleet is well: the release is good, and older ones may go."""
        target = Target(message)
        activation, self.pending = self.pending, None
        if activation is not None:
            if activation.amended:
                target.releases.keep_amendment(activation.release)
            activation.journal.end()  # this decides; whatever ends us now, the release stays
        target.releases.mark(message["release"], GOOD, deployed=message["deployed"])
        if activation is not None:
            self._note(target, message, activation, "good")
        pruned = target.releases.prune(int(message["keep"]))
        prune_packages(target)
        return {"pruned": pruned}

    def _note(self, target: Target, message: Message, activation: Activation, result: str) -> None:
        more = message.get("note", {})
        target.releases.history.add(
            who=self._owner, what=message.get("verb", "deploy"), release=activation.release, former=activation.former,
            result=result, **more,
        )  # fmt: skip

    def do_bye(self, message: Message) -> None:
        """The control side ends on purpose: nobody will come back for what is not confirmed."""
        self._given_up = True

    def do_hold(self, message: Message) -> None:
        """A person holds the lock."""
        self.lock = self.lock or Lock(Target(message).releases.lock_path)
        self.lock.hold(message["owner"], message.get("why", ""))

    def do_let_go(self, message: Message) -> Message:
        lock = Lock(Target(message).releases.lock_path)
        holder = lock.holder()
        lock.let_go()
        return {"holder": holder}

    def do_history(self, message: Message) -> Message:
        return {"entries": Target(message).releases.history.last(int(message.get("count", 20)))}

    def do_ports(self, message: Message) -> Message:
        return {"strangers": find_conflicts(message["ports"], user=_uid_of(message))}

    def do_find(self, message: Message) -> Message:
        """The release to go back to: the named one, or the newest good one before the current."""
        target = Target(message)
        wanted = message.get("release")
        found = target.releases.find(wanted) if wanted else target.releases.previous_good()
        self._staging(target).verify(found)
        return {"release": found, "current": target.releases.current()}

    def do_status(self, message: Message) -> Message:
        target = Target(message)
        return {"current": target.releases.current(), "status": target.status()}

    def do_stop(self, message: Message) -> Message:
        """End what runs: the unit where there is one, else the daemon."""
        target = Target(message)
        if message.get("unit"):
            return {
                "changed": self._staging(target).prepare(
                    [{"kind": "unit", "name": message["unit"], "active": False}], []
                )
            }
        running = target.status().get("daemon", True)
        target.supervisor.kill()
        return {"changed": ["stop the supervisor and all its workers"] if running else []}

    def do_exec(self, message: Message) -> Message:
        """Any command, its output as it comes; `code` is how it ended."""
        try:
            child = subprocess.Popen(
                message["words"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise PercoreError(f"cannot run '{message['words'][0]}': {error.strerror}") from None
        self._show(Output(child))
        code = child.wait()
        return {"code": code if code >= 0 else 128 - code}

    def do_prepare(self, message: Message) -> Message:
        return {"changed": self._staging(Target(message)).prepare(message["resources"], message.get("handlers", []))}

    def do_stream(self, message: Message) -> None:
        """Lines of `percore logs` as they come, until the command ends or the control side says or closes anything."""
        target = Target(message)
        child = target.supervisor.start("logs", *message["words"], errors=subprocess.STDOUT)
        if "--follow" in message["words"]:
            threading.Thread(target=self._end_with_input, args=(child,), daemon=True).start()
        output = Output(child)
        self._show(output)
        if (code := output.code()) > 0:
            raise PercoreError(f"'percore logs' ended with code {code}")

    def _show(self, output: Output) -> None:
        """A line without an end comes in pieces."""
        for line in output.lines(longest=LONGEST_SHOWN_LINE):
            self.emit({"event": "line", "text": line.decode(errors="replace")})

    def _end_with_input(self, child: subprocess.Popen[bytes]) -> None:
        self.source.read(1)
        child.terminate()


def _uid_of(message: Message) -> Optional[int]:
    """The supervisor's user; None while it is still to be made."""
    try:
        return Target(message).supervisor.uid() if "target" in message else None
    except PercoreError:
        return None


def _describe(error: PercoreError) -> Message:
    return {
        "what": error.what,
        "where": error.where,
        "next": error.next,
        "detail": error.detail,
        "exit_code": error.exit_code,
    }


def _ignore(signum: int, frame: Any) -> None:
    """A hang-up of the connection is noticed as the end of input; children get the usual reaction back."""


def main() -> None:
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGINT, _ignore)
    # Nothing but result lines may reach the control side on this pipe, whatever a library prints.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Agent(sys.stdin.buffer, sink).run()
    # Nothing is left to do, and others wait for this end: Python would tidy up for as long as a deploy compares.
    os._exit(0)

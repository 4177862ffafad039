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
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO, Optional

from percore.errors import PercoreError, PreflightError, RolloutError, UsageError, describe_os_error
from percore.host import facts
from percore.host.activation import Activation, Plan, kept_contents
from percore.host.comparison import app_changes, diff_text, record_hashes
from percore.host.debts import Debts, describe
from percore.host.journal import Journal
from percore.host.lock import Lock
from percore.host.prober import Prober
from percore.host.prober import Target as ProbeTarget
from percore.host.processes import Supervisor
from percore.host.release import GOOD, STAGED, PartReader, Releases, check_room, unpack
from percore.host.resources import Contents, Spec, make, write_file
from percore.host.selection import Selection
from percore.host.succession import end_agent, is_at_work, is_switched, myself

Message = dict[str, Any]
ALIVE_SECONDS = 3.0
"""How often we say that we are still there."""

SILENCE_SECONDS = 30.0
"""So long without a word from the control side, and it is gone; a rollout says by itself how long (confirm_seconds)."""

GRACE_SECONDS = 10.0
"""So long a switch waits for the control side to come back after its connection ended without a word."""

ATTACH_SECONDS = 120.0
"""So long a rollout that came back waits for what its former agent is still doing."""

SMALL_BYTES = 4 * 1024 * 1024
"""Files of roles are held in memory while they are staged; archives are not."""


PIECE_BYTES = 256 * 1024


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
        self._silence = SILENCE_SECONDS

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
        target = _Target(message)
        if message.get("owner"):
            self._take_lock(target, message["owner"])
            self._recover(target)
            target.releases.clean()
        current = target.releases.current()
        changes = [text for text in (make(spec).difference() for spec in message.get("resources", [])) if text]
        return {
            "current": current,
            "marks": target.releases.marks(),
            "changes": changes,
            "owed": target.debts.texts(),
            "status": target.status(),
            "disk_free_bytes": facts.free_bytes(target.releases.folder),
            "inodes_free": facts.free_inodes(target.releases.folder),
            "memory_free_bytes": facts.free_memory(),
            "versions": {name: facts.program_version(name) for name in message.get("programs", [])},
        }

    def do_compare(self, message: Message) -> Message:
        """What a deploy would change and why, with diffs where asked for. Nothing is locked, nothing is touched."""
        target = _Target(message)
        changed = [(spec, text) for spec in message["resources"] if (text := make(spec).difference())]
        wanted = [spec["sha256"] for spec, _ in changed if spec.get("sha256") in message["sizes"]]
        contents = self._receive_contents(message["sizes"], list(dict.fromkeys(wanted))) if message["diff"] else {}
        changes = []
        for spec, text in changed:
            new = contents.get(spec.get("sha256", ""))
            diff = "" if new is None else diff_text(_read_or_nothing(spec["path"]), new, spec["path"])
            changes.append({"text": text, "diff": diff})
        current = target.releases.current()
        reasons = []
        if message["record"] and current:
            record = json.loads(_read_file(target.releases.record_path(current)))
            wanted = json.loads(json.dumps(message["record"]).replace(message["place"], current))
            artifact = target.releases.marks().get(current, {}).get("artifact")
            reasons = [] if artifact in (None, message["artifact"]) else ["the app's files differ"]
            reasons += app_changes(record, wanted)
        return {
            "changes": changes,
            "reasons": reasons,
            "handlers": target.debts.texts() + _would_run([spec for spec, _ in changed], message["handlers"]),
        }

    def do_drift(self, message: Message) -> Message:
        """Where this host differs from what its own release says: workers, and files that somebody edited."""
        target = _Target(message)
        current = target.releases.current()
        status = target.status()
        if current is None:
            return {"current": None, "status": status, "workers": [], "files": [], "owed": target.debts.texts()}
        record = json.loads(_read_file(target.releases.record_path(current)))
        expected = {app["name"]: record_hashes(app) for app in record["apps"]}
        workers = [text for app in status["apps"] for text in _worker_drift(app, expected, current)]
        workers += [
            f"app {name} does not run" for name in expected if name not in {app["name"] for app in status["apps"]}
        ]
        plan, contents = Plan.load(target.releases, current), kept_contents(target.releases, current)
        files = []
        for spec in plan.before + plan.after:
            text = make(spec, contents).difference()
            if text and spec["kind"] != "command":
                diff = _diff(spec, contents, by_hand=True)
                files.append({"text": text, "diff": diff})
        owed = target.debts.texts()
        return {"current": current, "status": status, "workers": workers, "files": files, "owed": owed}

    def _receive_contents(self, sizes: dict[str, int], wanted: list[str]) -> dict[str, bytes]:
        """These contents, all in one answer."""
        self.emit({"event": "need", "parts": wanted})
        received = {}
        for sha256 in wanted:
            reader = PartReader(self.source, sizes[sha256])
            received[sha256] = reader.read(sizes[sha256])
            reader.check(sha256)
        return received

    def do_stage(self, message: Message) -> Message:
        """Bring everything of a release to the host and check it there; nothing that runs is touched."""
        target = _Target(message)
        release = message["release"]
        changed = self._prepare(message["prepare"], target.debts, message["activation"]["handlers"])
        received = self._receive(target, message)
        staging = target.releases.staging_path(release)
        try:
            _write_release_files(target.releases, staging, message, received, user=target.supervisor.user)
            target.releases.publish(staging, release)
            self._verify(target.releases, release)
        except BaseException:
            target.releases.remove(release)
            raise
        target.releases.mark(
            release, STAGED, fingerprint=message["fingerprint"], artifact=message["artifact"]["sha256"]
        )
        return {"changed": changed}

    def do_amend(self, message: Message) -> Message:
        """Bring other files and units for the release that runs; `activate` with `amended` then puts them in place."""
        target = _Target(message)
        release = target.releases.current()
        if release is None:
            raise UsageError("nothing is deployed here yet", next="deploy without --tags and --skip-tags first")
        changed = self._prepare(message["prepare"], target.debts, message["activation"]["handlers"])
        kept = _kept_files(target.releases)
        wanted = {sha256: size for sha256, size in message["files"].items() if sha256 not in kept}
        received = self._receive_contents(wanted, list(wanted))
        folder = os.path.join(target.releases.path(release), ".percore", "files")
        for sha256 in message["files"]:
            content = received[sha256] if sha256 in received else _read_file(kept[sha256])
            write_file(os.path.join(folder, sha256), content, mode=0o600)
        plan = _merged(target.releases, message)
        write_file(target.releases.plan_path(release, amended=True), json.dumps(plan, indent=1).encode(), mode=0o600)
        try:
            self._verify(target.releases, release, amended=True)
        except BaseException:
            target.releases.drop_amendment(release)
            raise
        return {"changed": changed}

    def _take_lock(self, target: _Target, owner: str) -> None:
        self._owner = owner
        self.lock = self.lock or Lock(target.releases.lock_path)
        self.lock.acquire(owner)
        self._silence = target.confirm_seconds

    def _recover(self, target: _Target) -> None:
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
        target = _Target(message)
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
        target = _Target(message)
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
        target = _Target(message)
        activation, self.pending = self.pending, None
        if activation is None:
            return {"status": target.status()}
        activation.undo()
        self._note(target, message, activation, "taken back: another host failed")
        return {"former": activation.former, "status": activation.supervisor.status()}

    def do_confirm(self, message: Message) -> Message:
        """The whole fleet is well: the release is good, and older ones may go."""
        target = _Target(message)
        activation, self.pending = self.pending, None
        if activation is not None:
            if activation.amended:
                target.releases.keep_amendment(activation.release)
            activation.journal.end()  # this decides; whatever ends us now, the release stays
        target.releases.mark(message["release"], GOOD, deployed=message["deployed"])
        if activation is not None:
            self._note(target, message, activation, "good")
        pruned = target.releases.prune(int(message["keep"]))
        _prune_packages(target)
        return {"pruned": pruned}

    def _note(self, target: _Target, message: Message, activation: Activation, result: str) -> None:
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
        self.lock = self.lock or Lock(_Target(message).releases.lock_path)
        self.lock.hold(message["owner"], message.get("why", ""))

    def do_let_go(self, message: Message) -> Message:
        lock = Lock(_Target(message).releases.lock_path)
        holder = lock.holder()
        lock.let_go()
        return {"holder": holder}

    def do_history(self, message: Message) -> Message:
        return {"entries": _Target(message).releases.history.last(int(message.get("count", 20)))}

    def do_find(self, message: Message) -> Message:
        """The release to go back to: the named one, or the newest good one before the current."""
        target = _Target(message)
        wanted = message.get("release")
        found = target.releases.find(wanted) if wanted else target.releases.previous_good()
        self._verify(target.releases, found)
        return {"release": found, "current": target.releases.current()}

    def do_compare_release(self, message: Message) -> Message:
        """What going to a release that is here would change and why, with diffs."""
        releases = _Target(message).releases
        release, current = message["release"], releases.current()
        plan, contents = Plan.load(releases, release), kept_contents(releases, release)
        changed = [(spec, text) for spec in plan.before + plan.after if (text := make(spec, contents).difference())]
        record = _read_file(releases.record_path(release)).decode()
        reasons = []
        if current:
            here = json.loads(_read_file(releases.record_path(current)))
            reasons = app_changes(here, json.loads(record.replace(release, current)))
        marks = releases.marks()
        same = current and marks.get(current, {}).get("artifact") == marks.get(release, {}).get("artifact")
        return {
            "changes": [{"text": text, "diff": _diff(spec, contents)} for spec, text in changed],
            "reasons": ([] if same else ["the app's files differ"]) + reasons,
            "handlers": _would_run([spec for spec, _ in changed], plan.handlers),
        }

    def do_status(self, message: Message) -> Message:
        target = _Target(message)
        return {"current": target.releases.current(), "status": target.status()}

    def do_stop(self, message: Message) -> Message:
        """End what runs: the unit where there is one, else the daemon."""
        target = _Target(message)
        if message.get("unit"):
            return {
                "changed": self._prepare([{"kind": "unit", "name": message["unit"], "active": False}], target.debts, [])
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
        assert child.stdout is not None
        for line in child.stdout:
            self.emit({"event": "line", "text": line.decode(errors="replace").rstrip("\n")})
        code = child.wait()
        return {"code": code if code >= 0 else 128 - code}

    def do_prepare(self, message: Message) -> Message:
        return {"changed": self._prepare(message["resources"], _Target(message).debts, message.get("handlers", []))}

    def do_stream(self, message: Message) -> None:
        """Lines of `percore logs` as they come, until the command ends or the control side says or closes anything."""
        target = _Target(message)
        child = target.supervisor.start("logs", *message["words"], errors=subprocess.STDOUT)
        if "--follow" in message["words"]:
            threading.Thread(target=self._end_with_input, args=(child,), daemon=True).start()
        assert child.stdout is not None
        for line in child.stdout:
            self.emit({"event": "line", "text": line.decode(errors="replace").rstrip("\n")})
        if child.wait() > 0:
            raise PercoreError(f"'percore logs' ended with code {child.returncode}")

    def _end_with_input(self, child: subprocess.Popen[bytes]) -> None:
        self.source.read(1)
        child.terminate()

    def _prepare(self, specs: list[Spec], debts: Debts, handlers: list[Spec]) -> list[str]:
        """Make what a host needs before it is given a release. None of it is taken back; what it owes is paid by the switch."""
        changed = []
        for spec in specs:
            resource = make(spec)
            difference = resource.difference()
            if difference:
                self.emit({"event": "progress", "text": difference})
                debts.notify(spec, handlers, difference)
                resource.apply()
                changed.append(difference)
        return changed

    def _receive(self, target: _Target, message: Message) -> dict[str, bytes]:
        """Ask for the parts that are missing here, and take each where it belongs."""
        artifact, package = message["artifact"], message["package"]
        kept = _kept_files(target.releases)
        files: dict[str, int] = message["files"]
        wanted = [sha256 for sha256 in files if sha256 not in kept]
        package_needed = not os.path.isdir(package["path"])
        archives = target.releases.archives
        archives.keep_only({artifact["sha256"]})
        missing_bytes = max(0, artifact["bytes"] - archives.bytes_here(artifact["sha256"]))
        needed_bytes = missing_bytes + artifact["unpacked_bytes"] + (package["unpacked_bytes"] if package_needed else 0)
        os.makedirs(target.releases.folder, exist_ok=True)
        check_room(target.releases.folder, needed_bytes)
        order = [*wanted, *([package["sha256"]] if package_needed else [])]
        order += [] if archives.has(artifact["sha256"]) else [artifact["sha256"]]
        offset = archives.bytes_here(artifact["sha256"])
        self.emit({"event": "need", "parts": order, "offsets": {artifact["sha256"]: offset}})
        sizes = {**files, package["sha256"]: package["bytes"], artifact["sha256"]: artifact["bytes"] - offset}
        received = {sha256: _read_file(path) for sha256, path in kept.items() if sha256 in files}
        fault: Optional[Exception] = None
        for sha256 in order:
            reader = PartReader(self.source, sizes[sha256])
            try:
                if fault is None:
                    received[sha256] = self._take(target, message, sha256, reader)
            except (PercoreError, OSError) as error:
                fault = error
            reader.drain()  # also after a failure: the next message begins where the parts end
        if fault is not None:
            raise fault
        target.releases.stage(message["release"], artifact["sha256"], unpacked_bytes=artifact["unpacked_bytes"])
        return received

    def _take(self, target: _Target, message: Message, sha256: str, reader: PartReader) -> bytes:
        package = message["package"]
        if sha256 == message["artifact"]["sha256"]:
            target.releases.archives.receive(sha256, iter(lambda: reader.read(PIECE_BYTES), b""))
            return b""
        if sha256 == package["sha256"]:
            _install_package(package, reader)
            return b""
        content = reader.read(SMALL_BYTES)
        reader.check(sha256)
        return content

    def _verify(self, releases: Releases, release: str, *, amended: bool = False) -> None:
        plan = Plan.load(releases, release, amended=amended)
        contents = kept_contents(releases, release)
        specs = plan.before + plan.after
        coming = [spec["path"] for spec in specs if spec["kind"] == "file" and not os.path.exists(spec["path"])]
        for spec in specs:
            resource = make(spec, contents)
            if resource.difference() is not None:
                resource.verify(coming)


class _Target:
    """The app's place on this host, out of a message's `target`."""

    def __init__(self, message: Message) -> None:
        target = message["target"]
        self.releases = Releases(target["deploy_to"])
        self.confirm_seconds = float(target.get("confirm_seconds", SILENCE_SECONDS))
        self.debts = Debts(self.releases.owed_path)
        self.supervisor = Supervisor(target["command"], target["home"], target.get("user"), target["package"])

    def status(self) -> dict[str, Any]:
        """What runs; nothing, where the supervisor's user is still to be made."""
        try:
            return self.supervisor.status()
        except PercoreError as error:
            return {"release": None, "apps": [], "daemon": False, "error": error.what}


def _diff(spec: Spec, contents: Contents, *, by_hand: bool = False) -> str:
    """From what is here to what is wanted; `by_hand` the other way round."""
    if not spec.get("sha256"):
        return ""
    here, wanted = _read_or_nothing(spec["path"]), contents(spec["sha256"])
    return diff_text(wanted, here, spec["path"]) if by_hand else diff_text(here, wanted, spec["path"])


def _would_run(changed: list[Spec], handlers: list[Spec]) -> list[str]:
    """The handlers that these resources would notify, in their order."""
    notified = {name for spec in changed for name in spec.get("notify", ())}
    return [describe(handler) for handler in handlers if handler["name"] in notified]


def _worker_drift(app: Message, expected: dict[str, tuple[str, str]], current: str) -> list[str]:
    name, found = app["name"], []
    if name not in expected:
        return [f"app {name} runs, and the release does not have it"]
    for worker in app["workers"]:
        title = f"{name} worker {worker['slot']} (pid {worker['pid']})"
        if worker["release"] != current:
            found.append(f"{title} runs release {worker['release'] or 'none'}")
        elif worker.get("config_hash", expected[name][0]) != expected[name][0]:
            found.append(f"{title} runs with another configuration")
        elif worker.get("env_hash", expected[name][1]) != expected[name][1]:
            found.append(f"{title} runs with other variables")
    if not app["wanted"]:
        return [*found, f"app {name} is stopped"]
    running = sum(worker["state"] == "running" for worker in app["workers"])
    return found + ([f"{name}: {running} of {app['wanted']} workers run"] if running < app["wanted"] else [])


def _kept_files(releases: Releases) -> dict[str, str]:
    """Contents of earlier releases that are here already: by hash, where."""
    found: dict[str, str] = {}
    if os.path.isdir(releases.folder):
        for release in os.listdir(releases.folder):
            folder = os.path.join(releases.path(release), ".percore", "files")
            if os.path.isdir(folder):
                found.update({name: os.path.join(folder, name) for name in os.listdir(folder)})
    return found


def _read_file(path: str) -> bytes:
    with open(path, "rb") as source:
        return source.read()


def _read_or_nothing(path: str) -> bytes:
    try:
        return _read_file(path)
    except OSError:
        return b""


def _install_package(package: Message, reader: PartReader) -> None:
    """Unpack percore's own on-host package beside the others and compile it, since its user may not write there."""
    import compileall

    path = package["path"]
    staging = f"{path}.staging"
    check_room(os.path.dirname(path), package["unpacked_bytes"])
    unpack(reader, package["sha256"], staging, needed_bytes=package["unpacked_bytes"])
    compileall.compile_dir(staging, quiet=2, stripdir=staging, prependdir=path)
    os.rename(staging, path)


def _prune_packages(target: _Target) -> None:
    """Remove the on-host packages that no release here leads to any more."""
    folder, link = target.supervisor.package, os.path.join(target.supervisor.package, "current")
    needed = {os.path.basename(os.path.realpath(link)), os.path.basename(sys.path[0])}  # the last: this program's own
    for release in target.releases.marks():
        if target.releases.exists(release):
            plan = Plan.load(target.releases, release)
            needed |= {spec["to"] for spec in plan.before if spec["kind"] == "link" and spec["path"] == link}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and entry.name not in needed:
            shutil.rmtree(entry.path, ignore_errors=True)


def _merged(releases: Releases, message: Message) -> Message:
    """The wanted plan; what the run is not about stays as the release that runs has it."""
    plan: Message = message["activation"]
    current = releases.current()
    selection = Selection(**message["selection"])
    if selection.is_everything:
        return plan
    present = Plan.load(releases, current) if current else Plan([], [], [], {})
    names = {handler["name"] for handler in plan["handlers"]}
    return {
        **plan,
        "before": selection.merge(plan["before"], present.before),
        "after": selection.merge(plan["after"], present.after),
        "handlers": [h for h in present.handlers if h["name"] not in names] + plan["handlers"],
    }


def _write_release_files(
    releases: Releases, staging: str, message: Message, received: dict[str, bytes], *, user: Optional[str]
) -> None:
    """Put the records beside the app's own files: for the supervisor one, for activation the other."""
    folder = os.path.join(staging, ".percore")
    os.makedirs(os.path.join(folder, "files"), mode=0o700)
    os.chmod(folder, 0o700)
    plan, kept = _merged(releases, message), _kept_files(releases)
    for sha256 in {*message["files"], *(spec["sha256"] for spec in plan["before"] + plan["after"] if "sha256" in spec)}:
        content = received[sha256] if sha256 in received else _read_file(kept[sha256])
        write_file(os.path.join(folder, "files", sha256), content, mode=0o600)
    activation = json.dumps(plan, indent=1).encode()
    write_file(os.path.join(folder, "activation.json"), activation, mode=0o600)
    record = json.dumps(message["record"], indent=1).encode()
    write_file(os.path.join(staging, ".percore.json"), record, mode=0o600, owner=user)


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

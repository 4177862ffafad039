"""All apps of one supervisor: what is asked of them, one job at a time, and what they are.

`stop`, `delete` and `kill` do not queue behind a job: they cancel it, because somebody wants quiet now.
"""

from __future__ import annotations

import json
import re
import socket
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from percore.errors import PartialError, PercoreError, RolloutError, UsageError, nearest
from percore.supervisor import snapshot
from percore.supervisor.app import App, Job, not_taken_back, together
from percore.supervisor.config import CLUSTER, AppConfig, resolve_instances
from percore.supervisor.cores import usable_cores
from percore.supervisor.home import Home, place_preload
from percore.supervisor.loop import Loop
from percore.supervisor.process import Process, adopt, kill_strays, reap
from percore.supervisor.protocol import failure
from percore.supervisor.rotation import Limits, rotate
from percore.supervisor.slot import Runtime, Slot, Worker
from percore.supervisor.sockets import Address, AddressInUse, FdStore, Listener, can_steer_here
from percore.supervisor.update import Program

Reply = Callable[[Mapping[str, Any]], None]
Outcome = Generator[None, None, Mapping[str, Any]]

_MEMORY_CHECK_SECONDS = 1.0
_LONGEST_LOG_WAIT = 10.0


class Ticket(NamedTuple):
    """A job in the queue, and where its progress goes."""

    title: str
    steps: Outcome
    reply: Reply


class Manager:
    def __init__(
        self, loop: Loop, home: Home, log: Callable[[str], None], store: FdStore, state: snapshot.StateFile
    ) -> None:
        self.apps: dict[str, App] = {}
        self.release = ""
        self.store = store
        self.successor: Optional[Program] = None  # what this process is to execute next
        self._log = log
        self._home = home
        self._queue: deque[Ticket] = deque()
        self._current: Optional[Ticket] = None
        self._has_changed = False
        self._replacing: set[Slot] = set()
        self._state = state
        self._saved: dict[str, Any] = {}  # what the state file says
        self._log_wait = 0.0
        self._said: set[str] = set()
        self._memory_timer_runs = False
        self.runtime = Runtime(
            loop, home, place_preload(home), store.fds, can_steer_here(), self._worker_changed,
            self._replace_unwell,
        )  # fmt: skip

    # -- what the loop calls -----------------------------------------------------------------------------------------

    def _worker_changed(self, worker: Worker) -> None:
        self._has_changed = True
        worker.slot.sweep()
        app = self.apps.get(worker.config.name)
        if app:
            app.steer()
        if worker.is_ready and worker.unwell:
            self._log(f"{worker.config.name} {worker.slot.number}: {worker.unwell}; new connections go to the others")
            return
        if worker.is_ready and worker.is_stable:
            return  # "running" was said when it became ready
        pid = f" (pid {worker.pid})" if worker.pid else ""
        trouble = f": {worker.failure}" if worker.failure and not worker.is_ready else ""
        state = "crash-looping" if worker.is_crash_looping else worker.state.value
        self._log(f"{worker.config.name} {worker.slot.number}: {state}{pid}{trouble}")
        if self._current:
            self._current.reply({"event": "worker", "app": worker.config.name, **worker.status()})

    def reap_children(self) -> None:
        """Called on SIGCHLD. A dead worker still holds its pid when it is asked for its group, so nobody else is hit."""
        by_pid = {worker.pid: worker for app in self.apps.values() for worker in app.living}
        for pid, status in reap(lambda pid: by_pid[pid].main_process_died() if pid in by_pid else None):
            if pid in by_pid:
                by_pid[pid].ended(status)

    def after_turn(self) -> None:
        """Jobs go on whenever something changed; then the state on disk follows."""
        if not self._has_changed:
            return
        while self._has_changed:
            self._has_changed = False
            self._step_jobs()
        self._serve_stranded()
        self._fill_store()
        self.save()

    # -- jobs --------------------------------------------------------------------------------------------------------

    def submit(self, title: str, steps: Outcome, reply: Reply, *, urgent: bool = False) -> None:
        if urgent and self._current:
            cancelled, self._current = self._current, None
            cancelled.steps.close()
            cancelled.reply(_refusal(f"'{cancelled.title}' was cancelled by '{title}'"))
        ticket = Ticket(title, steps, reply)
        if urgent:
            self._queue.appendleft(ticket)
        else:
            self._queue.append(ticket)
        self._has_changed = True

    def _step_jobs(self) -> None:
        while self._current or self._queue:
            if self._current is None:
                self._current = self._queue.popleft()
            ticket = self._current
            try:
                next(ticket.steps)
                return
            except StopIteration as done:
                self._current = None
                ticket.reply({"event": "result", "ok": True, **(done.value or {})})
            except PercoreError as error:
                self._current = None
                self._log(f"{ticket.title} failed: {error}")
                ticket.reply(failure(error))
            self._has_changed = True

    # -- operations --------------------------------------------------------------------------------------------------

    def apply(self, configs: Sequence[AppConfig], base_env: Mapping[str, str], *, release: str, owner: str) -> Outcome:
        """Makes what runs match `configs`: clustered apps first, then singletons; removed apps last.

        Raises RolloutError when an app failed and everything was taken back, PartialError when that was not possible.
        """
        self._refuse_doubles(configs)
        changes = []
        undo: list[Callable[[], Job]] = []
        try:
            for config in sorted(configs, key=lambda config: config.mode != CLUSTER):
                change = yield from self._apply_one(config, base_env, undo)
                changes.append({"app": config.name, "change": change})
        except PercoreError as error:
            yield from self._take_back(undo, error)
        wanted = {config.name for config in configs}
        for name in [name for name, app in self.apps.items() if app.config.source == owner and name not in wanted]:
            yield from self._delete(self.apps[name])
            changes.append({"app": name, "change": "removed"})
        self.release = release or self.release
        return {"changes": changes, "release": self.release}

    def _apply_one(
        self, config: AppConfig, base_env: Mapping[str, str], undo: list[Callable[[], Job]], *, soak: bool = True
    ) -> Generator[None, None, str]:
        count = resolve_instances(config.instances, usable_cores())
        app = self.apps.get(config.name)
        if app is None:
            app = self._add(config, base_env, count)
            undo.append(lambda: self._delete(app))
            if config.autostart:
                yield from app.start(soak=soak)
            return "added"
        change = "unchanged"
        former, former_count = app.config, len(app.slots)
        if not former.runs_like(config):
            if app.wanted and former.shares_port and config.shares_port:
                yield from app.reload(config)
                undo.append(lambda: app.reload(former))
                change = "reloaded"
            else:
                undo.append(lambda: app.restart(former))
                yield from app.restart(config, soak=soak)
                change = "restarted"
        elif not app.wanted:
            undo.append(app.stop)
            yield from app.start(soak=soak)
            change = "started"
        app.config = config
        if count != former_count:
            undo.append(lambda: app.scale(former_count))
            yield from app.scale(count)
            change = "scaled" if change == "unchanged" else change
        return change

    def _take_back(self, undo: Sequence[Callable[[], Job]], cause: PercoreError) -> Job:
        problems = []
        for step in reversed(undo):
            try:
                yield from step()
            except PercoreError as error:
                problems.append(str(error))
        if problems:
            raise not_taken_back(cause, problems) from cause
        if isinstance(cause, PartialError):
            raise cause
        outcome = RolloutError(cause.what, where=cause.where, next=cause.next, detail=cause.detail)
        outcome.app = cause.app
        raise outcome from cause

    def start(self, configs: Sequence[AppConfig], base_env: Mapping[str, str]) -> Outcome:
        """PM2's `start FILE`: missing apps start, known ones get the file's config; a failing one does not stop the others."""
        self._refuse_doubles(configs)
        changes: list[dict[str, str]] = []

        def start_one(config: AppConfig) -> Job:
            change = yield from self._apply_one(config, base_env, [], soak=False)
            changes.append({"app": config.name, "change": change})

        yield from together([start_one(config) for config in configs])
        return {"changes": changes}

    def start_selected(self, selector: str) -> Outcome:
        chosen = self.select(selector)
        yield from together([app.start([slot for slot in slots if slot.is_down], soak=False) for app, slots in chosen])
        return {}

    def stop(self, selector: str) -> Outcome:
        chosen = self.select(selector)
        yield from together([app.stop(None if len(slots) == len(app.slots) else slots) for app, slots in chosen])
        return {}

    def restart(self, selector: str) -> Outcome:
        chosen = self.select(selector)
        yield from together([app.restart(app.config, slots, soak=False) for app, slots in chosen])
        return {}

    def reload(self, selector: str) -> Outcome:
        """Zero-loss where the port is shared; a restart for the rest, of which two must never run at once."""
        for app, slots in self.select(selector):
            if app.config.shares_port:
                yield from app.reload(app.config, slots)
            else:
                yield from app.restart(app.config, slots)
        return {}

    def delete(self, selector: str) -> Outcome:
        yield from together([self._delete(app) for app, _ in self.select(selector)])
        return {}

    def scale(self, name: str, wish: str) -> Outcome:
        app = self._named(name)
        count = len(app.slots) + int(wish) if wish.startswith(("+", "-")) else resolve_instances(wish, usable_cores())
        if count < 1:
            raise UsageError(f"'{name}' cannot have {count} workers", next=f"percore stop {name}")
        yield from app.scale(count)
        return {"workers": count}

    def kill(self) -> Outcome:
        """Stops and forgets everything, then ends the loop."""
        yield from together([self._delete(app) for app in self.apps.values()])
        self.runtime.loop.stop()
        return {}

    def update(self, program: Program) -> Outcome:
        """Ends the loop, so that this process can execute the program; everything goes on running."""
        self.save()
        self._fill_store()
        self.successor = program
        self.runtime.loop.stop()
        yield from ()
        return {}

    def shut_down(self) -> Outcome:
        """Stops everything but keeps the wish, so that the next supervisor starts it again."""
        self.save()
        self.save = lambda: None  # type: ignore[method-assign]
        for app in self.apps.values():
            for slot in app.slots:
                slot.stop()
        for app in self.apps.values():
            yield from app.stop()
        self.runtime.loop.stop()
        return {}

    def _add(self, config: AppConfig, base_env: Mapping[str, str], count: int) -> App:
        app = App(self.runtime, config, base_env, self._next_id)
        self.apps[config.name] = app
        app.set_slots(count)
        self._watch_memory()
        return app

    def _delete(self, app: App) -> Job:
        yield from app.stop()
        app.close()
        self.apps.pop(app.name, None)

    # -- selecting ---------------------------------------------------------------------------------------------------

    def select(self, selector: str) -> list[tuple[App, list[Slot]]]:
        """PM2's selectors: `all`, an id, a name, a namespace, `/regex/`. Raises UsageError when nothing matches."""
        apps = list(self.apps.values())
        if selector == "all":
            return [(app, app.slots) for app in apps]
        if selector.isdigit():
            by_id = [(app, [slot]) for app in apps for slot in app.slots if slot.id == int(selector)]
            if by_id:
                return by_id
        if len(selector) > 2 and selector.startswith("/") and selector.endswith("/"):
            try:
                pattern = re.compile(selector[1:-1])
            except re.error as error:
                raise UsageError(f"{selector} is not a regular expression: {error}") from None
            chosen = [app for app in apps if pattern.search(app.name)]
        else:
            chosen = [app for app in apps if app.name == selector] or [
                app for app in apps if app.config.namespace == selector
            ]
        if not chosen:
            known = nearest(selector, list(self.apps))
            hint = f"did you mean '{known}'?" if known else "see 'percore list'"
            raise UsageError(f"no app, id or namespace is called '{selector}'", next=hint)
        return [(app, app.slots) for app in chosen]

    def _named(self, name: str) -> App:
        if name not in self.apps:
            raise UsageError(f"no app is called '{name}'", next="see 'percore list'")
        return self.apps[name]

    def _next_id(self) -> int:
        taken = {slot.id for app in self.apps.values() for slot in app.slots}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _refuse_doubles(self, configs: Iterable[AppConfig]) -> None:
        names = [config.name for config in configs]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two apps are called '{name}'")

    # -- what workers ask --------------------------------------------------------------------------------------------

    def find_worker(self, token: str) -> Optional[Worker]:
        for app in self.apps.values():
            for worker in app.living:
                if worker.token == token:
                    return worker
        return None

    def worker_is_ready(self, pid: int) -> bool:
        """A process said READY=1; False when it is not a worker's main process."""
        for app in self.apps.values():
            for worker in app.living:
                if worker.pid == pid:
                    worker.said_ready()
                    return True
        return False

    def open_listener(self, worker: Worker, address: Address) -> App:
        """The app of `worker`, unless another app shares this address already."""
        for app in self.apps.values():
            if app.name != worker.config.name and address in app.listeners:
                raise AddressInUse(
                    f"{address} is already shared by the app '{app.name}'",
                    next=f"give '{worker.config.name}' another port",
                )
        app = self.apps[worker.config.name]
        is_new = address not in app.listeners
        app.listener(address)
        if is_new:
            self._fill_store()  # before any worker can serve from it
        return app

    # -- logs --------------------------------------------------------------------------------------------------------

    def rotate_logs(self) -> None:
        """Looks at every log now and then, at once again while one is too long, and rarely while none grows."""
        limits = {self._home.daemon_log: Limits(AppConfig._field_defaults["log_max_size"], 1)}
        for app in self.apps.values():
            for worker in app.living:
                if worker.config.log_max_size:
                    for path in worker.log_paths:
                        limits[path] = Limits(worker.config.log_max_size, worker.config.log_keep)
        moved = 0
        for path, limit in limits.items():
            try:
                moved += rotate(path, limit)
            except OSError as error:
                self._say_once(f"{path} cannot be rotated: {error.strerror}")
        self._log_wait = 0.0 if moved else min(_LONGEST_LOG_WAIT, max(1.0, 2 * self._log_wait))
        self.runtime.loop.later(self._log_wait, self.rotate_logs)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._log(sentence)

    # -- memory, stranded clients ------------------------------------------------------------------------------------

    def _watch_memory(self) -> None:
        if not self._memory_timer_runs and any(app.config.max_memory for app in self.apps.values()):
            self._memory_timer_runs = True
            self.runtime.loop.later(_MEMORY_CHECK_SECONDS, self._check_memory)

    def _check_memory(self) -> None:
        self._memory_timer_runs = False
        for app in self.apps.values():
            for slot in app.slots if app.config.max_memory else ():
                worker = slot.worker
                if not worker.is_ready or slot in self._replacing:
                    continue
                worker.stats.sample(worker.pid)
                if worker.stats.memory_bytes > (worker.config.max_memory or 0):
                    used, limit = worker.stats.memory_bytes >> 20, (worker.config.max_memory or 0) >> 20
                    self._replace(app, slot, f"{app.name} {slot.number}: {used} MB is over its limit of {limit} MB")
        self._watch_memory()

    def _replace_unwell(self, worker: Worker, reason: str) -> None:
        slot, app = worker.slot, self.apps.get(worker.config.name)
        if app and slot in app.slots and slot not in self._replacing:
            self._replace(app, slot, f"{app.name} {slot.number}: {reason}")

    def _serve_stranded(self) -> None:
        for app in self.apps.values():
            for slot in app.slots:
                if slot not in self._replacing and slot.stranded():
                    self._replace(
                        app, slot, f"{app.name} {slot.number}: clients wait in the queue of a worker that is gone"
                    )

    def _replace(self, app: App, slot: Slot, reason: str) -> None:
        """A graceful replacement that nobody asked for."""
        self._log(reason)
        self._replacing.add(slot)

        def steps() -> Outcome:
            try:
                if app.config.shares_port:
                    yield from app.reload(app.config, [slot])
                else:
                    yield from app.restart(app.config, [slot])
                slot.worker.restarts += 1
            finally:
                self._replacing.discard(slot)
            return {}

        self.submit(reason, steps(), lambda _: None)

    # -- what others see ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return {
            "release": self.release or None,
            "daemon": True,
            "apps": [self._app_status(app) for app in self.apps.values()],
        }

    def _app_status(self, app: App) -> dict[str, Any]:
        addresses = list(app.listeners)
        ports = [address.port for address in addresses if address.port]
        return {
            "name": app.name,
            "mode": app.config.mode,
            "wanted": len(app.slots) if app.wanted else 0,
            "port": ports[0] if ports else app.config.port,
            "addresses": [str(address) for address in addresses],
            "workers": [worker.status() for worker in app.workers],
        }

    def describe(self, selector: str) -> list[dict[str, Any]]:
        """Everything about each selected worker, for `describe`, `jlist` and `logs`; values of the environment are left out."""
        found = []
        for app, slots in self.select(selector):
            for slot in slots:
                worker = slot.worker
                config = worker.config.to_record()
                config["env"] = sorted(config.get("env", {}))
                paths = worker.log_paths
                found.append({
                    **worker.status(), "name": app.name, "namespace": worker.config.namespace, "mode": app.config.mode,
                    "config": config, "out_file": paths.out, "error_file": paths.error, "cwd": worker.config.cwd,
                    "started_time": worker.started_time, "exit_code": worker.exit_code, "last_end": worker.last_end,
                    "addresses": [str(address) for address in worker.addresses], "wanted": slot.wanted,
                    "sharing": ("steered" if self.runtime.can_steer else "one socket") if worker.config.shares_port else "none",
                    "instances": len(app.slots),
                })  # fmt: skip
        return found

    # -- surviving ourselves -----------------------------------------------------------------------------------------

    def save(self) -> None:
        apps = [
            {
                "config": app.config.to_record(),
                "base_env": app.base_env,
                "wanted": app.wanted,
                "slots": [
                    {
                        "id": slot.id,
                        "wanted": slot.wanted,
                        "worker": slot.worker.to_snapshot(),
                        "others": [
                            other.to_snapshot() for other in (slot.incoming, slot.outgoing) if other and other.process
                        ],
                    }
                    for slot in app.slots
                ],
            }
            for app in self.apps.values()
        ]
        content = {"release": self.release, "apps": apps}
        if content == self._saved:
            return
        try:
            self._state.save(content)
            self._saved = content
        except OSError as error:
            self._log(f"{self._home.state} could not be written ({error.strerror}); the last one stands")

    def _fill_store(self) -> None:
        shelves: dict[str, list[int]] = {}
        for app in self.apps.values():
            for address, listener in app.listeners.items():
                shelves[json.dumps([app.name, *address])] = [sock.fileno() for sock in listener.sockets]
            for worker in app.workers:
                # Node's end of a channel whose other end closes makes the next process.send() throw.
                if worker.process and worker.process.channel:
                    shelves[json.dumps([worker.token])] = [worker.process.channel.fileno()]
        try:
            self.store.put(shelves)
        except OSError as error:
            self._log(f"sockets could not be put into the store ({error.strerror}); they end with this supervisor")

    def restore(self, saved: Mapping[str, Any], shelves: Mapping[str, Sequence[int]]) -> None:
        """Adopts what still runs and starts what should: `saved` is the state file, `shelves` the recovered sockets."""
        self.release = saved.get("release") or ""
        is_same_boot = saved.get("boot") == snapshot.boot_id()
        sockets: dict[str, dict[Address, Listener]] = {}
        channels: dict[str, socket.socket] = {}
        for name, descriptors in shelves.items():
            app_name, *fields = json.loads(name)
            if not fields:
                channels[app_name] = socket.socket(fileno=descriptors[0])
                continue
            address = Address(*fields)
            opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            sockets.setdefault(app_name, {})[address] = Listener.recovered(
                address, opened, steered=self.runtime.can_steer
            )
        adopted: set[str] = set()
        for record in saved["apps"]:
            config = AppConfig.from_record(record["config"], where=self._home.state)
            count = len(record["slots"])
            if not is_same_boot and not (isinstance(config.instances, int) and config.instances > 0):
                count = resolve_instances(config.instances, usable_cores())
            app = App(self.runtime, config, record["base_env"], self._next_id)
            app.wanted = record["wanted"]
            self.apps[config.name] = app
            app.set_slots(count)
            recovered = sockets.get(config.name, {})
            for slot, place in zip(app.slots, record["slots"]):
                slot.wanted = place["wanted"]
                if is_same_boot and place["worker"]:
                    adopted.update(self._adopt(app, slot, place["worker"], recovered, channels))
            # Not before it is known which of a slot's sockets has a worker: a connection steered elsewhere would wait for ever.
            app.listeners.update(recovered)
            app.set_slots(count)
        kill_strays(self._home.path, adopted)
        for app in self.apps.values():
            for slot, place in zip(app.slots, record_slots(saved, app.name)):
                if place.get("wanted", app.wanted) and not slot.worker.process:
                    slot.start()
        self._fill_store()
        self._watch_memory()

    def _adopt(
        self,
        app: App,
        slot: Slot,
        saved: Mapping[str, Any],
        listeners: Mapping[Address, Listener],
        channels: Mapping[str, socket.socket],
    ) -> list[str]:
        config = AppConfig.from_record(saved["config"], where=self._home.state)
        addresses = [Address(*fields) for fields in saved["addresses"]]
        if any(address not in listeners for address in addresses):
            self._log(f"{app.name} {slot.number}: its sockets were lost with the last supervisor, so it starts again")
            return []
        process = adopt(saved["pid"], saved["start_time"], channel=channels.get(saved["token"]))
        if process is None:
            return []
        worker = slot.worker
        worker.config = config
        worker.generation = saved["generation"]
        worker.adopt(process, saved)
        if not process.is_child:
            self.runtime.loop.watch(process.pidfd, lambda: self._adopted_ended(worker, process))
        self._log(f"{app.name} {slot.number}: adopted (pid {process.pid})")
        return [worker.token]

    def _adopted_ended(self, worker: Worker, process: Process) -> None:
        self.runtime.loop.unwatch(process.pidfd)
        if worker.process is process:
            process.kill_group()
            worker.ended(None)


def record_slots(saved: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    """The saved slots of an app, then an endless row of empty ones: there may be more slots than before."""
    for record in saved["apps"]:
        if record["config"]["name"] == name:
            yield from record["slots"]
    while True:
        yield {}


def _refusal(sentence: str) -> dict[str, Any]:
    return {"event": "result", "ok": False, "error": sentence, "exit_code": 1}

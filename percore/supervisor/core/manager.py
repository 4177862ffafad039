"""All apps of one supervisor: what is asked of them, and what follows when one of their workers changes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from percore.common.cpus import usable_cores
from percore.common.procfs import environment_of
from percore.common.typing import TYPE_CHECKING, Any, Callable, Optional
from percore.errors import PartialError, PercoreError, RolloutError, UsageError
from percore.supervisor.automation.log_rotation import LogRounds
from percore.supervisor.automation.memory_limit import MemoryWatch
from percore.supervisor.automation.restart_triggers import Routines
from percore.supervisor.config import app_bounds
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.config.app import AppConfig, resolve_instances
from percore.supervisor.config.dependencies import Needs, in_order, refuse_cycle, reversed_needs
from percore.supervisor.config.kinds import CLUSTER
from percore.supervisor.core import recovery, replace, selecting
from percore.supervisor.core import status as reporting
from percore.supervisor.core.app import App, not_taken_back, settled
from percore.supervisor.core.awaiting import Awaiting
from percore.supervisor.core.jobs import Blocked, Jobs, Outcome, do_in_order
from percore.supervisor.core.replace import Renewal
from percore.supervisor.core.replacements import Replacements
from percore.supervisor.core.set_aside import SetAside
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import Runtime, Worker
from percore.supervisor.core.worker_client import WorkerClient
from percore.supervisor.home import Home
from percore.supervisor.logs.files import LogOpener, has_formatter, open_logs
from percore.supervisor.loop import Job, Loop
from percore.supervisor.process.child import Children
from percore.supervisor.process.command import WorkerEnvironment
from percore.supervisor.program import Program, trial
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.preload import Outside, Preload, former_addresses, make_outside, place_preload
from percore.supervisor.sockets.sharing import find_sharing
from percore.supervisor.state import state_file
from percore.supervisor.state.fd_store import FdStore
from percore.supervisor.state.saved import SET_ASIDE, Saved, read_saved

_CONFLICTS_SECONDS = 10.0
_SAVE_AGAIN_SECONDS = 5.0

if TYPE_CHECKING:
    from percore.supervisor.automation.event_hooks import Hooks
    from percore.supervisor.automation.log_formatting import Scribes
    from percore.supervisor.process.cgroup import Groups


class Manager:
    def __init__(self, loop: Loop, home: Home, log: Callable[[str], None], store: FdStore, state: state_file.StateFile,
                 open_logs: LogOpener = open_logs) -> None:  # fmt: skip
        self.apps: dict[str, App] = {}
        self.release = ""
        self.store = store
        self.successor: Optional[Program] = None  # what this process is to execute next
        self.jobs = Jobs(log, loop.faults)
        self._log = log
        self._home = home
        self._state = state
        self._saved: dict[str, Any] = {}  # what the state file says
        self._saves_later = False
        self._has_home = True
        self._aside = SetAside(home.path, log)
        self._unknown: Mapping[str, Any] = {}  # what another version wrote into the state
        self._outside: dict[int, Outside] = {}  # by user
        self.let_user_in: Callable[[int, Outside], None] = lambda uid, outside: None  # opens its sockets
        self.serve_former: Callable[[str], None] = lambda address: None
        self._replacements = Replacements(self.apps, self.jobs, log)
        self._memory = MemoryWatch(loop, self._limited_workers, self._replace_over_limit)
        self.log_rounds = LogRounds(loop, home, self.apps, log)
        self._awaiting = Awaiting(self.apps, log)
        self._routines = Routines(loop, home, self.apps, self.jobs, log)
        self._scribes: Optional[Scribes] = None
        self._preload = place_preload(home.run)
        environment = WorkerEnvironment(
            home, self.find_preload, store.fds, self.find_outside, self.find_groups, open_logs
        )
        self.runtime = Runtime(
            loop,
            environment,
            Children(),
            find_sharing(),
            self._worker_changed,
            self._replacements.ask,
            log,
            self.open_listener,
            self.open_for_request,
        )
        loop.when_awake(_CONFLICTS_SECONDS, self._find_conflicts)

    # -- what the loop calls -----------------------------------------------------------------------------------------

    def _worker_changed(self, worker: Worker) -> None:
        self.jobs.note_change()
        app = self.apps.get(worker.config.name)
        if app:
            self._contain("steering", app, app.steer)
            if app.config.hooks:
                self._contain("running hooks", app, lambda: self._hooks.worker_changed(app, worker))
        line = reporting.line_of(worker)
        if not line:
            return
        self._log(line)
        if worker.is_ready and worker.liveness.unhealthy:
            return
        if self.jobs.is_heard:
            self.jobs.tell({"event": "worker", "app": worker.config.name, **reporting.status_of(worker)})

    def reap_children(self) -> None:
        """Called on SIGCHLD."""
        self.runtime.children.reap()

    def after_turn(self) -> None:
        """Jobs go on whenever something changed; then the state on disk follows."""
        has_changed = False
        while self.jobs.advance():
            has_changed = True
            self.runtime.loop.faults.contain("serving stranded clients", self._replacements.serve_stranded)
            if self.jobs.is_idle and self.runtime.loop.is_running:  # else everything was just ended
                for app in self.apps.values():
                    if not self._awaiting.holds(app):
                        self._contain("closing gaps", app, app.close_gap)
        if has_changed:
            for follow in (self._fill_store, self.save, self._awaiting.follow, self._follow_hooks,
                           self._routines.follow, self._follow_scribes):  # fmt: skip
                self.runtime.loop.faults.contain("following a change", follow)

    def _contain(self, doing: str, app: App, step: Callable[[], object]) -> None:
        """What fails about one app must not cost the others theirs."""
        self.runtime.loop.faults.contain(f"{doing} of {app.name}", step)

    def _follow_hooks(self) -> None:
        for app in self.apps.values():
            if app.config.hooks:
                self._contain("running hooks", app, functools.partial(self._hooks.app_changed, app))

    def _follow_scribes(self) -> None:
        if self._scribes is None and any(has_formatter(app.config) for app in self.apps.values()):
            from percore.supervisor.automation.log_formatting import Scribes  # few apps need it

            self._scribes = Scribes(self.runtime.loop, self._home, self.apps, self._log)
        if self._scribes:
            self._scribes.follow()

    def close_logs(self) -> None:
        self.log_rounds.close()
        if self._scribes and not any(worker for app in self.apps.values() for worker in app.living):
            self._scribes.close()

    # -- operations --------------------------------------------------------------------------------------------------

    def apply(self, configs: Sequence[AppConfig], base_env: Mapping[str, str], *, release: str, owner: str) -> Outcome:
        """Makes what runs match `configs`: clustered apps first, then singletons, but each after those it depends on; removed
        apps last.

        Raises RolloutError when an app failed and everything was taken back, PartialError when that was not possible.
        """
        self._check(configs)
        changes = []
        undo: list[Callable[[], Job]] = []
        fresh: list[App] = []
        try:
            by_name = {config.name: config for config in sorted(configs, key=lambda config: config.mode != CLUSTER)}
            needed = {name for config in configs for name in config.depends_on}
            for name in in_order(by_name, {config.name: config.depends_on for config in configs}):
                change = yield from self._apply_one(by_name[name], base_env, undo, soak=name in needed)
                changes.append({"app": name, "change": change})
                if change in ("added", "started", "restarted") and self.apps[name].wanted:
                    fresh.append(self.apps[name])
            # What nobody waits for is waited for together, at the end.
            for app in fresh:
                yield from app.soak()
        except PercoreError as error:
            yield from self._take_back(undo, error)
        wanted = {config.name for config in configs}
        removed = [name for name, app in self.apps.items() if app.config.source == owner and name not in wanted]
        for name in reversed(in_order(removed, self._needs(removed))):
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
                self._refuse_without_needs(app)
                yield from app.start(soak=soak)
            return "added"
        former, former_count = app.config, len(app.slots)
        change = "unchanged" if former.says_like(config) else "changed"
        if not app.runs_like(config):
            if app.wanted and former.shares_port and config.shares_port:
                yield from app.reload(config)
                undo.append(lambda: app.reload(former))
                change = "reloaded"
            else:
                undo.append(lambda: app.restart(former))
                yield from app.restart(config, soak=soak)
                change = "restarted"
        elif not app.wanted:
            self._refuse_without_needs(app)
            undo.append(app.stop)
            yield from app.start(soak=soak)
            change = "started"
        undo.append(lambda: settled(app, former))
        app.settle(config)
        if count != former_count:
            undo.append(lambda: app.scale(former_count))
            yield from app.scale(count)
            change = "scaled" if change in ("unchanged", "changed") else change
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

    def start(self, configs: Sequence[AppConfig], base_env: Mapping[str, str], how: str = "start") -> Outcome:
        """A process file, as PM2 takes it: missing apps start, known ones get the file's config and new workers.

        `how` they get them: "restart", or "reload", of which the first failure is the end; "start" loses no request
        where it can, and one app that fails does not stop the others.
        """
        self._check(configs)

        def start_one(config: AppConfig) -> Job:
            app = self.apps.get(config.name)
            if app:
                wish = Renewal(config, resolve_instances(config.instances, usable_cores()), base_env)
                yield from replace.renew(app, wish, how)
            else:
                yield from self._apply_one(config, base_env, [], soak=how == "reload")
            self._memory.plan()

        jobs = {config.name: start_one(config) for config in configs}
        needs = {config.name: config.depends_on for config in configs}
        if how == "reload":
            for name in in_order(jobs, needs):
                yield from jobs[name]
            return {}
        blocked: dict[str, Blocked] = {}
        try:
            yield from self._do_in_order(jobs, needs, blocked)
        finally:
            for config in configs:
                if config.name in blocked:
                    count = resolve_instances(config.instances, usable_cores())
                    app = self.apps.get(config.name) or self._add(config, base_env, count)
                    app.note_blocked(blocked[config.name].what)
        return {}

    def start_selected(self, selectors: Sequence[str]) -> Outcome:
        """What is down; where nothing is, PM2's users mean a restart."""
        chosen = self.select(selectors)
        down = [(app, [slot for slot in slots if slot.is_down]) for app, slots in chosen]
        if not any(slots for _, slots in down):
            return (yield from self.restart(selectors))
        yield from self._start_in_order([(app, slots) for app, slots in down if slots])
        return {}

    def _start_in_order(self, chosen: Sequence[tuple[App, list[Slot]]]) -> Job:
        def start_one(app: App, slots: list[Slot]) -> Job:
            self._refuse_without_needs(app)
            yield from app.start(slots, soak=False)

        blocked: dict[str, Blocked] = {}
        jobs = {app.name: start_one(app, slots) for app, slots in chosen}
        try:
            yield from self._do_in_order(jobs, self._needs(jobs), blocked)
        finally:
            for name, error in blocked.items():
                self.apps[name].note_blocked(error.what)

    def stop(self, selectors: Sequence[str]) -> Outcome:
        chosen = self.select(selectors)
        yield from self._stop_in_order({
            app.name: app.stop(None if len(slots) == len(app.slots) else slots) for app, slots in chosen
        })  # fmt: skip
        return {}

    def restart(
        self,
        selectors: Sequence[str],
        changes: Optional[Mapping[str, Any]] = None,
        base_env: Optional[Mapping[str, str]] = None,
    ) -> Outcome:
        """Stops, then starts, with these fields of the config changed, and in another environment where one is given."""
        chosen = replace.with_changes(self.select(selectors), changes or {})
        self._check_changed(config for _, _, config in chosen)
        for app, _, config in chosen:
            if config.name != app.name and (config.name in self.apps or len(chosen) > 1):
                raise UsageError(f"'{app.name}' cannot be called '{config.name}', as another app is")

        def restart_one(app: App, slots: Sequence[Slot], config: AppConfig) -> Job:
            if base_env is not None:
                app.set_env(base_env)
            if config.name != app.name:
                yield from app.stop(slots)
                self._aside.make_way(config.name)
                self.apps[config.name] = self.apps.pop(app.name)
            yield from app.restart(config, slots, soak=False)
            replace.count(slots)

        jobs = {each[0].name: restart_one(*each) for each in chosen}
        yield from self._do_in_order(jobs, self._needs(jobs))
        self._memory.plan()
        return {}

    def reload(
        self,
        selectors: Sequence[str],
        changes: Optional[Mapping[str, Any]] = None,
        base_env: Optional[Mapping[str, str]] = None,
    ) -> Outcome:
        """Zero-loss where the port is shared; a restart for the rest, of which two must never run at once."""
        chosen = {each[0].name: each for each in replace.with_changes(self.select(selectors), changes or {})}
        self._check_changed(config for _, _, config in chosen.values())
        for app, _, config in chosen.values():
            if config.name != app.name:
                raise UsageError(
                    "a reload cannot give an app another name", next=f"percore restart {app.name} --name ..."
                )
        for name in in_order(chosen, self._needs(chosen)):
            app, slots, config = chosen[name]
            yield from replace.reload(app, slots, config, base_env)
        self._memory.plan()
        return {}

    def set_watch(self, selectors: Sequence[str], wish: Optional[bool]) -> Outcome:
        """Switches `watch` of the selected apps; None: to what it is not."""
        for app, _ in self.select(selectors):
            is_on = not app.config.watch if wish is None else wish
            places = app.config.watch or (app.config.cwd,)
            app.settle(app.config._replace(watch=places if is_on else ()))
        self._routines.follow()  # before the answer: what changes from now on counts
        yield from ()
        return {}

    def delete(self, selectors: Sequence[str]) -> Outcome:
        chosen = self.select_whole(selectors)
        for name in self._aside.names:
            if name in selectors or "all" in selectors:
                self._aside.make_way(name)
        yield from self._stop_in_order({app.name: self._delete(app) for app, _ in chosen})
        return {}

    def reset(self, selectors: Sequence[str]) -> None:
        """Counts from zero again."""
        for _, slots in self.select(selectors):
            for slot in slots:
                slot.worker.history.restarts = slot.worker.history.failures.unstable = 0
        self.jobs.note_change()

    def signal(self, selectors: Sequence[str], number: int) -> int:
        """Sends a signal to the main processes; returns how many there were."""
        children = [slot.worker.child for _, slots in self.select(selectors) for slot in slots]
        living = [child.process for child in children if child.process]
        for process in living:
            process.signal(number, whole_group=False)
        return len(living)

    def dump(self, *, force: bool) -> int:
        """Writes down what is wanted now, for `resurrect`; returns the number of apps."""
        if not self.apps and not force:
            raise PercoreError("there is no app to save", next="percore save --force, or percore cleardump")
        file = state_file.StateFile(self._home.dump)
        with contextlib.suppress(OSError, ValueError):
            file.read()  # what it names stays readable as the one before
        try:
            file.save(self._record(recovery.wish_of))
        except OSError as error:
            raise PercoreError(f"it could not be written: {error.strerror}", where=self._home.dump) from None
        return len(self.apps)

    def resurrect(self) -> Outcome:
        """Starts what was saved and is not known any more."""
        content, problem = state_file.StateFile(self._home.dump).load()
        if content is None:
            raise PercoreError(problem or "nothing was saved", where=self._home.dump, next="percore save")
        saved = read_saved(content)
        for line in filter(None, (problem, *(f"'{app.name}' was saved, but {app.reason}" for app in saved.aside))):
            self._log(line)
        added = [self._restorer().add(app) for app in saved.apps if app.config.name not in self.apps]
        self._memory.plan()
        wanted = [(app, [slot for slot in app.slots if slot.wanted]) for app in added]
        yield from self._start_in_order([(app, slots) for app, slots in wanted if slots])
        if saved.aside:
            app = saved.aside[0]
            raise UsageError(f"'{app.name}' cannot be started: {app.reason}; the others were", where=self._home.dump)
        return {"apps": [app.name for app in added]}

    def scale(self, name: str, wish: str) -> Outcome:
        app = self._named(name)
        count = len(app.slots) + int(wish) if wish.startswith(("+", "-")) else resolve_instances(wish, usable_cores())
        if count < 1:
            raise UsageError(f"'{name}' cannot have {count} workers", next=f"percore stop {name}")
        app_bounds.check_count(app.config, count)
        yield from app.scale(count)
        return {"workers": count}

    def kill(self) -> Outcome:
        """Stops and forgets everything, then ends the loop."""
        self._aside.forget()
        yield from self._stop_in_order({app.name: self._delete(app) for app in self.apps.values()})
        self.runtime.loop.stop()
        return {}

    def update(self, program: Program) -> Outcome:
        """Ends the loop, so that this process can execute the program; everything goes on running."""
        yield from trial(self.runtime.loop, program, self.jobs.note_change)
        self.successor = program
        return (yield from self.leave())

    def leave(self) -> Outcome:
        """Ends the loop; everything goes on running, and another supervisor takes over."""
        self.save()
        self._fill_store()
        self.runtime.loop.stop()
        yield from ()
        return {}

    def shut_down(self) -> Outcome:
        """Stops everything but keeps the wish, so that the next supervisor starts it again."""
        try:
            yield from self._stop_in_order({app.name: app.halt() for app in self.apps.values()})
        except PercoreError as error:
            self._log(f"shut down: {error}")  # what still runs is taken up by the next supervisor
        self.runtime.loop.stop()
        return {}

    def _add(self, config: AppConfig, base_env: Mapping[str, str], count: int) -> App:
        self._aside.make_way(config.name)
        app = App(self.runtime, config, base_env, self._next_ids)
        self.apps[config.name] = app
        app.set_slots(count)
        self._memory.plan()
        return app

    def _delete(self, app: App) -> Job:
        yield from app.stop()
        app.close()
        self.apps.pop(app.name, None)

    # -- hooks -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _hooks(self) -> Hooks:
        from percore.supervisor.automation.event_hooks import Hooks

        return Hooks(self.runtime.loop, self._home, self._log)

    def _replace_over_limit(self, worker: Worker, reason: str) -> None:
        app = self.apps.get(worker.config.name)
        if app and app.config.hooks and not self._replacements.is_under_way(worker):
            self._hooks.tell(app, "memory", reason, worker)
        self._replacements.ask(worker, reason)

    # -- which app before which ----------------------------------------------------------------------------------------

    def _needs(self, names: Iterable[str]) -> Needs:
        return {name: self.apps[name].config.depends_on for name in names}

    def _do_in_order(self, jobs: Mapping[str, Job], needs: Needs, blocked: Optional[dict[str, Blocked]] = None) -> Job:
        """As `jobs.do_in_order`; an unexpected failure is that app's alone."""
        yield from do_in_order({name: self._told(name, job) for name, job in jobs.items()}, needs, blocked)

    def _told(self, name: str, job: Job) -> Job:
        try:
            yield from job
        except PercoreError:
            raise
        except Exception as error:
            raise self.runtime.loop.faults.note(f"changing {name}", error) from error

    def _stop_in_order(self, jobs: Mapping[str, Job]) -> Job:
        yield from self._do_in_order(jobs, reversed_needs(self._needs(jobs)))

    def _check(self, configs: Sequence[AppConfig]) -> None:
        names = [config.name for config in configs]
        cores = usable_cores()
        for config in configs:
            app_bounds.check(config, cores)
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two apps are called '{name}'")
        app_bounds.check_log_names([app.config for app in self.apps.values() if app.name not in names], configs)
        refuse_cycle({**self._needs(self.apps), **{config.name: config.depends_on for config in configs}})

    def _check_changed(self, configs: Iterable[AppConfig]) -> None:
        """What an app that is known would become; one that stays as it is was taken before."""
        for config in configs:
            known = self.apps.get(config.name)
            if known is None or known.config != config:
                self._check([config])

    def _refuse_without_needs(self, app: App) -> None:
        """An app is only started when those it depends on are up."""
        for name in app.config.depends_on:
            need = self.apps.get(name)
            if need is None or not need.is_up:
                error = Blocked(app.name, name, "is not running" if need else "is not there")
                error.next = f"percore start {name}" if need else "start both from one file"
                app.note_blocked(error.what)
                raise error

    # -- names and ids -----------------------------------------------------------------------------------------------

    def select(self, selectors: Iterable[str]) -> selecting.Chosen:
        return selecting.select_all(self.apps, selectors)

    def select_whole(self, selectors: Iterable[str]) -> selecting.Chosen:
        """What is to be deleted; apps that were set aside can be as well."""
        return selecting.select_whole(self.apps, [name for name in selectors if name not in self._aside.names])

    def _named(self, name: str) -> App:
        if name not in self.apps:
            raise UsageError(f"no app is called '{name}'", next="see 'percore list'")
        return self.apps[name]

    def _next_ids(self, count: int) -> list[int]:
        """The lowest that are free."""
        taken = {slot.id for app in self.apps.values() for slot in app.slots}
        return [number for number in range(len(taken) + count) if number not in taken][:count]

    # -- what workers ask --------------------------------------------------------------------------------------------

    def find_worker(self, token: str) -> Optional[WorkerClient]:
        for app in self.apps.values():
            for worker in app.living:
                if worker.child.token == token:
                    return WorkerClient(worker)
        return None

    def has_worker_of(self, uid: int) -> bool:
        return any(WorkerClient(worker).uid == uid for app in self.apps.values() for worker in app.living)

    def worker_is_ready(self, pid: int) -> bool:
        """A process said READY=1; False when it is not a worker's main process."""
        for app in self.apps.values():
            for worker in app.living:
                if worker.pid == pid:
                    worker.readiness.said_ready()
                    return True
        return False

    def open_listener(self, worker: Worker, address: Address) -> Listener:
        """What the worker's app shares at this address, unless another app shares it already. Raises PercoreError or OSError."""
        for app in self.apps.values():
            for other in app.listeners if app.name != worker.config.name else ():
                if address.overlaps(other):
                    place = f"{address}" if address == other else f"{address} overlaps with {other}, which"
                    raise AddressInUse(
                        f"{place} is already shared by the app '{app.name}'",
                        next=f"give '{worker.config.name}' another port",
                    )
        app = self.apps[worker.config.name]
        is_new = address not in app.listeners
        listener = app.listener(address, worker)
        if is_new:
            self._fill_store()  # before any worker can serve from it
        return listener

    def open_for_request(self, worker: Worker, address: Address) -> Listener:
        """As `open_listener`, for what a worker asks by itself. Raises BlockingIOError when it is to ask again later."""
        app = self.apps[worker.config.name]
        if address not in app.listeners and not app.new_addresses.take():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.open_listener(worker, address)

    def find_outside(self, uid: int) -> Outside:
        """Opened when the first worker of this user needs it. Raises PercoreError or OSError."""
        known = self._outside.get(uid)
        if known is None or not known.preload.is_there:
            outside = make_outside(self._home, uid)
            if known is None:
                self.let_user_in(uid, outside)
            self._outside[uid] = outside
        return self._outside[uid]

    def _find_former_addresses(self) -> None:
        """A worker that an earlier version started goes on with what that one put into its environment."""
        living = [worker.pid for app in self.apps.values() for worker in app.living]
        for address in former_addresses(self._home):
            if any(variable.endswith(f"={address}".encode()) for pid in living for variable in environment_of(pid)):
                self.serve_former(address)

    def find_preload(self) -> Preload:
        if not self._preload.is_there:
            self._preload = place_preload(self._home.run)
        return self._preload

    def find_groups(self) -> Groups:
        return self._groups

    @functools.cached_property
    def _groups(self) -> Groups:
        from percore.supervisor.process.cgroup import find_groups

        return find_groups(self._log)

    def _find_conflicts(self) -> None:
        """Not worth waking up for: a look whenever the supervisor is awake, but not all the time."""
        for app in self.apps.values():
            self._contain("looking at ports", app, app.router.find_conflicts)
        self.runtime.loop.when_awake(_CONFLICTS_SECONDS, self._find_conflicts)

    # -- what is watched ---------------------------------------------------------------------------------------------

    def _limited_workers(self) -> Iterator[Worker]:
        return (slot.worker for app in self.apps.values() if app.config.max_memory_restart for slot in app.slots)

    def compare(self, configs: Sequence[AppConfig], *, owner: str) -> list[dict[str, Any]]:
        """What `apply` would change."""
        from percore.supervisor.core.apply import Running, compare

        self._check(configs)
        running = {
            name: Running(app.config, len(app.slots), app.wanted, not app.runs_like(app.config))
            for name, app in self.apps.items()
        }
        return compare(running, configs, owner=owner, cores=usable_cores())

    # -- what others see ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return {
            "release": self.release or None,
            "daemon": True,
            "apps": [reporting.app_status(app) for app in self.apps.values()],
        }

    def describe(self, selectors: Iterable[str], *, with_env: bool = False) -> list[dict[str, Any]]:
        chosen = self.select(selectors)
        for app, _ in chosen:
            self._contain("looking at ports", app, app.router.find_conflicts)
        dropped = self.log_rounds.dropped
        return [entry for app, slots in chosen for entry in reporting.describe(app, slots, dropped, with_env=with_env)]

    # -- surviving ourselves -----------------------------------------------------------------------------------------

    def _record(self, record: Callable[[Iterable[App], str], dict[str, Any]]) -> dict[str, Any]:
        content = {**self._unknown, **record(self.apps.values(), self.release)}
        return {**content, SET_ASIDE: self._aside.records} if self._aside.records else content

    def write_anew(self) -> None:
        """Somebody deleted the home, which is there again, and empty."""
        if self.log_rounds.own_log:
            self.runtime.loop.faults.contain("opening the log again", self.log_rounds.own_log.reopen)
        self._state.forget()
        self._saved = {}
        self.save()

    def give_up(self) -> None:
        """Another supervisor has our home: everything of ours ends, and nothing more is written there."""
        self._has_home = False
        self.jobs.submit("give up the home", self.shut_down(), lambda _: None, urgent=True)

    def save(self) -> None:
        content = self._record(recovery.record_of)
        if content == self._saved or not self._has_home:
            return
        try:
            self._state.save(content)
            self._saved = content
        except OSError as error:
            if not self._saves_later:
                self._log(f"{self._home.state} could not be written ({error.strerror}); the last one stands")
                self._saves_later = True
                self.runtime.loop.later(_SAVE_AGAIN_SECONDS, self._save_again)

    def _save_again(self) -> None:
        self._saves_later = False
        self.save()

    def _fill_store(self) -> None:
        try:
            self.store.put({**self._aside.shelves, **recovery.shelves_of(self.apps.values())})
        except OSError as error:
            self._log(f"sockets could not be put into the store ({error.strerror}); they end with this supervisor")

    def restore(self, saved: Optional[Saved], shelves: Mapping[str, Sequence[int]]) -> None:
        """Goes on where an earlier supervisor ended. Without a state, what runs goes on serving until an app is started."""
        if saved is None:
            self._aside.find_all()
            return
        self.release, self._unknown = saved.release, saved.unknown
        self._restorer().restore(saved, shelves)
        for app in self.apps.values():
            for worker in app.living if app.config.user or app.config.group else ():
                self.find_outside(WorkerClient(worker).uid)
        self._find_former_addresses()
        self.jobs.note_change()
        self._fill_store()
        self._memory.plan()
        self._routines.follow()
        self._follow_scribes()

    def _restorer(self) -> recovery.Restorer:
        return recovery.Restorer(self.runtime, self.apps, self._next_ids, self._awaiting.start, self._aside, self._log)

"""All apps of one supervisor, by name: which there are, which depend on which, and jobs for several in that order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from percore.common.app_names import full_name, names_of
from percore.common.cpus import usable_cores
from percore.common.typing import TYPE_CHECKING, Any, Optional
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Job
from percore.supervisor.config import app_bounds
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.dependencies import Needs, refuse_cycle, reversed_needs
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Blocked, do_in_order
from percore.supervisor.core.lifecycle import halt, note_blocked, stop
from percore.supervisor.core.worker.worker import Runtime, Worker
from percore.supervisor.state.set_aside import SetAside

if TYPE_CHECKING:
    from typing import Protocol

    class JobReports(Protocol):
        """The jobs among the apps."""

        def report(self, names: Sequence[str]) -> list[dict[str, Any]]: ...

        def run_now(self, app: App) -> None: ...


class Apps(dict[str, App]):
    runtime: Runtime  # is set when there is what workers ask for, which needs the apps

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.aside = SetAside(home.path)
        self.release = ""  # that was applied last
        self.job_runs: Optional[JobReports] = None  # from the first job on
        self.unknown: Mapping[str, Any] = {}  # what another version wrote into the state

    def add(self, config: AppConfig, base_env: Mapping[str, str], count: int) -> App:
        self.aside.make_way(config.name)
        app = App(self.runtime, config, base_env, self)
        self[config.name] = app
        app.set_slots(count)
        return app

    def rename(self, app: App, name: str) -> None:
        self.aside.make_way(name)
        self.runtime.counts.rename(app.name, name)
        self[name] = self.pop(app.name)

    def delete(self, app: App) -> Job:
        yield from stop(app)
        app.router.close()
        self.pop(app.name, None)
        self.runtime.counts.keep(self)

    def named(self, name: str) -> App:
        found = [app for app in self.values() if name in names_of(app.name, app.config.namespace)]
        if not found:
            raise UsageError(f"no app is called '{name}'", next="see 'percore list'")
        if len(found) > 1:
            names = " or ".join(full_name(app.name, app.config.namespace) for app in found)
            raise UsageError(f"{len(found)} apps are called '{name}'", next=f"name one of them: {names}")
        return found[0]

    @property
    def living(self) -> Iterator[Worker]:
        return (worker for app in self.values() for worker in app.living)

    def needs(self, names: Iterable[str]) -> Needs:
        return {name: self[name].config.depends_on for name in names}

    # -- what is refused before anything changes ----------------------------------------------------------------------

    def check(self, configs: Sequence[AppConfig]) -> None:
        """Raises UsageError unless the apps may have these configs."""
        names = [config.name for config in configs]
        cores = usable_cores()
        for config in configs:
            app_bounds.check(config, cores)
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two apps are called '{name}'")
        owners = {full_name(app.name, app.config.namespace): app.name for app in self.values()}
        for config in configs:
            full = full_name(config.name, config.namespace)
            if owners.get(full, config.name) != config.name:
                raise UsageError(f"there is an app '{full}' already", next="use another name or namespace")
        app_bounds.check_log_names([app.config for app in self.values() if app.name not in names], configs)
        refuse_cycle({**self.needs(self), **{config.name: config.depends_on for config in configs}})

    def check_changed(self, configs: Iterable[AppConfig]) -> None:
        """As `check`; a config that stays as it is was accepted before."""
        for config in configs:
            known = self.get(config.name)
            if known is None or known.config != config:
                self.check([config])

    def check_needs(self, app: App) -> None:
        """Raises Blocked unless the apps that it depends on are up."""
        for name in app.config.depends_on:
            need = self.get(name)
            if need is None or not need.is_up:
                error = Blocked(app.name, name, "is not running" if need else "is not there")
                error.next = f"percore start {name}" if need else "start both from one file"
                note_blocked(app, error.what)
                raise error

    # -- jobs for several --------------------------------------------------------------------------------------------

    def do_in_order(
        self, jobs: Mapping[str, Job], needs: Optional[Needs] = None, blocked: Optional[dict[str, Blocked]] = None
    ) -> Job:
        """As `jobs.do_in_order`, by default in the order of `depends_on`; an unexpected failure is that app's alone."""
        contained = {name: self._contained(name, job) for name, job in jobs.items()}
        yield from do_in_order(contained, self.needs(jobs) if needs is None else needs, blocked)

    def stop_in_order(self, jobs: Mapping[str, Job]) -> Job:
        yield from self.do_in_order(jobs, reversed_needs(self.needs(jobs)))

    def delete_all(self) -> Job:
        self.aside.forget()
        yield from self.stop_in_order({app.name: self.delete(app) for app in self.values()})

    def halt_all(self) -> Job:
        """All stay wanted, so that the next supervisor starts them again; it also adopts what does not end."""
        try:
            yield from self.stop_in_order({app.name: halt([*app.slots, *app.leaving]) for app in self.values()})
        except PercoreError as error:
            log(f"shut down: {error}")

    def _contained(self, name: str, job: Job) -> Job:
        try:
            yield from job
        except PercoreError:
            raise
        except Exception as error:
            raise self.runtime.loop.faults.note(f"changing {name}", error) from error


# -- what a file calls by names of its own --------------------------------------------------------------------------------


def settle_names(apps: Apps, configs: Sequence[AppConfig], *, replaces: bool = False) -> list[AppConfig]:
    """By the names that they have here, where a namespace is part of an app's name.

    Raises UsageError for one that would replace the app of another project, unless that is wanted (`replaces`).
    """
    names = {**apps.aside.full_names, **{full_name(name, app.config.namespace): name for name, app in apps.items()}}
    settled = [config._replace(name=_name_here(config, names)) for config in configs]
    new_names = {config.name: here.name for config, here in zip(reversed(configs), reversed(settled))}
    found = [
        config._replace(depends_on=tuple(new_names.get(name, name) for name in config.depends_on)) for config in settled
    ]
    for config in found if not replaces else ():
        if config.name in apps and not app_bounds.is_same_project(apps[config.name].config, config):
            raise _of_another_project(apps[config.name].config, config)
    return found


def _name_here(config: AppConfig, names: dict[str, str]) -> str:
    """That of the app as it is known, or a free one; it is noted in `names`."""
    full = full_name(config.name, config.namespace)
    if full not in names:
        free = [name for name in (config.name, full) if name not in names.values()]
        if not free:
            raise UsageError(f"there is an app '{full}' already", next="use another name or namespace")
        names[full] = free[0]
    return names[full]


def _of_another_project(known: AppConfig, config: AppConfig) -> UsageError:
    place, other = (each.source or app_bounds.script_of(each) for each in (config, known))
    return UsageError(
        f"there is an app '{config.name}' of another project, from {other}; that of {place} would replace it",
        next="give it another name or a namespace, or add --replace",
    )

"""`init`: what an app's repository needs to be deployed from. Nothing that exists is changed."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from percore import __version__
from percore.common import names
from percore.common.passwords import for_programs
from percore.deploy.command_line import relative, to_type
from percore.deploy.inventory import environments, find_inventory, load_inventory
from percore.deploy.inventory.host_ranges import parse_hosts
from percore.deploy.plan.settings import settings_left_out
from percore.deploy.report import Report
from percore.deploy.scaffold import texts
from percore.deploy.scaffold.detect import Detected, apps_below, detect
from percore.deploy.shipped import shipped_directory
from percore.errors import UsageError

LOCAL = "local"
OTHER_TASKS = "percore_tasks"
"""For a project whose tasks.py is something else, such as Celery's tasks: `invoke -c percore_tasks`."""


@dataclass(frozen=True)
class InitWish:
    """What the operator said. `app` is where the app lies, `hosts` as on the command line."""

    env: str
    project: Path
    app: Path
    hosts: str = ""


def init(wish: InitWish, report: Report) -> None:
    """Write what is missing, and say what was found and what comes next."""
    _check(wish)
    user, hosts = read_hosts(wish.hosts)
    app = detect(wish.app)
    _check_place(wish, app)
    _show(app, report)
    writer = _Writer(wish.project, report)
    tasks = _tasks_file(wish.project)
    writer.write(f"{tasks}.py", texts.TASKS)
    _write_inventory(wish, app, user, hosts, writer)
    in_app = _Writer(wish.app, report)
    if wish.env != LOCAL:
        example = texts.ENV_EXAMPLE.format(env=wish.env, name=app.name, port=app.port.value)
        in_app.write(f".env.{wish.env}.example", example)
    if app.process_file:
        report.line(f"  kept   {relative(wish.app / app.process_file)}")
    else:
        in_app.write(*texts.process_file(app))
    _show_next(wish, tasks, report)


def _check(wish: InitWish) -> None:
    if not names.is_path_word(wish.env):
        raise UsageError(
            f"{ascii(wish.env)[:80]} cannot be the name of an environment", where="--env", next=f"use {names.PATH_WORD}"
        )
    if not wish.app.is_dir():
        raise UsageError("there is no such directory", where=f"--app {wish.app}", next="name the app's directory")
    if wish.app.resolve() == shipped_directory():
        raise UsageError(
            "this is percore's own repository",
            where=str(wish.app),
            next=f"{to_type(f'init --env {wish.env}')} --app ../shop, or run it in your app's repository",
        )


def _check_place(wish: InitWish, app: Detected) -> None:
    """The top of a repository with apps below it: what would be written for it is never changed again."""
    below = apps_below(wish.app) if app.programs[0].is_guess and not app.process_file else []
    if below:
        command = f"percore init --env {wish.env} --app {relative(wish.app / below[0])}"
        others = f" (or {', '.join(below[1:9])})" if below[1:] else ""
        raise UsageError("nothing here says what starts an app", where=str(wish.app), next=f"{command}{others}")


def read_hosts(words: str) -> tuple[str, list[str]]:
    """`deployer@web[1:3].example.com, web9.example.com`: the user, and the hosts as an inventory names them."""
    user = ""
    hosts: list[str] = []
    for word in re.split(r"[,\s]+", words.strip()) if words.strip() else []:
        name, _, host = word.rpartition("@")
        if name and user and name != user:
            raise UsageError(
                "the hosts have different users", where="--hosts", next="set ansible_user in the inventory"
            )
        if name and not names.is_ssh_user(name):
            raise UsageError(f"{ascii(name)[:80]} cannot be a user", where="--hosts", next="write USER@HOST")
        if not all(map(names.is_ssh_host, parse_hosts(host, "--hosts")[0])):
            raise UsageError(f"{ascii(host)[:80]} cannot be a host", where="--hosts", next="write USER@HOST")
        user, hosts = user or name, [*hosts, host]
    return user, hosts


def _tasks_file(project: Path) -> str:
    """`tasks`, unless something else is called so."""
    path = project / "tasks.py"
    if (project / "tasks").is_dir() and not path.exists():
        return OTHER_TASKS
    is_ours = not path.exists() or "percore.tasks" in path.read_text(encoding="utf-8", errors="replace")
    return "tasks" if is_ours else OTHER_TASKS


def _write_inventory(wish: InitWish, app: Detected, user: str, hosts: list[str], writer: _Writer) -> None:
    directory = wish.project / "inventories"
    app_path = Path(os.path.relpath(wish.app, wish.project)).as_posix()
    if wish.env in environments(directory) and not (directory / wish.env).is_dir():
        writer.report.line(f"  kept   the inventory of {wish.env} in {relative(directory)}")
    elif wish.env == LOCAL:
        writer.write("inventories/local.yml", texts.local_inventory(app, app_path, __version__))
    else:
        inventory = f"invoke inventory --env {wish.env}"
        writer.write(f"inventories/{wish.env}/hosts.yml", texts.hosts_file(wish.env, hosts, inventory))
        explain = f"invoke explain --env {wish.env} --host HOST"
        text = texts.group_vars(app, app_path, user, __version__, explain)
        writer.write(f"inventories/{wish.env}/group_vars/all.yml", text)


@dataclass(frozen=True)
class _Writer:
    directory: Path
    report: Report

    def write(self, name: str, text: str) -> None:
        """A file that exists, or a link of that name, is kept."""
        path = self.directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except FileExistsError:
            self.report.line(f"  kept   {relative(path)}")
        except OSError as error:
            raise UsageError(f"it cannot be written: {error.strerror}", where=str(path)) from None
        else:
            self.report.line(f"  wrote  {relative(path)}")


def _show(app: Detected, report: Report) -> None:
    report.line(f"app      {app.name}")
    report.line(f"build    {app.tools}")
    if not app.process_file:
        report.line(f"runs     {', '.join(program.script for program in app.programs)}")
    report.line(f"port     {app.port.value} ({app.port.place or app.port_note})")
    health = f"{app.health.value} ({app.health.place})" if app.health else "none found; a connection is enough"
    report.line(f"health   {health}")
    for setting in app.settings:
        report.line(f"set      {setting.name}: {texts.scalar(setting.value)} ({setting.note})")
    for note in app.notes:
        report.warn(note)


def _show_next(wish: InitWish, tasks: str, report: Report) -> None:
    command, file = to_type(f"deploy --env {wish.env}"), f".env.{wish.env}"
    if settings := settings_left_out(wish.app, wish.env):
        report.line(
            f"{settings} is not deployed: write what the app needs of it to {file}, which a deploy gives to the app"
        )
    if tasks != "tasks":
        report.line(f"tasks.py is something else here, so percore's tasks are in {tasks}.py: invoke -c {tasks}")
        command = to_type(f"deploy --env {wish.env}", tasks)
    if wish.env != LOCAL and not _is_ignored(wish.app, file):
        report.line(f"git does not ignore {file} yet: add it to .gitignore before you write secrets there")
    path = find_inventory(wish.env, wish.project / "inventories")
    first = "" if load_inventory(path).hosts else f"name the hosts in inventories/{wish.env}/hosts.yml, then: "
    report.line(f"next: {first}{command}")


def _is_ignored(app: Path, name: str) -> bool:
    """True outside of a repository as well."""
    words = ["git", "check-ignore", "-q", name]
    try:
        done = subprocess.run(
            words, cwd=app, env=for_programs(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        return True
    return done.returncode != 1

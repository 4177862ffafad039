"""What frameworks need beside the web app: workers, a schedule, migrations, static files; as their own guides lay them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from percore.common import names
from percore.deploy.scaffold.source import AppSource
from percore.deploy.scaffold.start_line import ONLY_HERE, runs_on_hosts


class Proposal(NamedTuple):
    """A variable of the inventory, and where or why."""

    name: str
    value: Any
    note: str


@dataclass(frozen=True)
class Beside:
    """A program beside the web app, with keys of its own in the process file."""

    kind: str
    command: str

    @property
    def keys(self) -> dict[str, object]:
        return dict(_ENDS_JOBS) if _WORKER.fullmatch(self.kind) else {}

    @property
    def is_for_fleet(self) -> bool:
        """What starts jobs by time starts each of them twice if it runs twice."""
        return bool(_CLOCK.fullmatch(self.kind))


DATA = "data"
"""The directory that a proposal puts into `shared`: a release belongs to root."""

_ENDS_JOBS = {"kill_timeout": 60000}
"""What a job that runs gets to end; then it is killed."""

_WORKER = re.compile(r"workers?|queues?|jobs|consumers?")
_CLOCK = re.compile(r"beat|clock|cron|scheduler")
_BESIDE = re.compile(
    r"(?:start:|run:)?(?P<kind>workers?|queues?|jobs|consumers?|scheduler|cron)(?P<built>:prod|:production)?$"
)
_MIGRATES = re.compile(
    r"(?:db:)?(?:migrate(?::(?:deploy|prod|production|up|latest))?|migrations?:run(?::prod|:production)?)$"
)
_CELERY = re.compile(r"^(?P<name>\w+)\s*(?::\s*\w+)?=\s*(?:celery\.)?Celery\(")
_BEAT = re.compile(r"\bbeat_schedule\b|\bCELERY_BEAT_SCHEDULE\b|\badd_periodic_task\(|['\"]django_celery_beat['\"]")
_STANDALONE = re.compile(r"\boutput\s*:\s*['\"]standalone['\"]")
_STATIC_ROOT = re.compile(r"^STATIC_ROOT\s*=.*?['\"](?P<path>[\w./-]+)['\"]\s*\)*\s*(?:#.*)?$")
_STATIC_URL = re.compile(r"^STATIC_URL\s*=\s*['\"]/?(?P<path>[\w./-]+?)/?['\"]")
_SQLITE = re.compile(r"['\"`](?:sqlite(?:\+\w+)?:///)?(?!/)[\w./-]*?(?P<file>[\w-]+\.(?:sqlite3?|db))['\"`]")
_ALLOWED = re.compile(r"^ALLOWED_HOSTS\s*=\s*[\[(]\s*['\"](?P<host>[A-Za-z0-9][A-Za-z0-9.-]*)['\"]")

_ASGI = re.compile(r"^(?P<name>\w+)\s*(?::\s*\w+)?=\s*(?:FastAPI|Starlette|Litestar|Quart)\(")
_WSGI = re.compile(r"^(?P<name>\w+)\s*(?::\s*\w+)?=\s*(?:Flask|Bottle|falcon\.App)\(")
_MADE = re.compile(
    r"^(?P<name>app|application|server|api)\s*(?::\s*\w+)?=\s*(?:\w+\.)*(?:create|make|get|build)_(?:\w*_)?app\w*\("
)
_FACTORY = re.compile(r"^def (?P<name>(?:create|make)_(?:\w*_)?app)\((?:\)|\*|\w+\s*(?::[^=,]+)?=)")
"""A function that makes the app, and may be called without an argument."""
_RUNS = re.compile(r"^\s*(?:uvicorn|app|application|server)\.run\(")
_SERVERS = {True: {"uvicorn", "fastapi"}, False: {"gunicorn"}}

_PACKAGES = {"nest": "@nestjs/cli", "ng": "@angular/cli"}
"""Where a program is not called as its package."""

NEXT_STANDALONE = ".next/standalone/server.js"


def is_next_standalone(source: AppSource) -> bool:
    """`next start` refuses such a build; it has a server of its own."""
    configs = [f"next.config.{ending}" for ending in ("ts", "js", "mjs", "cjs")]
    return "next" in source.dependencies and any(source.search(_STANDALONE, configs))


# -- programs beside the web app ---------------------------------------------------------------------------------------


def beside(source: AppSource) -> Iterator[Beside]:
    yield from _scripts_beside(source)
    yield from _celery(source)


def _scripts_beside(source: AppSource) -> Iterator[Beside]:
    """Scripts such as `start:worker` of package.json; that for production wins."""
    found: dict[str, tuple[bool, str]] = {}
    for name, command in source.scripts.items():
        match = _BESIDE.fullmatch(name)
        if match and not ONLY_HERE.search(command):
            found[match["kind"]] = max(found.get(match["kind"], (False, "")), (bool(match["built"]), command))
    for kind, (_, command) in found.items():
        yield Beside(kind, command)


def _celery(source: AppSource) -> Iterator[Beside]:
    if not source.is_python or "celery" not in source.dependencies:
        return
    match, place = next(source.search(_CELERY, _python_sources(source)), (None, ""))
    if match is None:
        return
    app = _celery_app(source, place.partition(":")[0])
    yield Beside("worker", f"celery --app {app} worker --loglevel INFO")
    if next(source.search(_BEAT, _python_sources(source)), None):
        yield Beside("beat", f"celery --app {app} beat --schedule {DATA}/celerybeat-schedule")


def _celery_app(source: AppSource, path: str) -> str:
    """Celery itself looks for `celery` below a package, as Django projects have it."""
    if path.endswith("/celery.py"):
        return dotted(path.removesuffix("/celery.py"))
    return dotted(path)


def _python_sources(source: AppSource) -> list[str]:
    return [name for name in source.sources if name.endswith(".py")]


def dotted(path: str) -> str:
    """Its dotted name; `src` of a src layout is no package."""
    return path.removesuffix(".py").removesuffix("/__init__").removeprefix("src/").replace("/", ".")


# -- web servers of Python ----------------------------------------------------------------------------------------------


def python_command(source: AppSource) -> str:
    """With the server that is among its dependencies; without one, the file that serves by itself, else the usual server."""
    targets = list(_python_targets(source))
    has_server = {is_async: bool(names & source.dependencies) for is_async, names in _SERVERS.items()}
    known = [one for one in targets if has_server[one[1]]]
    runs = next(source.search(_RUNS, _python_sources(source)), None)
    if targets and not known and runs:
        return f"./{runs[1].partition(':')[0]}"
    for target, is_async in known or targets:
        is_factory = target.endswith("()")
        if is_async:
            return f"uvicorn {target.removesuffix('()')}{' --factory' if is_factory else ''} --port $PORT"
        return f"gunicorn {repr(target) if is_factory else target} --bind 127.0.0.1:$PORT"
    return ""


def _python_targets(source: AppSource) -> Iterator[tuple[str, bool]]:
    """MODULE:NAME, and whether it speaks ASGI."""
    if source.has("manage.py"):
        for kind in ("wsgi", "asgi"):
            path = next((name for name in source.sources if name.endswith(f"/{kind}.py")), "")
            if path:
                yield f"{dotted(path)}:application", kind == "asgi"
    is_async = "flask" not in source.dependencies
    for pattern, is_asgi in ((_ASGI, True), (_WSGI, False), (_MADE, is_async), (_FACTORY, is_async)):
        for match, place in source.search(pattern, _python_sources(source)):
            yield f"{dotted(place.partition(':')[0])}:{match['name']}{'()' if pattern is _FACTORY else ''}", is_asgi


# -- variables of the inventory ----------------------------------------------------------------------------------------


def settings(source: AppSource, name: str, programs: list[Beside], release: Proposal) -> Iterator[Proposal]:
    """`release` is what a Procfile or a start script says, if its value is not empty."""
    yield from _django_settings(source)
    yield from [release] if release.value else _migrations(source)
    once = {f"{name}-{one.kind}": "one" for one in programs if one.is_for_fleet}
    if once:
        yield Proposal("placement", once, "once for all hosts, not once on each")
    if any(f"{DATA}/" in one.command for one in programs):
        yield Proposal("shared", [DATA], "outlives releases, and the app may write there")


def _migrations(source: AppSource) -> Iterator[Proposal]:
    if source.has("manage.py") and "django" in source.dependencies:
        yield Proposal("release_command", "python3 manage.py migrate --noinput", "migrations of Django")
        return
    if source.is_python and source.has("alembic.ini"):
        yield Proposal("release_command", "alembic upgrade head", "found alembic.ini")
        return
    for name, command in source.scripts.items():
        if _MIGRATES.fullmatch(name) and runs_on_hosts(source, command):
            yield Proposal("release_command", command, f"script {name} of package.json")
            return


def _django_settings(source: AppSource) -> Iterator[Proposal]:
    if not source.has("manage.py"):
        return
    where = [name for name in _python_sources(source) if re.search(r"(?:^|/)settings(?:/\w+)?\.py$", name)]
    root, place = _first(source, _STATIC_ROOT, where)
    if root:
        yield Proposal("build_command", "python3 manage.py collectstatic --noinput", f"STATIC_ROOT in {place}")
        url, _ = _first(source, _STATIC_URL, where)
        if url and not root.startswith("/") and names.is_inner_path(root):
            yield Proposal("nginx_static", {f"/{url}": root}, f"NGINX serves what collectstatic finds: {place}")
    host, place = _first(source, _ALLOWED, where)
    if host not in ("", "localhost"):
        yield Proposal("health_host", host, f"the app answers to its own names only: {place}")


def notes(source: AppSource, command: str) -> Iterator[str]:
    """What nobody but the owner of the app can set right. `command` starts the app; empty: a process file does."""
    program = command.partition(" ")[0]
    package = _PACKAGES.get(program, program)
    if package in source.development_dependencies:
        yield (
            f"'{command}': hosts get nothing of devDependencies, such as {package}: write what runs the built app into the "
            "process file"
        )
    if any(program in names and not names & source.dependencies for names in _SERVERS.values()):
        yield f"{program} starts the app, and is not among its dependencies: add it there"
    where = [name for name in _python_sources(source) if "settings" in name] if source.has("manage.py") else []
    file, place = _first(source, _SQLITE, where or source.sources)
    if file:
        yield f"{place}: each release would have a {file} of its own: put it into {DATA}, with shared: [{DATA}] in the inventory"
    if where and not _first(source, _STATIC_ROOT, where)[0]:
        yield f"{where[0]} has no STATIC_ROOT: without it nothing collects the static files (python3 manage.py collectstatic)"


def _first(source: AppSource, pattern: re.Pattern[str], where: list[str]) -> tuple[str, str]:
    match, place = next(source.search(pattern, where), (None, ""))
    return (match.group(1), place) if match else ("", "")

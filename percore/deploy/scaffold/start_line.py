"""The line that starts an app, of package.json or a Procfile: what of it builds, what migrates, and the program that is left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from percore.deploy.scaffold.source import NODE_ENDINGS, AppSource
from percore.supervisor.config.app_bounds import PROCESS_FILE

COMPILES = re.compile(r"\b(?:build|compile|tsc)\b")
_ASSETS = re.compile(
    r"\b(?:sass|postcss|tailwindcss|webpack|rollup|esbuild|babel|gulp|grunt|collectstatic|prisma generate)\b"
)
_MIGRATES = re.compile(
    r"\b(?:prisma migrate deploy|knex migrate:latest|(?:db:)?migrate(?::(?:up|deploy|latest))?$|migrations?:run"
    r"|drizzle-kit migrate|flask db upgrade|alembic upgrade|manage\.py migrate)\b"
)
ONLY_HERE = re.compile(r"\b(?:migrate dev|--watch|watch|nodemon|ts-node(?:-dev)?|nest start)\b")
"""For the machine of a developer: it watches, asks or compiles."""
_SCRIPT = re.compile(
    r"(?:npm|pnpm|yarn|bun)(?: run)?(?: -s| --silent)? (?P<name>[\w:.-]+)(?: --)?(?P<rest>(?: [^&|;]+)?)"
)
_ASSIGNED = re.compile(r"(?:cross-env(?:-shell)? +)?(?P<all>(?:[A-Za-z_]\w*=[^\s'\"$`\\]* +)+)(?P<rest>[^&|;]+)")
_ENV_FILE = re.compile(
    r"^(?:dotenvx? +(?:run +)?|env-cmd +)(?:-[ef] +\S+ +|--file +\S+ +)?(?:-- +)?(?=[^\s-])| --env-file(?:-if-exists)?[= ]\S+"
)
_RUNNER = re.compile(r"^(?:(?:uv|poetry|pipenv) run|npx(?: --no-install)?|(?:pnpm|yarn) exec) +(?=[^\s-])")
"""Hosts have none of these, and percore finds programs of the dependencies by itself."""
PARTS = re.compile(r"\s*(?:&&|;)\s*")
_SHELL = re.compile(r"\|\||['\"`|]|\$\(|(?<!&)&(?!&)")
"""Of a line with one of these only a shell knows where its parts end."""
_PM2 = re.compile(
    r"(?:pm2-(?:runtime|docker)(?: +start)?|pm2 +(?:start|startOr\w+|reload|restart)) +(?P<target>[^\s-]\S*)(?P<rest>.*)"
)


@dataclass(frozen=True)
class StartLine:
    """`program` runs in each worker. What stood before it runs once, where it has a place of its own."""

    program: str
    builds: tuple[str, ...] = ()
    migrations: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    reads_env_file: bool = False
    left_out: str = ""


def read_start_line(command: str, source: AppSource, seen: set[str] | None = None) -> StartLine:
    """`seen` are the scripts that were looked up: they may call each other in a circle."""
    seen = set() if seen is None else seen
    before, line = None, StartLine(command.strip())
    while line != before:
        before = line
        line = _take_parts(_take_script(line, source, seen), source, seen)
        line = _take_pm2(_take_wrappers(line))
    return line


def _take_script(line: StartLine, source: AppSource, seen: set[str]) -> StartLine:
    """`npm start` is what package.json says of it, and what npm runs before it."""
    match = _SCRIPT.fullmatch(line.program)
    name = match["name"] if match else ""
    if name in seen or not source.scripts.get(name):
        return line
    seen.add(name)
    line = replace(line, program=f"{source.scripts[name]}{match['rest'] if match else ''}")
    if f"pre{name}" not in source.scripts:
        return line
    before = replace(line, program=f"npm run pre{name} && :")
    after = _take_parts(before, source, seen)
    return replace(line, left_out=f"pre{name}") if after == before else replace(after, program=line.program)


def _take_parts(line: StartLine, source: AppSource, seen: set[str]) -> StartLine:
    """All that stands before the last program, or nothing: nobody knows whether the rest of it may run elsewhere."""
    *first, last = PARTS.split(line.program.rstrip("; "))
    if not first or _SHELL.search(line.program):
        return line
    builds, migrations = [*line.builds], [*line.migrations]
    for part in first:
        inner = read_start_line(part, source, seen)
        if _MIGRATES.search(inner.program) and runs_on_hosts(source, inner.program):
            migrations.append(inner.program)
        elif any(pattern.search(f"{part} {inner.program}") for pattern in (COMPILES, _ASSETS)):
            builds.append(part)
        else:
            return line
    return replace(line, program=last, builds=tuple(builds), migrations=tuple(migrations))


def _take_wrappers(line: StartLine) -> StartLine:
    """The process file has a place for variables. A file with them is not deployed: a deploy gives the app those of .env.ENV."""
    program = _RUNNER.sub("", line.program)
    if match := _ASSIGNED.fullmatch(program):
        env = dict(word.split("=", 1) for word in match["all"].split())
        line, program = replace(line, env={**line.env, **env}), match["rest"]
    without = _ENV_FILE.sub("", program)
    return replace(line, program=without, reads_env_file=line.reads_env_file or without != program)


def pm2_file(line: StartLine) -> str:
    """The process file that a script hands to PM2; empty where it does not."""
    match = _PM2.match(line.program)
    return match["target"].removeprefix("./") if match and PROCESS_FILE.search(match["target"]) else ""


def _take_pm2(line: StartLine) -> StartLine:
    """The program itself: percore takes PM2's place."""
    match = _PM2.match(line.program)
    if match is None or pm2_file(line):
        return line
    program = f"node {match['target']}" if match["target"].endswith(NODE_ENDINGS) else match["target"]
    return replace(line, program=f"{program} {match['rest'].partition(' -- ')[2].strip()}".strip())


def runs_on_hosts(source: AppSource, command: str) -> bool:
    """They have no dependencies for development, and nothing may ask there."""
    program = command.partition(" ")[0]
    known = source.dependencies - source.development_dependencies
    return program in {"node", "sh", "bash", "python3", "./manage.py", *known} and not ONLY_HERE.search(command)

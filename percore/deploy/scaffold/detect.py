"""What `init` finds out about an app, so that it does not have to ask: its name, its programs, its port, its health path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from percore.common import names
from percore.deploy.build.package_manager import recognize
from percore.deploy.scaffold import frameworks
from percore.deploy.scaffold.frameworks import Beside, Proposal
from percore.deploy.scaffold.source import MADE, MOST_FILES, NODE_ENDINGS, AppSource, Found
from percore.deploy.scaffold.start_line import COMPILES, PARTS, StartLine, pm2_file, read_start_line
from percore.errors import PercoreError
from percore.supervisor.config.app_bounds import PROCESS_FILES

_NUMBER = r"['\"]?(?P<port>[1-9][0-9]{1,4})\b"
_PORTS = [
    re.compile(rf"\bPORT\b['\"\])]*\s*(?:\|\||\?\?|,|or\b|:|=)\s*(?:\w+\()?{_NUMBER}"),
    re.compile(rf"\.listen\(\s*(?:\{{\s*port\s*:\s*)?{_NUMBER}"),
    re.compile(rf"\b(?:port|Port)\b['\"]?\s*[:=]\s*{_NUMBER}"),
]
_PORT_IN_COMMAND = re.compile(rf"(?:--port[= ]|-p |--bind[= ]\S*:|-b \S*:){_NUMBER}")
_PORT_IN_ENV = re.compile(rf"^\s*(?:export )?PORT={_NUMBER}")

_USUAL_PORTS: Mapping[str, str] = {
    "next": "3000", "nuxt": "3000", "@nestjs/core": "3000", "@remix-run/serve": "3000", "@sveltejs/adapter-node": "3000",
    "astro": "4321", "@strapi/strapi": "1337", "fastapi": "8000", "uvicorn": "8000", "gunicorn": "8000", "django": "8000",
    "express": "3000", "fastify": "3000", "koa": "3000", "hono": "3000", "@hapi/hapi": "3000", "flask": "5000",
}  # fmt: skip
"""Where these listen unless they are told otherwise."""

_WORD = r"(?:health(?:z|-?check)?|livez|readyz|_health|up|ping|status)"
_HEALTH = re.compile(
    rf"(?:\b(?:app|server|fastify|api|web|http)\.(?:get|all|use|route)\(|(?:===?|case|url:|path:)\s*)\s*"
    rf"['\"`](?P<path>(?:/api|/v1|/api/v1)?/{_WORD})/?['\"`]"
)
_HEALTH_IN_CONTROLLER = re.compile(rf"@Controller\(['\"]/?(?P<path>{_WORD})['\"]\)")
_PREFIX = re.compile(r"\.setGlobalPrefix\(['\"]/?(?P<path>[\w/-]+?)/?['\"]\)")
_HEALTH_IN_DJANGO = re.compile(rf"\bpath\(r?['\"](?P<path>{_WORD}/?)['\"]")
_HEALTH_IN_FILES = re.compile(rf"^(?:src/)?(?:app|pages)(?P<path>/(?:api/)?{_WORD})(?:/route|/index)?\.[jt]sx?$")

_NODE = re.compile(r"(?:node|nodemon)(?P<flags>(?: --?[\w-]+(?:=\S+)?)*) (?P<script>[^\s&|;]+)")
_PYTHON = re.compile(r"(?<![\w./-])python(?= )")
"""Debian has no command of this name."""
_OTHERS = {"5432", "6379", "27017", "3306", "25", "465", "587", "1025", "11211", "9200", "5672", "9092", "443"}
"""Ports of servers that an app talks to."""

_WITHOUT_START: Mapping[str, str] = {
    "next": "next start",
    "nuxt": "./.output/server/index.mjs",
    "@sveltejs/adapter-node": "./build/index.js",
    "@astrojs/node": "./dist/server/entry.mjs",
}
"""What starts the built app of a framework whose package.json has no script for it."""

_NO_NAMES = {"src", "source", "app", "backend"}
_MANIFESTS = ("package.json", "pyproject.toml", "requirements.txt", "manage.py", "Procfile")
_USUAL_SCRIPTS = ("server.js", "index.js", "app.js", "main.js", "src/index.js", "src/server.js", "app.py", "main.py")


@dataclass(frozen=True)
class DetectedProgram:
    """An app of the process file; `is_web` runs once per core, the others once. `is_guess`: there is no such file."""

    name: str
    script: str
    is_web: bool = True
    flags: str = ""
    keys: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    is_guess: bool = False


@dataclass(frozen=True)
class Detected:
    """All that was found out. An empty place means that it is a guess."""

    name: str
    tools: str
    process_file: str
    programs: tuple[DetectedProgram, ...]
    port: Found
    health: Found | None
    is_python: bool
    is_es_module: bool = False
    settings: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def port_note(self) -> str:
        """Why this one."""
        if self.port.place:
            return f"found in {self.port.place}"
        if not self.process_file and "$PORT" in self.programs[0].script:
            return "free to choose: the app is started with $PORT"
        return "not found in the source: the port that the app listens on"


def detect(directory: Path) -> Detected:
    source = AppSource(directory)
    name, line = _name(source), _start_line(source)
    file = _process_file(source, line)
    beside, main = list(_beside(source)), _main(source, name, line)
    return Detected(
        name=name,
        tools=_tools(source),
        process_file=file,
        programs=(main, *(_program_beside(source, name, one) for one in beside)),
        port=_port(source, line),
        health=_health(source),
        is_python=source.is_python and not source.is_node,
        is_es_module=source.package.get("type") == "module",
        settings=tuple(_settings(source, name, beside, line)),
        notes=tuple(frameworks.notes(source, "" if file else main.script))
        + (() if file else tuple(_notes(main, line))),
    )


def apps_below(directory: Path) -> list[str]:
    """The directories of a repository that hold an app: those in which something says what starts it."""
    paths = [path for depth in ("*", "*/*") for name in _MANIFESTS for path in directory.glob(f"{depth}/{name}")]
    names = {path.parent.relative_to(directory).as_posix() for path in paths[:MOST_FILES]}
    inner = [name for name in sorted(names) if not any(part in MADE or part[0] == "." for part in name.split("/"))]
    return [name for name in inner if not detect(directory / name).programs[0].is_guess]


def _process_file(source: AppSource, line: StartLine) -> str:
    """That of the script which starts PM2, wherever it lies; else the first of those that are looked for."""
    started = pm2_file(line)
    return started if source.has(started) else next(filter(source.has, PROCESS_FILES), "")


def _start_line(source: AppSource) -> StartLine:
    """What a Procfile, else package.json, calls the web app."""
    scripts = [f"npm run {key}" for key in ("start:prod", "start:production", "start") if source.scripts.get(key)]
    return read_start_line(dict(_procfile(source)).get("web") or next(iter(scripts), ""), source)


def _settings(source: AppSource, name: str, beside: list[Beside], line: StartLine) -> Iterator[Proposal]:
    file, procfile = _process_file(source, line), dict(_procfile(source))
    where = f"found in {'Procfile' if 'web' in procfile else 'package.json'}"
    if file != next(filter(source.has, PROCESS_FILES), ""):
        yield Proposal("process_file", file, "found in package.json")
    if build := _build_command(source, line):
        yield Proposal("build_command", build, where)
    release, ends = procfile.get("release", ""), read_start_line(procfile.get("release", ""), source)
    release = ends.program if ends == StartLine(ends.program) else release  # variables have no other place
    told = (release, "found in Procfile") if release else (" && ".join(line.migrations), where)
    yield from frameworks.settings(source, name, beside, Proposal("release_command", *told))


def _notes(main: DetectedProgram, line: StartLine) -> Iterator[str]:
    if main.is_guess:
        yield f"nothing here says what starts the app: write it into the process file, where {main.script} is a guess"
    if line.reads_env_file:
        yield "no .env file is deployed, so nothing that reads one stands before the app: a deploy gives it what is in .env.ENV"
    if line.left_out:
        yield f"the script {line.left_out} of package.json is left out: build_command is for what it prepares"
    if PARTS.search(main.script):
        yield f"each worker runs all of '{main.script}': what must run once belongs into release_command or build_command"


def _build_command(source: AppSource, line: StartLine) -> str:
    """It replaces the script `build`, which compiles where there is one."""
    has_script = "build" in source.scripts
    parts = [part for part in line.builds if not (has_script and COMPILES.search(part))]
    return " && ".join([*(["npm run build"] if has_script and parts else []), *parts])


def _name(source: AppSource) -> str:
    """Of package.json or pyproject.toml without its scope, else of the directory, else of the one above: not `src`."""
    project = source.pyproject.get("project")
    declared = source.package.get("name") or (project.get("name") if isinstance(project, dict) else "")
    here = source.directory.resolve()
    words = (str(declared or "").rpartition("/")[2], here.name, here.parent.name)
    cleaned = [re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.")[:100] for word in words]
    known = list(filter(names.is_path_word, cleaned))
    return next((word for word in known if word not in _NO_NAMES), next(iter(known), "app"))


def _tools(source: AppSource) -> str:
    """The package manager as the build will recognize it, for the operator to see."""
    if source.is_node:
        try:
            manager = recognize(source.directory, None)
        except PercoreError as error:
            return str(error)
        return f"{manager.title} ({manager.lock or 'package.json, without a lock file'})"
    files = ("uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml")
    return next((f"Python packages ({name})" for name in files if source.has(name)), "nothing to install")


# -- programs --------------------------------------------------------------------------------------------------------


def _main(source: AppSource, name: str, line: StartLine) -> DetectedProgram:
    if frameworks.is_next_standalone(source) and line.program in ("", "next start"):
        return DetectedProgram(name, f"./{frameworks.NEXT_STANDALONE}")
    if line.program and not pm2_file(line):
        return _node_program(source, name, line)
    return _without_start(source, name)


def _beside(source: AppSource) -> Iterator[Beside]:
    """What a Procfile starts beside the web app; without one, what the frameworks need."""
    procfile = dict(_procfile(source))
    for kind, command in procfile.items():
        if kind not in ("web", "release") and names.is_path_word(kind):
            yield Beside(kind, command)
    if not procfile:
        yield from frameworks.beside(source)


def _program_beside(source: AppSource, name: str, one: Beside) -> DetectedProgram:
    made = _node_program(source, f"{name}-{one.kind}", read_start_line(one.command, source), is_web=False)
    return replace(made, keys=one.keys)


def _procfile(source: AppSource) -> Iterator[tuple[str, str]]:
    for line in source.text("Procfile").splitlines():
        kind, colon, command = line.partition(":")
        if colon and command.strip() and not line.lstrip().startswith("#"):
            yield kind.strip(), _PYTHON.sub("python3", command.strip())


def _without_start(source: AppSource, name: str) -> DetectedProgram:
    """What its framework starts, else `main` of package.json, else what such files are usually called."""
    if source.is_python and (command := frameworks.python_command(source)):
        return DetectedProgram(name, command)
    for framework, script in _WITHOUT_START.items():
        if framework in source.dependencies:
            return DetectedProgram(name, script)
    main = source.package.get("main")
    script = f"./{_with_ending(source, main)}" if isinstance(main, str) and main else _usual_script(source)
    return DetectedProgram(name, script, is_guess=not source.has(script))


def _node_program(source: AppSource, name: str, line: StartLine, *, is_web: bool = True) -> DetectedProgram:
    """`node dist/index` is a script with an interpreter of its own; everything else is a line for a shell."""
    match = _NODE.fullmatch(line.program)
    script = _with_ending(source, match["script"]) if match else ""
    if match is None or not script.endswith(NODE_ENDINGS) or ("nodemon" in line.program and match["flags"]):
        return DetectedProgram(name, line.program, is_web, env=line.env)
    script = script if script.startswith("./") else f"./{script}"
    return DetectedProgram(name, script, is_web, match["flags"].strip(), env=line.env)


def _with_ending(source: AppSource, script: str) -> str:
    """Node adds it by itself, where there is no such file."""
    return script if source.has(script) or script.endswith(NODE_ENDINGS) else f"{script}.js"


def _usual_script(source: AppSource) -> str:
    usual = "main.py" if source.is_python and not source.is_node else "server.js"
    return f"./{next(filter(source.has, _USUAL_SCRIPTS), usual)}"


# -- port and health path ---------------------------------------------------------------------------------------------


def _port(source: AppSource, line: StartLine) -> Found:
    """Where it listens: as its process file, its env files, its start command or its source say it, in this order."""
    files = [name for name in dict.fromkeys((_process_file(source, line), *PROCESS_FILES)) if name and source.has(name)]
    if not files and line.env.get("PORT", "").isdecimal():
        return Found(line.env["PORT"], "the start script")
    env_files = [path.name for path in sorted(source.directory.glob(".env*")) if path.is_file()]
    searches = [
        ([_PORTS[0], _PORTS[2]], files),
        ([_PORT_IN_ENV], env_files),
        ([_PORT_IN_COMMAND], list(filter(source.has, ("Procfile", "package.json")))),
        *(([pattern], [*source.sources, *_started(source)]) for pattern in _PORTS),
    ]
    for patterns, where in searches:
        for pattern in patterns:
            for match, place in source.search(pattern, where):
                if 80 <= int(match["port"]) <= 65535 and match["port"] not in _OTHERS:
                    return Found(match["port"], place)
    usual = next((port for name, port in _USUAL_PORTS.items() if name in source.dependencies), "5000")
    return Found(usual, "")


def _started(source: AppSource) -> list[str]:
    """The files that package.json starts, where they have no ending."""
    commands = source.scripts.values()
    found = [match["script"].removeprefix("./") for command in commands if (match := _NODE.fullmatch(command))]
    return [name for name in found if source.has(name) and name not in source.sources]


def _health(source: AppSource) -> Found | None:
    """A route of the app itself; below a router or a prefix nobody knows its whole path."""
    found = [Found(match["path"], place) for match, place in source.search(_HEALTH)]
    prefix = next((f"/{match['path']}" for match, _ in source.search(_PREFIX)), "")
    found += [Found(f"{prefix}/{match['path']}", place) for match, place in source.search(_HEALTH_IN_CONTROLLER)]
    if source.has("manage.py"):
        found += [Found(f"/{match['path']}", place) for match, place in source.search(_HEALTH_IN_DJANGO)]
    found += [Found(match["path"], name) for name in source.sources if (match := _HEALTH_IN_FILES.match(name))]
    return min(found, key=lambda one: "health" not in one.value, default=None)

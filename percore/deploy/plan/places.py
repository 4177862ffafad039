"""Where the values of a release are set, for a plan that says what changed: the variable, its file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from percore.common.bounds import read_file
from percore.deploy.plan.settings import AppSettings
from percore.deploy.plan.variables import Variables

_HEALTH = {
    "path": "health_path",
    "seconds": "health_seconds",
    "site_port": "nginx_port",
    "tls_port": "nginx_tls_port",
    "host": "server_name",
}
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*=")


def find_places(settings: AppSettings, variables: Variables, process_file: str) -> dict[str, str]:
    """By what `records.diff` calls it: a field of an app, `env.NAME`, `health.KEY`; `apps` is the process file."""
    named = {f"health.{key}": name for key, name in _HEALTH.items()}
    named |= {"health": "health_path", "health_host": "server_name", "env.PORT": "port"}
    found = {key: _place(variables, name) for key, name in named.items()}
    found |= env_lines(settings.env_file)
    found |= {
        f"env.{name}": place for name in variables.get("env") or {} if (place := _place(variables, f"env.{name}"))
    }
    return {**{key: place for key, place in found.items() if place}, "apps": process_file}


def _place(variables: Variables, name: str) -> str:
    place = variables.place(name) or variables.place(name.partition(".")[0])
    return f"{name}, {place}" if place else ""


def env_lines(path: Path | None) -> Mapping[str, str]:
    """The line of each variable of an env file."""
    if path is None:
        return {}
    lines = read_file(str(path)).decode("utf-8-sig").splitlines()
    matches = ((number, _LINE.match(line)) for number, line in enumerate(lines, 1))
    return {f"env.{match[1]}": f"{path.name}:{number}" for number, match in matches if match}

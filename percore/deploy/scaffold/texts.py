"""The files that `init` writes."""

from __future__ import annotations

import json

import yaml

from percore.deploy.plan.version import any_like
from percore.deploy.scaffold.detect import Detected, DetectedProgram

TASKS = '''\
"""What `invoke` runs here; `invoke --list` shows it. Tasks of your own: namespace.add_task(...)."""
from percore.tasks import make_namespace
namespace = make_namespace(__file__)
'''

ENV_EXAMPLE = """\
# Copy to .env.{env}, which git should ignore. A deploy gives these variables to every worker of this environment.
# Remove what your app does not read, and DATABASE_URL and REDIS_URL if the roles postgresql and redis are used: these set them.
NODE_ENV=production
DATABASE_URL=postgresql://user:password@db.example.com:5432/{name}
REDIS_URL=redis://redis.example.com:6379
ALLOWED_ORIGINS=https://app.example.com
LOG_LEVEL=info
PORT={port}
"""

LOGIN = ["# ansible_user: deployer # otherwise as your SSH configuration says", "# ansible_become: true # with sudo"]

NO_HOSTS = """\
# The hosts of {env}: {inventory} shows them.
app:
  hosts: {{}}
  # hosts:
  #   web[1:3].example.com:
"""

LOCAL = """\
# This machine, without root, systemd or NGINX.
all:
  hosts:
    localhost:
      ansible_connection: local
  vars:
{variables}
    service_manager: process
    percore_user: ""
    nginx: false
    deploy_to: "{{{{ project_path }}}}/.percore"
    percore_home: "{{{{ project_path }}}}/.percore/home"
    package_path: "{{{{ project_path }}}}/.percore/package"
    launcher_path: "{{{{ project_path }}}}/.percore/bin/percore"
"""


def hosts_file(env: str, hosts: list[str], inventory: str) -> str:
    if not hosts:
        return NO_HOSTS.format(env=env, inventory=inventory)
    lines = "".join(f"    {scalar(host)}:\n" for host in hosts)
    return f"# The hosts of {env}: {inventory} shows them.\napp:\n  hosts:\n{lines}"


def variables(app: Detected, app_path: str, version: str) -> str:
    """The app's variables, each with where its value was found."""
    health = app.health
    lines = [
        f"app_name: {scalar(app.name)}",
        f"app_path: {scalar(app_path)} # as seen from tasks.py",
        f"port: {app.port.value} # {app.port_note}",
        f"health_path: {scalar(health.value)} # found in {health.place}"
        if health
        else "# health_path: /health # a path that answers with a status below 400; without it, a connection is enough",
        *(f"{one.name}: {scalar(one.value)} # {one.note}" for one in app.settings),
        *(f"# {note}" for note in app.notes),
        f'percore_version: "{any_like(version)}" # refuse to run with another',
    ]
    return "".join(f"{line}\n" for line in lines)


def group_vars(app: Detected, app_path: str, user: str, version: str, explain: str) -> str:
    head = f"# What is deployed. {explain} shows all variables.\n"
    login = [f"ansible_user: {scalar(user)}", "ansible_become: true"] if user else LOGIN
    lines = [line for line in login if user != "root" or "become" not in line]
    return head + variables(app, app_path, version) + "\n" + "".join(f"{line}\n" for line in lines)


def local_inventory(app: Detected, app_path: str, version: str) -> str:
    indented = "".join(f"    {line}\n" for line in variables(app, app_path, version).splitlines())
    return LOCAL.format(variables=indented.rstrip("\n"))


def scalar(text: object) -> str:
    """As YAML writes it on one line."""
    return yaml.safe_dump(text, width=10_000, default_flow_style=True, allow_unicode=True).removesuffix("...\n").strip()


# -- process files -----------------------------------------------------------------------------------------------------


def process_file(app: Detected) -> tuple[str, str]:
    """Name and content: YAML for Python apps, whose machine may have no Node."""
    apps = [_entry(program, app) for program in app.programs]
    if app.is_python:
        return "ecosystem.yml", yaml.safe_dump({"apps": apps}, sort_keys=False, width=1000)
    text = "".join(f"    {{\n{_keys(entry)}    }},\n" for entry in apps)
    # In a package of ES modules, `.js` would be one, too, without `module`.
    name = "ecosystem.config.cjs" if app.is_es_module else "ecosystem.config.js"
    return name, f"module.exports = {{\n  apps: [\n{text}  ],\n}};\n"


def _entry(program: DetectedProgram, app: Detected) -> dict[str, object]:
    entry: dict[str, object] = {"name": program.name, "script": program.script}
    if program.flags:
        entry["interpreter_args"] = program.flags
    if program.is_web:
        health = {"health": app.health.value} if app.health else {}
        return {
            **entry,
            "exec_mode": "cluster",
            "instances": "max",
            **health,
            "env": {**program.env, "PORT": int(app.port.value)},
        }
    env = {"env": dict(program.env)} if program.env else {}
    return {**entry, "exec_mode": "fork", "instances": 1, **env, **program.keys}


def _keys(entry: dict[str, object]) -> str:
    notes = {'"max"': " // one per core", "1": " // runs once", "60000": " // a job that runs gets so long to end"}
    lines = [(key, json.dumps(value)) for key, value in entry.items()]
    return "".join(f"      {key}: {value},{notes.get(value, '')}\n" for key, value in lines)

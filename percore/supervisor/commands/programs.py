"""What PM2's users see of an app's program: its own version, and that of the Node that runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from percore.hints import Any
from percore.supervisor.home import Home

_NODES = ("node", "nodejs")
_found: dict[str, str] = {}  # by folder


def app_version(worker: Mapping[str, Any]) -> str:
    """Of the nearest package.json above the script; empty where there is none."""
    script = os.path.join(worker["cwd"], worker["config"]["script"])
    return version_above(os.path.dirname(script) if os.path.isfile(script) else worker["cwd"])


def version_above(folder: str) -> str:
    if folder not in _found:
        parent = os.path.dirname(folder)
        try:
            with open(os.path.join(folder, "package.json"), encoding="utf-8") as file:
                _found[folder] = str(json.load(file).get("version") or "")
        except (OSError, ValueError, AttributeError):
            _found[folder] = version_above(parent) if parent != folder else ""
    return _found[folder]


def node_version(worker: Mapping[str, Any]) -> str:
    """Of the Node that runs the worker; asked of each Node once, then remembered. Empty for other programs."""
    interpreter = worker["config"].get("interpreter", "")
    if os.path.basename(interpreter) not in _NODES:
        return ""
    program = running_program(worker["pid"]) or find_in_path(interpreter, worker)
    if not program:
        return ""
    try:
        key = f"{program}:{os.stat(program).st_mtime_ns}"
    except OSError:
        return ""
    place = os.path.join(Home.of_user().run, "node-versions.json")
    known = read_versions(place)
    if key not in known:
        known[key] = ask_version(program)
        write_versions(place, known)
    return known[key]


def running_program(pid: int) -> str:
    """What process `pid` executes, where that is a Node and not a launcher of one."""
    try:
        program = os.readlink(f"/proc/{pid}/exe") if pid else ""
    except OSError:
        return ""
    return program if os.path.basename(program) in _NODES else ""


def find_in_path(interpreter: str, worker: Mapping[str, Any]) -> str:
    if os.sep in interpreter:
        return os.path.join(worker["cwd"], interpreter)
    path = worker.get("base_env", os.environ).get("PATH", os.defpath)
    places = (os.path.join(folder, interpreter) for folder in path.split(os.pathsep))
    return next((os.path.realpath(place) for place in places if os.access(place, os.X_OK)), "")


def ask_version(program: str) -> str:
    import subprocess

    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().lstrip("v")


def read_versions(place: str) -> dict[str, str]:
    try:
        with open(place, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def write_versions(place: str, known: Mapping[str, str]) -> None:
    """Nothing is lost when it cannot be written: it is asked again."""
    try:
        with open(f"{place}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(f"{place}.{os.getpid()}", place)
    except OSError:
        return

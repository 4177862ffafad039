"""What PM2's users see of an app's program: its own version, and that of the Node that runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping

from percore.common.files import write_file
from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.commands.asking import user_of
from percore.supervisor.home import Home
from percore.supervisor.user_files import AnyUser, User, acting, is_only_ours, may_execute, ourselves, read_text

_NODES = ("node", "nodejs")
_VERSION_SECONDS = 5.0
_VERSION = re.compile(rb"v?(\d[\w.+-]{0,60})\s*")
_LONGEST_VERSION = 64
_found: dict[str, str] = {}  # by folder


class Program(NamedTuple):
    path: str
    user: AnyUser  # who runs it, or would


def app_version(worker: Mapping[str, Any]) -> str:
    """Of the nearest package.json above the script; empty where there is none."""
    script = os.path.join(worker["cwd"], worker["config"]["script"])
    return version_above(os.path.dirname(script) if os.path.isfile(script) else worker["cwd"], user_of(worker))


def version_above(folder: str, user: Optional[AnyUser]) -> str:
    if folder not in _found:
        parent = os.path.dirname(folder)
        try:
            content = json.loads(read_text(os.path.join(folder, "package.json"), user))
            _found[folder] = str(content.get("version") or "")[:_LONGEST_VERSION]
        except (OSError, ValueError, AttributeError, RecursionError):
            _found[folder] = version_above(parent, user) if parent != folder else ""
    return _found[folder]


def node_version(worker: Mapping[str, Any]) -> str:
    """Of the Node that runs the worker; asked of each Node once, then remembered. Empty for other programs."""
    interpreter = worker["config"].get("interpreter", "")
    if os.path.basename(interpreter) not in _NODES:
        return ""
    program = running_program(worker["pid"]) or find_in_path(interpreter, worker)
    if program is None:
        return ""
    try:
        key = f"{program.path}:{os.stat(program.path).st_mtime_ns}"
    except OSError:
        return ""
    place = os.path.join(Home.of_user().run, "node-versions.json")
    known = read_versions(place)
    if key not in known:
        known[key] = ask_version(program)
        write_versions(place, known)
    return known[key]


def running_program(pid: int) -> Optional[Program]:
    """What process `pid` executes, where that is a Node and not a launcher of one, and whose process it is."""
    if not pid:
        return None
    try:
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        path = os.readlink("exe", dir_fd=process)
        with open(os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)) as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        uid, gid = (int(fields[name].split()[0]) for name in ("Uid", "Gid"))
        user = User(uid, gid, tuple(map(int, fields["Groups"].split())))
        return Program(path, user) if os.path.basename(path) in _NODES else None
    except (OSError, ValueError, KeyError):
        return None
    finally:
        os.close(process)


def find_in_path(interpreter: str, worker: Mapping[str, Any]) -> Optional[Program]:
    """What would be executed, and as whom."""
    path = worker.get("base_env", os.environ).get("PATH", os.defpath)
    folders = [worker["cwd"]] if os.sep in interpreter else path.split(os.pathsep)
    user = user_of(worker)
    with acting(user):
        places = (os.path.join(worker["cwd"], folder, interpreter) for folder in folders)
        found = next((os.path.realpath(place) for place in places if may_execute(place)), "")
    return Program(found, user or ourselves()) if found else None


def ask_version(program: Program) -> str:
    """Executed by nobody but whose it is: with our own rights only what nobody else could have put there."""
    if program.user.uid == os.geteuid():
        return _say_version(program, {}) if os.geteuid() != 0 or is_only_ours(program.path) else ""
    if os.geteuid() != 0:
        return ""
    user = program.user
    return _say_version(program, {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)})


def _say_version(program: Program, rights: Mapping[str, Any]) -> str:
    """It gets nothing of ours: no terminal, no environment, no descriptor; and only so much time, and room for an answer."""
    import select
    import signal
    import subprocess

    try:
        process = subprocess.Popen(
            [program.path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/", env={"PATH": os.defpath}, **rights,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    with process:
        assert process.stdout
        is_there = select.select([process.stdout], [], [], _VERSION_SECONDS)[0]
        said = os.read(process.stdout.fileno(), _LONGEST_VERSION) if is_there else b""
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
    version = _VERSION.fullmatch(said)
    return version[1].decode(errors="replace") if version else ""


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
        write_file(place, json.dumps(known).encode())
    except OSError:
        return

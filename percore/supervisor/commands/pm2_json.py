"""Workers as PM2's `jlist` shows them: the names, the types and the words that scripts and tools read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping

from percore.common.app_names import plain_name
from percore.common.files import write_file
from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.base.home import Home
from percore.supervisor.base.user_files import AnyUser, UserIds, acting, is_only_ours, may_execute, ourselves, read_text
from percore.supervisor.client import select_workers, user_of
from percore.supervisor.commands.output import js_literal
from percore.supervisor.config.options import ALWAYS, OPTIONS, WHERE_SET
from percore.supervisor.config.records import field_of
from percore.supervisor.logs.node_json import node_json

PM2_STATES = {"running": "online", "starting": "launching", "stopping": "stopping", "stopped": "stopped",
               "backoff": "waiting restart", "exited": "stopped", "fatal": "errored"}  # fmt: skip
_NODES = ("node", "nodejs")
_VERSION_SECONDS = 5.0
_VERSION = re.compile(rb"v?(\d[\w.+-]{0,60})\s*")
_LONGEST_VERSION = 64
_found: dict[str, str] = {}  # by directory


def shown_state(worker: Mapping[str, Any]) -> str:
    """The state in tables; `jlist` has PM2's words, for scripts."""
    return "crash-looping" if worker["crash_looping"] else PM2_STATES[worker["state"]]


def print_jlist(_: list[str]) -> int:
    sys.stdout.buffer.write(node_json(list_processes()))
    return 0


def print_prettylist(_: list[str]) -> int:
    print(js_literal(list_processes()))
    return 0


def list_processes() -> list[dict[str, Any]]:
    return [pm2_fields(worker) for worker in sorted(select_workers(with_env=True), key=lambda worker: worker["id"])]


def pm2_fields(worker: Mapping[str, Any], *, runs_programs: bool = True) -> dict[str, Any]:
    """One worker as PM2's `jlist` shows it. `env` holds the app's own variables, not the caller's shell as in PM2.

    A Node that was never asked for its version is asked only where programs may be run.
    """
    is_online = worker["state"] == "running"
    memory, cpu = (worker["memory_bytes"], worker["cpu_percent"]) if is_online else (0, 0)
    return {
        "pid": worker["pid"],
        "name": plain_name(worker["name"], worker["namespace"]),
        "pm2_env": pm2_env(worker, runs_programs=runs_programs),
        "pm_id": worker["id"],
        "monit": {"memory": memory, "cpu": cpu},
    }


def fields_of(worker: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the app sets, by their names here; `watch` as in PM2."""
    fields = {field_of(key): value for key, value in worker["config"].items()}
    return {**fields, "watch": watched(fields.get("watch"), worker["cwd"])}


def pm2_env(worker: Mapping[str, Any], *, runs_programs: bool = True) -> dict[str, Any]:
    config = fields_of(worker)
    env = {str(name): str(value) for name, value in config["env"].items()}
    started = int(worker["started_time"] * 1000)
    fields = {
        "name": plain_name(worker["name"], worker["namespace"]),
        "namespace": worker["namespace"],
        "pm_id": worker["id"],
        "status": PM2_STATES[worker["state"]],
        "restart_time": worker["restarts"],
        "unstable_restarts": worker["unstable_restarts"],
        "exit_code": worker["exit_code"],
        "prev_restart_delay": round(1000 * worker["last_delay"]),
        "exec_mode": f"{worker['mode']}_mode",
        "instances": worker["instances"],
        "pm_exec_path": exec_path(worker, config),
        "pm_cwd": worker["cwd"],
        "pm_out_log_path": worker["out_file"],
        "pm_err_log_path": worker["error_file"],
        "pm_pid_path": worker["pid_file"],
        "pm_uptime": started,
        "created_at": started,
        "unique_id": unique_id(worker),
        "username": user_name(config.get("user")),
        "version": app_version(worker) or "N/A",
        "node_version": node_version(worker, runs_it=runs_programs) or "N/A",
        "vizion": False,
        **options_in_json(config),
    }
    if worker.get("log_file"):
        fields["pm_log_path"] = worker["log_file"]
    increment_var = config.get("increment_var")
    if increment_var and re.fullmatch(r"-?\d{1,18}", env.get(increment_var, "")):
        env[increment_var] = str(int(env[increment_var]) + worker["slot"])
        fields[increment_var] = int(env[increment_var])
    if "port" in config:
        env["PORT"] = str(config["port"])
    instance_var = fields["instance_var"]
    env[instance_var] = str(worker["slot"])
    fields[instance_var] = worker["slot"]
    fields = {**{name: as_written(value) for name, value in env.items()}, **fields}
    return {**fields, "env": env, "axm_monitor": {}, "axm_actions": [], "axm_options": {}, "axm_dynamic": {}}


def exec_path(worker: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Of a program in PATH, where it is."""
    place = os.path.normpath(os.path.join(worker["cwd"], config["script"]))
    if os.sep in config["script"] or os.path.exists(place):
        return str(place)
    import shutil  # few lists have such a program

    found: Optional[str] = shutil.which(config["script"], path=worker.get("base_env", os.environ).get("PATH"))
    return found or place


def as_written(value: str) -> Any:
    """PORT: 3000 is a number in a process file, and in PM2's list."""
    return int(value) if re.fullmatch(r"0|-?[1-9]\d{0,14}", value) else value


def options_in_json(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for option in OPTIONS:
        if option.jlist == ALWAYS or (option.jlist == WHERE_SET and option.field in config):
            value = config.get(option.field, option.default)
            found[option.jlist_as or option.key] = value if isinstance(value, bool) else option.type.to_json(value)
    return found


def watched(paths: Any, cwd: str) -> Any:
    """PM2's `watch`: true for the working directory, else the paths."""
    return list(paths) if paths and list(paths) != [cwd] else bool(paths)


def user_name(user: Any) -> str:
    if user:
        return str(user)
    import pwd

    try:
        return pwd.getpwuid(os.stat(Home.of_user().lock).st_uid).pw_name  # a container's home may be root's
    except (KeyError, OSError):
        return str(os.geteuid())


def unique_id(worker: Mapping[str, Any]) -> str:
    """Another one for each process, the same as long as it runs."""
    import zlib

    mark = f"{Home.of_user().path}:{worker['name']}:{worker['id']}:{worker['started_time']}"
    return f"{zlib.crc32(mark.encode()):08x}-{worker['id']:04d}-{int(worker['started_time'] * 1000):x}"


# -- the app's program: its own version, and that of the Node that runs it ---------------------------------------------


class VersionedProgram(NamedTuple):
    path: str
    user: AnyUser  # the user who runs it, or would


def app_version(worker: Mapping[str, Any]) -> str:
    """Of the nearest package.json above the script; empty where there is none."""
    script = os.path.join(worker["cwd"], worker["config"]["script"])
    return version_above(os.path.dirname(script) if os.path.isfile(script) else worker["cwd"], user_of(worker))


def version_above(directory: str, user: Optional[AnyUser]) -> str:
    if directory not in _found:
        parent = os.path.dirname(directory)
        try:
            content = json.loads(read_text(os.path.join(directory, "package.json"), user))
            _found[directory] = str(content.get("version") or "")[:_LONGEST_VERSION]
        except (OSError, ValueError, AttributeError, RecursionError):
            _found[directory] = version_above(parent, user) if parent != directory else ""
    return _found[directory]


def node_version(worker: Mapping[str, Any], *, runs_it: bool = True) -> str:
    """Of the Node that runs the worker; asked of each Node once, then cached. Empty for other programs."""
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
    if key not in known and not runs_it:
        return ""
    if key not in known:
        known[key] = ask_version(program)
        write_versions(place, known)
    return known[key]


def running_program(pid: int) -> Optional[VersionedProgram]:
    """What process `pid` executes, where that is a Node and not a launcher of one, and the user of the process."""
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
        user = UserIds(uid, gid, tuple(map(int, fields["Groups"].split())))
        return VersionedProgram(path, user) if os.path.basename(path) in _NODES else None
    except (OSError, ValueError, KeyError):
        return None
    finally:
        os.close(process)


def find_in_path(interpreter: str, worker: Mapping[str, Any]) -> Optional[VersionedProgram]:
    """What would be executed, and by which user."""
    path = worker.get("base_env", os.environ).get("PATH", os.defpath)
    directories = [worker["cwd"]] if os.sep in interpreter else path.split(os.pathsep)
    user = user_of(worker)
    with acting(user):
        places = (os.path.join(worker["cwd"], directory, interpreter) for directory in directories)
        found = next((os.path.realpath(place) for place in places if may_execute(place)), "")
    return VersionedProgram(found, user or ourselves()) if found else None


def ask_version(program: VersionedProgram) -> str:
    """Executed only with the rights of its owner; with our own rights only where no other user could have put it there."""
    if program.user.uid == os.geteuid():
        return _run_version(program, {}) if os.geteuid() != 0 or is_only_ours(program.path) else ""
    if os.geteuid() != 0:
        return ""
    user = program.user
    return _run_version(program, {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)})


def _run_version(program: VersionedProgram, rights: Mapping[str, Any]) -> str:
    """It gets no terminal, environment or descriptor of ours; its time and the length of its answer are limited."""
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
        answer = os.read(process.stdout.fileno(), _LONGEST_VERSION) if is_there else b""
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # it is not reaped yet, so the pid is still its own
    version = _VERSION.fullmatch(answer)
    return version[1].decode(errors="replace") if version else ""


def read_versions(place: str) -> dict[str, str]:
    try:
        with open(place, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def write_versions(place: str, known: Mapping[str, str]) -> None:
    """Where it cannot be written, the version is asked for again."""
    try:
        write_file(place, json.dumps(known).encode())
    except OSError:
        return

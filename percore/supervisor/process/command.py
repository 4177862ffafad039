"""From an app's config to the command that starts one of its workers: the program, its arguments, its whole environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from percore.common.typing import TYPE_CHECKING, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.environment import filter_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.user import Identity
from percore.supervisor.base.user_files import acting, may_execute
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.config.app_bounds import check_environment
from percore.supervisor.config.kinds import FORK
from percore.supervisor.logs.files import LogOpener, open_logs
from percore.supervisor.process.spawn import CHANNEL_FD, WorkerCommand
from percore.supervisor.sockets.preload import Preload, UserEndpoints, open_regular, why_not

if TYPE_CHECKING:
    from typing import Protocol

    class Endpoints(Protocol):
        """Where workers reach the supervisor, and what they load for that."""

        def find_preload(self) -> Preload:
            """Puts back what was cleaned up."""

        def find_user_endpoints(self, uid: int) -> UserEndpoints:
            """Opens, the first time, what workers of another user need."""


_PERMISSION = ("--permission", "--experimental-permission")
_STATIC = "serve"  # config/sites.py
_FILE_SERVER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "static_server.py")


class WorkerEnvironment(NamedTuple):
    """What every worker of one supervisor finds."""

    home: Home
    endpoints: Endpoints
    store_fds: tuple[int, ...]
    open_logs: LogOpener = open_logs  # gives a new process its standard output and error


def make_command(
    environment: WorkerEnvironment,
    place: Place,
    config: AppConfig,
    token: str,
    identity: Optional[Identity],
    logs: Sequence[int],
    listen_fds: tuple[int, ...] = (),
) -> WorkerCommand:
    """`logs` are its standard output and error. Raises PercoreError when something that the worker needs is not on this host."""
    env = make_variables(environment, place, config, token, identity)
    if "@" in os.path.basename(config.interpreter):
        # Before another user's rights are taken, with which this package may not be readable.
        from percore.supervisor.process import interpreters  # noqa: F401
    with acting(identity):  # nothing is looked for, or looked into, with more rights than it is executed with
        argv, program = find_command(config, env)
        if _uses_node(config, program):
            env.update(NODE_CHANNEL_FD=str(CHANNEL_FD), NODE_CHANNEL_SERIALIZATION_MODE="json")
        reason = why_not(program) if config.shares_port and not listen_fds else ""
    if reason:
        raise PercoreError(
            f"workers of {program} cannot share a port: {reason}, so nothing can be loaded into it",
            next="set port and port_per_worker: true, or listen where it takes LISTEN_FDS, or share_port: false",
        )
    return WorkerCommand(
        argv=argv,
        program=program,
        cwd=config.cwd,
        env=env,
        out_fd=logs[0],
        err_fd=logs[1],
        store_fds=() if identity else environment.store_fds,
        channel="NODE_CHANNEL_FD" in env,
        identity=identity,
        listen_fds=listen_fds,
        stdin_path=environment.home.stdin_of(place.id) if config.mode == FORK else os.devnull,
    )


def find_command(config: AppConfig, env: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """The words of the command, and the file to execute. Of an interpreter of one version, `env` learns the place."""
    if config.script == _STATIC and not os.path.exists(os.path.join(config.cwd, _STATIC)):
        config = config._replace(interpreter=sys.executable, interpreter_args=("-I",), script=_FILE_SERVER)
    if "@" in os.path.basename(config.interpreter):
        from percore.supervisor.process.interpreters import find_version

        config = config._replace(interpreter=find_version(config.interpreter, env))
        # What the program starts by name is of the same version.
        env["PATH"] = os.path.dirname(config.interpreter) + os.pathsep + env.get("PATH", os.defpath)
    argv = [*([] if config.interpreter == "none" else [config.interpreter, *config.interpreter_args])]
    script = config.script
    if config.interpreter == "none" and os.path.exists(os.path.join(config.cwd, script)):
        script = os.path.join(config.cwd, script)
    refuse_impossible(env)
    program = find_program([*argv, script][0], config.cwd, env.get("PATH", os.defpath))
    if argv and not program:
        raise PercoreError(
            f"the interpreter '{argv[0]}' is not in PATH", next=f"install {argv[0]}, or set 'interpreter'"
        )
    return (*argv, script, *config.args), program or script


def make_variables(
    environment: WorkerEnvironment, place: Place, config: AppConfig, token: str, identity: Optional[Identity]
) -> dict[str, str]:
    given = filter_environment(place.base_env, config.filter_env)
    env = {**given, **(identity.variables if identity else {}), **_as_pm2_tells(place, config), **config.env}
    if config.port is not None:
        env["PORT"] = str(config.port_of(place.number))
    is_counted = config.port is not None and config.increment_var == "PORT"
    if config.increment_var and not is_counted and re.fullmatch(r"-?[0-9]{1,18}", env.get(config.increment_var, "")):
        env[config.increment_var] = str(int(env[config.increment_var]) + place.number)
    env[config.instance_var] = str(place.number)
    env.update(PERCORE_APP=config.name, PERCORE_SLOT=str(place.number), PERCORE_HOME=environment.home.path)
    env["PERCORE_TOKEN"] = token
    if config.release:
        env["PERCORE_RELEASE"] = config.release
    program = os.path.basename(config.interpreter if config.interpreter != "none" else config.script).partition("@")[0]
    if program.startswith("python"):
        env.setdefault("PYTHONUNBUFFERED", "1")
    theirs = None
    if identity and (config.wait_ready or config.shares_port):
        theirs = environment.endpoints.find_user_endpoints(identity.uid)
    if config.wait_ready:
        env["NOTIFY_SOCKET"] = theirs.notify_address if theirs else environment.home.notify_address
    if config.shares_port:
        preload = theirs.preload if theirs else environment.endpoints.find_preload()
        if preload.shim is None:
            raise PercoreError(
                f"this installation has no bind shim for {os.uname().machine}, so workers cannot share a port",
                next="install a C compiler and install percore again, or set share_port: false",
            )
        env["PERCORE_SOCKET"] = theirs.worker_socket if theirs else environment.home.worker_socket
        env["LD_PRELOAD"] = " ".join(filter(None, (preload.shim, env.get("LD_PRELOAD"))))
        if program != "deno":  # it would load it with the program's few rights, and end
            env["NODE_OPTIONS"] = _node_options(env.get("NODE_OPTIONS", ""), config, preload.node)
    return env


def _as_pm2_tells(place: Place, config: AppConfig) -> dict[str, str]:
    """What programs ask to know that, and as which worker, they are run; `pm_id` is unique among all apps."""
    return {"PWD": config.cwd, "name": config.name, "namespace": config.namespace, "pm_id": str(place.id),
            "exec_mode": f"{config.mode}_mode", "pm_cwd": config.cwd,
            "pm_exec_path": os.path.normpath(os.path.join(config.cwd, config.script))}  # fmt: skip


def _node_options(given: str, config: AppConfig, preload: str) -> str:
    """Node's permission model must allow it to read what it is to load."""
    is_limited = any(word.partition("=")[0] in _PERMISSION for word in (*given.split(), *config.interpreter_args))
    allowed = f'--allow-fs-read="{preload}"' if is_limited else ""
    return " ".join(filter(None, (given, allowed, f'--require "{preload}"')))


def _uses_node(config: AppConfig, program: str) -> bool:
    """Whether Node runs it, maybe through a wrapper, so that it may expect a channel to its parent."""
    if os.path.basename(config.interpreter) == "node":
        return True
    from percore.supervisor.base.first_line import MOST_BYTES, NODES, kind_of, starts_node

    def head_of(name: str) -> bytes:
        try:
            with open_regular(os.path.join(config.cwd, name)) as file:
                return file.read(MOST_BYTES)
        except OSError:
            return b""

    kind = kind_of(config.interpreter if config.interpreter != "none" else config.script)
    if kind != "sh":
        return kind in NODES or ((head := head_of(program))[:2] == b"#!" and starts_node(head))
    if config.script == "-c":
        return starts_node(os.fsencode(" ".join(config.args[:1])))
    return starts_node(head_of(config.script))


def refuse_impossible(env: Mapping[str, str]) -> None:
    """Raises PercoreError for what no program can be given."""
    try:
        check_environment(env)
    except ValueError as error:
        raise PercoreError(f"{error}, so nothing can be started with it", next="change the environment") from None


def find_program(name: str, cwd: str, path: str) -> Optional[str]:
    """Where the program `name` is: in a directory of `path`, or by itself (shutil.which would load four compressors)."""
    directories = [cwd] if os.sep in name else path.split(os.pathsep)
    found = (os.path.join(directory, name) for directory in directories)
    return next((place for place in found if may_execute(place)), None)

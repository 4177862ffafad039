"""From what PM2 says of its processes to the apps of a process file, and to what cannot be taken over. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from percore.common.app_names import DEFAULT_NAMESPACE
from percore.errors import PercoreError
from percore.supervisor.commands.from_pm2.variables import own_variables
from percore.supervisor.config.options import BY_NAME, MODIFIER_BY_NAME
from percore.supervisor.config.value_types import instances as read_instances

# Written from other fields of PM2's, or not at all.
_SETTLED = {
    "name", "namespace", "script", "cwd", "interpreter", "env", "instances", "exec_mode", "out_file", "error_file",
    "log_file", "pid_file", "port", "merge_logs",
}  # fmt: skip
# What PM2 fills in where the file says nothing, and what it means here as well.
_DEFAULTS: dict[str, Any] = {
    "autostart": True, "autorestart": True, "treekill": True, "watch": False, "instance_var": "NODE_APP_INSTANCE",
}  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_KILL_TIMEOUT_MS = 1600


class PortedApp(NamedTuple):
    """One app of PM2, as a process file has it, and its processes in PM2."""

    written: dict[str, Any]
    ids: tuple[int, ...]
    is_online: bool

    @property
    def name(self) -> str:
        return str(self.written["name"])

    @property
    def kill_seconds(self) -> float:
        """How long PM2 waits for a process to end."""
        value = self.written.get("kill_timeout", _KILL_TIMEOUT_MS)
        return value / 1000 if isinstance(value, (int, float)) else _KILL_TIMEOUT_MS / 1000


class Ported(NamedTuple):
    apps: tuple[PortedApp, ...]
    notes: tuple[str, ...]  # what cannot be taken over, or was changed


def port_apps(listed: Any, shell: Mapping[str, str], cores: int) -> Ported:
    """`listed` is what `jlist` prints, or the content of dump.pm2. Raises PercoreError where it is neither."""
    entries = [entry_of(each) for each in listed] if isinstance(listed, list) else [None]
    known = [entry for entry in entries if entry is not None]
    if len(known) < len(entries):
        raise PercoreError("PM2's list has a form that percore does not know", next="pm2 prettylist shows it")
    notes = [module_note(entry) for entry in known if is_module(entry)]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in known:
        if not is_module(entry):
            groups.setdefault(group_of(entry), []).append(entry)
    apps: list[PortedApp] = []
    for group in groups.values():
        app = port_app(sorted(group, key=lambda entry: entry["pm_id"]), shell, cores, notes)
        apps.append(with_free_name(app, apps, notes))
    return Ported(tuple(apps), tuple(notes))


def entry_of(listed: Any) -> Optional[dict[str, Any]]:
    """One process, with its `pm_id`. In a dump that is missing; the name of its pid file has the number."""
    entry = listed.get("pm2_env", listed) if isinstance(listed, Mapping) else None
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("name", "pm_exec_path")):
        return None
    number = re.search(r"-(\d{1,9})\.pid$", str(entry.get("pm_pid_path", "")))
    pm_id = listed.get("pm_id", int(number[1]) if number else 0)
    return {**entry, "pm_id": pm_id} if isinstance(pm_id, int) else None


def is_module(entry: Mapping[str, Any]) -> bool:
    return entry.get("pmx_module") is True


def module_note(entry: Mapping[str, Any]) -> str:
    instead = {
        "pm2-logrotate": "percore rotates logs by itself (log_max_size, log_keep)",
        "pm2-server-monit": "see percore monit and percore slist",
    }
    return f"'{entry['name']}' is a module of PM2 and is not taken over: {instead.get(entry['name'], 'percore has no modules')}"


def group_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Processes of one app."""
    return tuple(map(str, (entry.get("namespace"), entry["name"], entry["pm_exec_path"], entry.get("args"))))


def port_app(group: Sequence[dict[str, Any]], shell: Mapping[str, str], cores: int, notes: list[str]) -> PortedApp:
    first = group[0]
    written: dict[str, Any] = {"name": first["name"], "script": first["pm_exec_path"], "cwd": first.get("pm_cwd")}
    if first.get("namespace") not in (None, DEFAULT_NAMESPACE):
        written["namespace"] = first["namespace"]
    if isinstance(first.get("exec_interpreter"), str):
        written["interpreter"] = first["exec_interpreter"]
    written["exec_mode"] = "cluster" if "cluster" in str(first.get("exec_mode")) else "fork"
    written["instances"] = count_of(first.get("instances"), len(group), cores)
    written.update(options_of(first))
    written.update(logs_of(first, len(group)))
    written["env"] = own_variables(first, shell)
    if any(own_variables(other, shell) != written["env"] for other in group[1:]) and not first.get("increment_var"):
        notes.append(
            f"the processes of '{first['name']}' have different variables: those of process {first['pm_id']} count"
        )
    states = {str(entry.get("status")) for entry in group}
    is_online = bool(states & {"online", "launching", "waiting restart"})
    if not is_online:
        notes.append(f"'{first['name']}' is {', '.join(sorted(states))} in PM2: it is in the file, and not started")
    return PortedApp(written, tuple(entry["pm_id"] for entry in group), is_online)


def count_of(written: Any, running: int, cores: int) -> Any:
    """`max` where the file said so and nobody scaled it since."""
    try:
        wished = read_instances(written)
    except (ValueError, TypeError):
        return running
    count = 0 if wished == "max" else int(wished)
    return wished if count <= 0 and max(1, cores + count) == running else running


def options_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a process file of PM2 has. PM2 spreads the variables among them: such a one is no key."""
    env = entry.get("env")
    variables = env if isinstance(env, Mapping) else {}
    found = {}
    for key, value in entry.items():
        option = BY_NAME.get(key)
        name = option.key if option else key if key in MODIFIER_BY_NAME else None
        is_variable = key in variables and variables[key] == value
        if name is None or name in _SETTLED or is_variable or value in _NOTHING or _DEFAULTS.get(name) == value:
            continue
        found[key] = value
    return found


def logs_of(entry: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Files that the app names itself. Those in PM2's own directory are PM2's, and become percore's."""
    own = re.escape(str(entry["name"]).replace(" ", "-"))
    usual = re.compile(rf".*/logs/{own}-(?:out|error)(?:-\d+)?\.log")
    found: dict[str, Any] = {}
    is_merged = entry.get("merge_logs") is True
    for key, source in (
        ("out_file", "pm_out_log_path"),
        ("error_file", "pm_err_log_path"),
        ("log_file", "pm_log_path"),
    ):
        path = entry.get(source)
        if isinstance(path, str) and path and not usual.fullmatch(path):
            found[key] = path if is_merged else re.sub(rf"-{entry['pm_id']}(\.[^./]*)?$", r"\1", path)
    if is_merged and (found or count > 1):
        found["merge_logs"] = True
    return found


def with_free_name(app: PortedApp, others: Iterable[PortedApp], notes: list[str]) -> PortedApp:
    """Two apps of PM2 may have one name; here each has its own."""

    def key(written: Mapping[str, Any]) -> tuple[str, str]:
        return written.get("namespace", DEFAULT_NAMESPACE), written["name"]

    taken = {key(other.written) for other in others}
    if key(app.written) not in taken:
        return app
    namespace = key(app.written)[0]
    free = next(name for number in range(1, 10_000) if (namespace, name := f"{app.name}-{number}") not in taken)
    notes.append(f"PM2 has several apps called '{app.name}': one of them is called '{free}'")
    return app._replace(written={**app.written, "name": free})

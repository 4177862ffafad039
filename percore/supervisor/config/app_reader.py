"""One app of a process file: from what is written to an `AppConfig`.

What comes out is typed and trusted. An unknown key is a warning that names the nearest known one, a wrong value is an error
that names file, app and key.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from percore.common.typing import Any, Optional
from percore.errors import UsageError, nearest
from percore.supervisor.base.first_line import kind_of
from percore.supervisor.base.script import find_interpreter, find_program, runs_node
from percore.supervisor.config import records
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import why_no_name
from percore.supervisor.config.env_file import load_env_files, make_env
from percore.supervisor.config.formats import YamlMapping, line_of, shown
from percore.supervisor.config.globs import has_magic, is_regex
from percore.supervisor.config.kinds import CLUSTER, FORK
from percore.supervisor.config.options import BY_NAME, MODIFIER_BY_NAME, OPTIONS, PATHS, camel_case
from percore.supervisor.config.value_types import flag

NOTHING: Mapping[str, Any] = {}
STATIC_SERVER = "serve"
# A connection that is kept open may be idle for five seconds before the server closes it.
_STATIC_KILL_TIMEOUT = 8.0

# Keys that PM2 knows and that have no meaning here: taken without a word, so that a PM2 file loads unchanged.
_WITHOUT_MEANING = frozenset({
    "automation", "deep_monitoring", "disable_trace", "event_loop_inspector",
    "exec_timeout", "force", "install_url", "io", "kill_retry_time", "name_prefix", "pmx", "post_update",
    "trace", "username", "v8", "vizion", "watch_options", "windowsHide", "write",
})  # fmt: skip


def unknown_key(key: object, known: Sequence[str], path: str, place: str) -> str:
    like = nearest(str(key), list(known))
    return f"{path}: key '{key}' of {place} is not known" + (f" -> did you mean '{like}'?" if like else "")


def settle(written: Mapping[str, Any], defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """What counts of the three, whichever spelling of a key each of them uses."""
    if not defaults and not overrides:
        return written
    given = {key_name(key) for key, value in written.items() if value is not None}
    settled = YamlMapping({key: value for key, value in defaults.items() if key_name(key) not in given})
    settled.lines = getattr(written, "lines", {})
    replaced = {key_name(key) for key in overrides}
    settled.update({key: value for key, value in written.items() if key_name(key) not in replaced})
    settled.update(overrides)
    return settled


def key_name(spelling: object) -> str:
    """The name of the key that is spelled so."""
    known = BY_NAME.get(str(spelling))
    return known.key if known else str(spelling)


def make_app(
    written: Mapping[str, Any],
    *,
    path: str,
    number: int,
    env_name: Optional[str],
    warnings: list[str],
    defaults: Mapping[str, Any] = NOTHING,
    overrides: Mapping[str, Any] = NOTHING,
    caller: Optional[str] = None,
    is_elsewhere: bool = False,
) -> AppConfig:
    """One app; the arguments as in `load_process_file`. Raises UsageError that names the app and the key."""
    written = settle(written, defaults, overrides)
    name = written.get("name")
    title = f"app '{name}'" if name and isinstance(name, (str, int)) and str(name).isprintable() else f"app {number}"
    fields = _read_fields(written, path, title, warnings)
    if not fields.get("script"):
        like = nearest("script", [str(key) for key in written if str(key) not in BY_NAME])
        raise UsageError(
            f"{title} has no 'script'", where=path, next=f"did you mean '{like}' to be it?" if like else ""
        )
    if not is_elsewhere:
        fields.update(paths_at_home(fields))
    fields["cwd"] = _find_directory(fields, path, caller, title, warnings)
    given = load_env_files(written, path, title, fields["cwd"], fields.get("user"), fields.get("group"))
    fields["env"] = {**given, **make_env(written, path, title, env_name, warnings)}
    fields["source"] = path
    _settle_script(fields)
    if not is_elsewhere and fields["interpreter"] != "none":
        fields["script"] = find_program(fields["script"], fields["cwd"], fields["env"].get("PATH"))
    if fields["interpreter"] == "none" and fields.get("interpreter_args"):
        warnings.append(f"{path}: 'node_args' of {title} has no effect, as no interpreter runs '{fields['script']}'")
    if not fields.get("name"):
        fields["name"] = os.path.splitext(os.path.basename(fields["script"]))[0] or fields["script"]
    _settle_mode(fields)
    _apply_modifiers(written, fields, path, title, env_name)
    if reason := why_no_name(fields["name"]):
        raise UsageError(f"{title} cannot be called {shown(fields['name'])}: it must be {reason}", where=path)
    _check_ports(fields, path, title)
    _settle_watch(fields, path, title, warnings)
    return _checked(AppConfig(**fields), path, title)


def paths_at_home(fields: Mapping[str, Any], user: Optional[str] = None) -> dict[str, Any]:
    """Those of the fields that begin with a `~` which no shell replaced: below the home of this user, or of the one who asks."""
    written = {field: fields[field] for field in PATHS if str(fields.get(field)).startswith("~/")}
    return {field: os.path.expanduser(f"~{user or ''}{place[1:]}") for field, place in written.items()}


def _find_directory(
    fields: Mapping[str, Any], path: str, caller: Optional[str], title: str, warnings: list[str]
) -> str:
    """The working directory: counted from the process file, or from where percore was called, if only that has the script.

    PM2 counts from the caller.
    """
    place, script = fields.get("cwd", "."), fields["script"]
    ours, theirs = (os.path.normpath(os.path.join(base or ".", place)) for base in (os.path.dirname(path), caller))
    if not caller or os.path.realpath(ours) == os.path.realpath(theirs) or os.path.isabs(script):
        return ours
    has_ours, has_theirs = (os.path.isfile(os.path.join(base, script)) for base in (ours, theirs))
    if has_theirs:
        used, other = (ours, theirs) if has_ours else (theirs, ours)
        warnings.append(
            f"{path}: 'script' of {title} is taken from {used}, not from {other} -> write 'cwd', an absolute path"
        )
    return theirs if has_theirs and not has_ours else ours


def _settle_watch(fields: dict[str, Any], path: str, title: str, warnings: list[str]) -> None:
    """Paths that are written into one text are several, if they are not one; those that are not there are named."""
    watch, cwd = fields.get("watch"), fields["cwd"]
    if isinstance(watch, bool):
        fields["watch"] = (cwd,) if watch else ()
    for key in ("watch", "ignore_watch"):
        if key in fields:
            fields[key] = tuple(part for entry in fields[key] for part in _parts(entry, cwd))
    missing = [
        entry
        for entry in fields.get("watch", ())
        if not has_magic(entry) and not os.path.lexists(os.path.join(cwd, entry))
    ]
    warnings += [f"{path}: 'watch' of {title} names '{entry}', which is not in {cwd}" for entry in missing]


def _parts(entry: str, cwd: str) -> list[str]:
    is_one = not re.search(r"\s", entry.strip()) or is_regex(entry) or os.path.lexists(os.path.join(cwd, entry))
    return [entry] if is_one else entry.split()


def _checked(app: AppConfig, path: str, title: str) -> AppConfig:
    """What was worked out, such as a name out of a path, is as right as what was written."""
    try:
        records.read(AppConfig, app.to_record())
    except records.WrongField as error:
        raise UsageError(f"'{error.field}' of {title} {error.reason}", where=path) from None
    return app


_ACCEPTED = {
    "env",
    "env_file",
    "envFile",
    *MODIFIER_BY_NAME,
    *_WITHOUT_MEANING,
    *(camel_case(key) for key in _WITHOUT_MEANING),
}


def _read_fields(written: Mapping[str, Any], path: str, title: str, warnings: list[str]) -> dict[str, Any]:
    """The fields of the keys that are written, each through its own reader."""
    fields: dict[str, Any] = {}
    given: dict[str, str] = {}  # field -> the key that gave it
    for key, value in written.items():
        where = line_of(written, key, path)
        known = BY_NAME.get(str(key))
        if known is None:
            if key not in _ACCEPTED and not re.match(r"env_\S+$", str(key)):
                warnings.append(unknown_key(key, [option.key for option in OPTIONS], where, title))
            continue
        if value is None:
            continue
        try:
            read = known.type.read(value)
        except (ValueError, TypeError) as error:
            wanted = str(error) if isinstance(error, ValueError) else "another kind of value"
            raise UsageError(f"key '{key}' of {title} must be {wanted}, not {shown(value)}", where=where) from None
        if read is None and known.field in fields:
            continue
        if known.field in given and read != fields[known.field]:
            warnings.append(f"{where}: '{given[known.field]}' and '{key}' of {title} mean the same -> '{key}' is used")
        given[known.field] = str(key)
        fields[known.field] = read
    return fields


def _settle_script(fields: dict[str, Any]) -> None:
    """Works out what is executed: an interpreter by extension, a program from PATH, or a shell for a command line."""
    script, cwd = fields["script"], fields["cwd"]
    if is_static_server(fields):
        settle_static_server(fields)
        return
    is_file = os.path.isfile(os.path.join(cwd, script))
    if re.search(r"\s", script) and not is_file and fields.get("interpreter", "none") == "none":
        command = " ".join([script.strip(), *map(shlex.quote, fields.get("args", ()))])
        if not fields.get("name"):
            fields["name"] = os.path.basename(next(iter(script.split()), script))
        fields.update(script="-c", args=(command,), interpreter="/bin/sh", interpreter_args=())
        return
    if not fields.get("interpreter"):
        fields["interpreter"], first = find_interpreter(os.path.join(cwd, script))
        fields["interpreter_args"] = (*first, *fields.get("interpreter_args", ()))


def _settle_mode(fields: dict[str, Any]) -> None:
    """PM2's rule: several Node workers form a cluster, and so does one when `instances` is written."""
    if "mode" not in fields:
        count = fields.get("instances")
        is_wide = count == "max" or (isinstance(count, int) and count >= -1)
        arguments = fields["args"] if fields["script"] == "-c" else ()
        is_node = is_wide and runs_node(fields["interpreter"], fields["script"], arguments, fields["cwd"])
        fields["mode"] = CLUSTER if is_node else FORK


def _check_ports(fields: Mapping[str, Any], path: str, title: str) -> None:
    if fields.get("port_per_worker") and not fields.get("port"):
        raise UsageError(f"'port_per_worker' of {title} needs 'port', the first port", where=path)
    is_shared = fields["mode"] == CLUSTER and fields.get("share_port", True) and not fields.get("port_per_worker")
    if fields.get("listen") and not is_shared:
        raise UsageError(
            f"'listen' of {title} needs workers that share ports, and its workers do not",
            where=path,
            next="set exec_mode: cluster, without share_port: false and port_per_worker",
        )


def _apply_modifiers(
    written: Mapping[str, Any], fields: dict[str, Any], path: str, title: str, env_name: Optional[str]
) -> None:
    def wish(name: str) -> Optional[bool]:
        key = name if name in written else camel_case(name)
        value = written.get(key)
        try:
            return None if value is None else flag(value)
        except (ValueError, TypeError):
            where = line_of(written, key, path)
            raise UsageError(f"key '{key}' of {title} must be true or false, not {shown(value)}", where=where) from None

    if wish("execute_command"):
        fields["mode"] = FORK
    if wish("append_env_to_name") and env_name:
        fields["name"] = f"{fields['name']}-{env_name}"
    wants_maps = wish("source_map_support")
    if wants_maps is None and not wish("disable_source_map_support"):  # PM2: where the compiler left a map
        wants_maps = os.path.isfile(os.path.join(fields["cwd"], f"{fields['script']}.map"))
    if wants_maps and kind_of(fields["interpreter"]) == "node":
        fields["interpreter_args"] = (*fields.get("interpreter_args", ()), "--enable-source-maps")


def is_static_server(fields: Mapping[str, Any]) -> bool:
    """True when the script is this server, not a file of that name."""
    return fields["script"] == STATIC_SERVER and not os.path.isfile(os.path.join(fields["cwd"], STATIC_SERVER))


def settle_static_server(fields: dict[str, Any]) -> None:
    fields["interpreter"] = "none"
    fields.setdefault("mode", CLUSTER)
    fields.setdefault("kill_timeout", _STATIC_KILL_TIMEOUT)

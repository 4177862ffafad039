"""One app of a process file: from what is written to an `AppConfig`.

What comes out is typed and trusted. An unknown key is a warning that names the nearest known one, a wrong value is an error
that names file, app and key.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence

from percore.common.names import variable_fault
from percore.common.typing import Any, Optional
from percore.errors import UsageError, nearest
from percore.supervisor.config import env_file, records
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import why_no_name
from percore.supervisor.config.formats import YamlMapping, line_of
from percore.supervisor.config.kinds import CLUSTER, FORK, is_plain
from percore.supervisor.config.options import BY_NAME, MODIFIER_BY_NAME, OPTIONS, camel_case
from percore.supervisor.config.value_types import flag, names

NOTHING: Mapping[str, Any] = {}
STATIC_SERVER = "serve"
# A connection that is kept open may be idle for five seconds before the server closes it.
_STATIC_KILL_TIMEOUT = 8.0

# Keys that PM2 knows and that have no meaning here: taken without a word, so that a PM2 file loads unchanged.
_WITHOUT_MEANING = frozenset({
    "automation", "deep_monitoring", "disable_source_map_support", "disable_trace", "event_loop_inspector",
    "exec_timeout", "force", "install_url", "io", "kill_retry_time", "name_prefix", "pmx", "post_update",
    "trace", "username", "v8", "vizion", "watch_options", "windowsHide", "write",
})  # fmt: skip

_INTERPRETERS = {".js": "node", ".cjs": "node", ".mjs": "node", ".ts": "bun", ".tsx": "bun", ".py": "python3", ".sh": "bash",
                 ".rb": "ruby", ".pl": "perl", ".php": "php", ".coffee": "coffee", ".ls": "lsc"}  # fmt: skip


def unknown_key(key: object, known: Sequence[str], path: str, place: str) -> str:
    like = nearest(str(key), list(known))
    return f"{path}: key '{key}' of {place} is not known" + (f" -> did you mean '{like}'?" if like else "")


def shown(value: object) -> str:
    """A written value in an error line."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
) -> AppConfig:
    """One app; `defaults` and `overrides` as in `load_process_file`. Raises UsageError that names the app and the key."""
    written = settle(written, defaults, overrides)
    name = written.get("name")
    title = f"app '{name}'" if name and isinstance(name, (str, int)) and str(name).isprintable() else f"app {number}"
    fields = _read_fields(written, path, title, warnings)
    if not fields.get("script"):
        like = nearest("script", [str(key) for key in written if str(key) not in BY_NAME])
        raise UsageError(
            f"{title} has no 'script'", where=path, next=f"did you mean '{like}' to be it?" if like else ""
        )
    base = os.path.dirname(path)
    fields["cwd"] = os.path.normpath(os.path.join(base, os.path.expanduser(fields.get("cwd", "."))))
    given = load_env_files(written, path, title, fields["cwd"], fields.get("user"), fields.get("group"))
    fields["env"] = {**given, **make_env(written, path, title, env_name, warnings)}
    fields["source"] = path
    _settle_script(fields)
    if not fields.get("name"):
        fields["name"] = os.path.splitext(os.path.basename(fields["script"]))[0] or fields["script"]
    _settle_mode(fields)
    _apply_modifiers(written, fields, path, title, env_name)
    if reason := why_no_name(fields["name"]):
        raise UsageError(f"{title} cannot be called {shown(fields['name'])}: it must be {reason}", where=path)
    _check_ports(fields, path, title)
    watch = fields.get("watch")
    if isinstance(watch, bool):
        fields["watch"] = (fields["cwd"],) if watch else ()
    return _checked(AppConfig(**fields), path, title)


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
        if known.field in given:
            warnings.append(f"{where}: '{given[known.field]}' and '{key}' of {title} mean the same -> '{key}' is used")
        given[known.field] = str(key)
        fields[known.field] = read
    return fields


def load_env_files(
    written: Mapping[str, Any], path: str, title: str, cwd: str, user: Optional[str] = None, group: Optional[str] = None
) -> dict[str, str]:
    """The variables of the files that `env_file` names; of several files a later one wins."""
    key = "env_file" if "env_file" in written else "envFile"
    value = written.get(key)
    if value is None or value is False:
        return {}
    try:
        places = names(value)
    except (ValueError, TypeError):
        raise UsageError(
            f"key '{key}' of {title} must be a path, or a list of paths, not {shown(value)}",
            where=line_of(written, key, path),
        ) from None
    env: dict[str, str] = {}
    for place in places:
        env.update(env_file.load(os.path.join(cwd, os.path.expanduser(place)), user=user, group=group))
    return env


def make_env(
    written: Mapping[str, Any], path: str, title: str, env_name: Optional[str], warnings: list[str]
) -> dict[str, str]:
    """`env`, then `env_<name>` over it. Values become text; nested ones JSON, as in PM2."""
    env: dict[str, str] = {}
    chosen = f"env_{env_name}" if env_name and env_name != "file" else None
    others = [str(key) for key in written if str(key).startswith("env_") and key != "env_file"]
    if chosen and others and chosen not in others:
        like = nearest(chosen, others)
        warnings.append(f"{path}: {title} has no '{chosen}'" + (f" -> did you mean '{like}'?" if like else ""))
    for key in ("env", chosen):
        values = written.get(key) if key else None
        if values is None:
            continue
        where = line_of(written, key, path)
        if not isinstance(values, Mapping):
            raise UsageError(f"key '{key}' of {title} must be a mapping of names to values", where=where)
        for name, value in values.items():
            if variable_fault(str(name)):
                raise UsageError(f"{shown(name)} in '{key}' of {title} cannot name a variable", where=where)
            text = variable_text(value)
            if text is None:
                raise UsageError(
                    f"'{name}' in '{key}' of {title} cannot be the value of a variable (zero byte, no UTF-8, or endless)",
                    where=line_of(values, name, path),
                )
            env[str(name)] = text
    return env


def variable_text(value: Any) -> Optional[str]:
    """The text a worker gets; None when no variable can hold it."""
    try:
        if isinstance(value, (dict, list, bool)):
            text = json.dumps(value, default=str)
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))  # as JavaScript writes it
        else:
            text = "" if value is None else str(value)
    except (ValueError, TypeError, RecursionError):
        return None
    return text if is_plain(text) else None


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
        fields["interpreter"] = _INTERPRETERS.get(os.path.splitext(script)[1], "none")
        if fields["interpreter"] == "none" and is_file and not os.access(os.path.join(cwd, script), os.X_OK):
            fields["interpreter"] = "node"


def _settle_mode(fields: dict[str, Any]) -> None:
    """PM2's rule: several Node workers form a cluster, and so does one when `instances` is written."""
    if "mode" not in fields:
        count = fields.get("instances")
        is_wide = count == "max" or (isinstance(count, int) and count >= -1)
        fields["mode"] = CLUSTER if is_wide and _runs_node(fields) else FORK


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


def _runs_node(fields: Mapping[str, Any]) -> bool:
    return os.path.basename(fields["interpreter"]).partition("@")[0] in ("node", "bun")


def _apply_modifiers(
    written: Mapping[str, Any], fields: dict[str, Any], path: str, title: str, env_name: Optional[str]
) -> None:
    def is_on(name: str) -> bool:
        key = name if name in written else camel_case(name)
        value = written.get(key)
        try:
            return value is not None and flag(value)
        except (ValueError, TypeError):
            where = line_of(written, key, path)
            raise UsageError(f"key '{key}' of {title} must be true or false, not {shown(value)}", where=where) from None

    if is_on("execute_command"):
        fields["mode"] = FORK
    if is_on("append_env_to_name") and env_name:
        fields["name"] = f"{fields['name']}-{env_name}"
    if is_on("source_map_support") and os.path.basename(fields["interpreter"]) == "node":
        fields["interpreter_args"] = (*fields.get("interpreter_args", ()), "--enable-source-maps")


def is_static_server(fields: Mapping[str, Any]) -> bool:
    """True when the script is this server, not a file of that name."""
    return fields["script"] == STATIC_SERVER and not os.path.isfile(os.path.join(fields["cwd"], STATIC_SERVER))


def settle_static_server(fields: dict[str, Any]) -> None:
    fields["interpreter"] = "none"
    fields.setdefault("mode", CLUSTER)
    fields.setdefault("kill_timeout", _STATIC_KILL_TIMEOUT)

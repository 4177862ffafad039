"""Process files: PM2's `ecosystem.config.js`, JSON and YAML, read into `AppConfig` values.

Everything is checked here, at the door: what comes out is typed and trusted. An unknown key is a warning that names the
nearest known one, a wrong value is an error that names file, app and key.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from percore.errors import UsageError, nearest
from percore.supervisor.config import CLUSTER, FORK, AppConfig
from percore.supervisor.keys import BY_NAME, KEYS, NOT_YET, WITHOUT_MEANING, camel_case

_NODE_SECONDS = 10
_TOP_LEVEL = {"apps", "pm2", "deploy", "static"}
_INTERPRETERS = {".js": "node", ".cjs": "node", ".mjs": "node", ".ts": "bun", ".tsx": "bun", ".py": "python3", ".sh": "bash",
                 ".rb": "ruby", ".pl": "perl", ".php": "php"}  # fmt: skip


class ProcessFile(NamedTuple):
    apps: tuple[AppConfig, ...]
    warnings: tuple[str, ...]


def load_process_file(path: str, *, env_name: Optional[str] = None) -> ProcessFile:
    """The apps of a process file. Raises UsageError; `env_name` merges each app's `env_<name>`, as PM2's --env does."""
    path = os.path.abspath(path)
    content = read_content(path)
    warnings: list[str] = []
    apps = [
        make_app(written, path=path, number=number, env_name=env_name, warnings=warnings)
        for number, written in enumerate(list_apps(content, path, warnings))
    ]
    for app in apps:
        if sum(other.name == app.name for other in apps) > 1:
            raise UsageError(f"two apps are called '{app.name}'", where=path, next="give each a name of its own")
    return ProcessFile(tuple(apps), tuple(warnings))


def resolve_for_release(
    path: str,
    *,
    release_id: str,
    release_path: str,
    env_name: Optional[str] = None,
    extra_env: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    """The release record (docs/reference/process-file.md) of the built tree that `path` lies in.

    Paths in that tree become paths below `release_path` on the host. `extra_env` (env file, inventory) wins over the file's
    own `env`: it is the operator's word about this one environment.
    """
    loaded = load_process_file(path, env_name=env_name)
    tree = os.path.dirname(os.path.abspath(path))

    def move(place: str) -> str:
        inside = os.path.relpath(place, tree)
        return place if inside.startswith("..") else os.path.normpath(os.path.join(release_path, inside))

    apps = []
    for app in loaded.apps:
        env = {**app.env, **(extra_env or {})}
        script = move(app.script) if os.path.isabs(app.script) else app.script
        moved = app._replace(cwd=move(app.cwd), script=script, env=env, release=release_id, source="")
        if "PORT" in env and app.port is not None:
            moved = moved._replace(port=int(env["PORT"]))
        apps.append(moved.to_record())
    return {"version": 1, "release": release_id, "apps": apps, "warnings": list(loaded.warnings)}


# -- reading the file ------------------------------------------------------------------------------------------------


def read_content(path: str) -> Any:
    """What the file says, as plain values."""
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            written = file.read()
    except OSError as error:
        raise UsageError(f"the process file cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("the process file is not UTF-8 text", where=path) from None
    if name.endswith((".yml", ".yaml")):
        return _read_yaml(path, written)
    if ".json" in name:
        try:
            return json.loads(written)
        except ValueError:
            # PM2's JSON is JavaScript: comments, bare keys, trailing commas.
            return _ask_node(f"({written}\n)", path, is_expression=True)
    if name.endswith((".js", ".cjs", ".mjs")):
        return _ask_node(path, path, is_expression=False)
    raise UsageError("it is not a process file", where=path, next="name it ecosystem.config.js, .json or .yml")


def _read_yaml(path: str, written: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(written)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise UsageError(f"invalid YAML: {getattr(error, 'problem', None) or error}", where=where) from None


_EVALUATE = "const v = require('vm').runInNewContext(require('fs').readFileSync(0, 'utf8'), {}, { timeout: 1000 });"
_IMPORT = "const m = await import(require('url').pathToFileURL(process.argv[1])); const v = m.default ?? m;"
_PRINT = "process.stdout.write('\\n\\u0000' + JSON.stringify(v, (k, x) => typeof x === 'function' ? undefined : x));"


def _ask_node(source: str, path: str, *, is_expression: bool) -> Any:
    body = _EVALUATE if is_expression else _IMPORT
    program = (
        f"(async () => {{ {body} {_PRINT} }})().catch(e => {{ console.error(e && e.stack || e); process.exit(1); }});"
    )
    try:
        answer = subprocess.run(
            ["node", "-e", program, "--", *([] if is_expression else [path])], input=source if is_expression else "",
            capture_output=True, text=True, timeout=_NODE_SECONDS, cwd=os.path.dirname(path),
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError(
            "Node.js is needed to read it, and 'node' is not in PATH", where=path, next="install Node.js"
        ) from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"it did not finish within {_NODE_SECONDS} s", where=path) from None
    if answer.returncode != 0:
        raise UsageError(*_explain_node(answer.stderr), where=_node_place(answer.stderr, path))
    try:
        # What the file itself prints comes first, and is nobody's business here.
        return json.loads(answer.stdout.rpartition("\0")[2])
    except ValueError:
        raise UsageError("it gives no object of apps", where=path, next="see docs/reference/process-file.md") from None


def _explain_node(stderr: str) -> tuple[str]:
    lines = [line.strip() for line in stderr.splitlines()]
    errors = [line for line in lines if re.match(r"\w*Error\b", line)]
    return (errors[0] if errors else (lines[-1] if lines else "node could not read it"),)


def _node_place(stderr: str, path: str) -> str:
    """file:line when node's report names a line of this file."""
    match = re.search(re.escape(os.path.basename(path)) + r":(\d+)", stderr) or re.search(
        r"evalmachine\.<anonymous>:(\d+)", stderr
    )
    return f"{path}:{match[1]}" if match else path


# -- from written values to AppConfig --------------------------------------------------------------------------------


def list_apps(content: Any, path: str, warnings: list[str]) -> list[Mapping[str, Any]]:
    """The list of apps in every form PM2 accepts: `apps`, `pm2`, a bare list, a single app."""
    apps = content
    if isinstance(content, Mapping):
        if "apps" in content or "pm2" in content:
            apps = content.get("apps", content.get("pm2"))
            known = sorted(_TOP_LEVEL)
            warnings += [unknown_key(key, known, path, "the top level") for key in content if key not in _TOP_LEVEL]
        elif not content:
            apps = []
    if isinstance(apps, Mapping):
        apps = [apps]
    if not isinstance(apps, list) or not apps or not all(isinstance(app, Mapping) for app in apps):
        raise UsageError("it names no apps", where=path, next="see docs/reference/process-file.md")
    return apps


def unknown_key(key: object, known: Sequence[str], path: str, place: str) -> str:
    like = nearest(str(key), list(known))
    return f"{path}: key '{key}' of {place} is not known" + (f" -> did you mean '{like}'?" if like else "")


def make_app(
    written: Mapping[str, Any], *, path: str, number: int, env_name: Optional[str], warnings: list[str]
) -> AppConfig:
    """One app. Raises UsageError that names the app and the key."""
    title = f"app '{written.get('name', number)}'"
    fields: dict[str, Any] = {}
    for key, value in written.items():
        known = BY_NAME.get(str(key))
        if known is None:
            if key != "env" and not re.match(r"env_\w+$", str(key)) and key not in _MEANINGLESS:
                warnings.append(unknown_key(key, [key.name for key in KEYS], path, title))
            continue
        if value is None:
            continue
        if known.name in NOT_YET and value is not False:
            warnings.append(f"{path}: key '{key}' of {title} has no effect in this version")
        try:
            fields[known.field] = known.read(value)
        except (ValueError, TypeError) as error:
            wanted = str(error) if isinstance(error, ValueError) else "another kind of value"
            raise UsageError(
                f"key '{key}' of {title} must be {wanted}, not {json.dumps(value, default=str)}", where=path
            ) from None
    if not fields.get("script"):
        raise UsageError(f"{title} has no 'script'", where=path)
    base = os.path.dirname(path)
    fields["cwd"] = os.path.normpath(os.path.join(base, os.path.expanduser(fields.get("cwd", "."))))
    fields["env"] = make_env(written, path, title, env_name, warnings)
    fields["source"] = path
    _settle_script(fields)
    fields.setdefault("name", os.path.splitext(os.path.basename(fields["script"]))[0])
    if "mode" not in fields:
        count = fields.get("instances")
        is_node = os.path.basename(fields["interpreter"]) in ("node", "bun")
        fields["mode"] = (
            CLUSTER
            if is_node and (count == "max" or (isinstance(count, int) and (count >= 0 or count == -1)))
            else FORK
        )
    watch = fields.get("watch")
    if isinstance(watch, bool):
        fields["watch"] = (fields["cwd"],) if watch else ()
    return AppConfig(**fields)


_MEANINGLESS = WITHOUT_MEANING | {camel_case(name) for name in WITHOUT_MEANING}


def make_env(
    written: Mapping[str, Any], path: str, title: str, env_name: Optional[str], warnings: list[str]
) -> dict[str, str]:
    """`env`, then `env_<name>` over it. Values become text; nested ones JSON, as in PM2."""
    env: dict[str, str] = {}
    chosen = f"env_{env_name}" if env_name else None
    if chosen and chosen not in written and any(str(key).startswith("env_") for key in written):
        warnings.append(f"{path}: {title} has no '{chosen}'")
    for key in ("env", chosen):
        values = written.get(key) if key else None
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise UsageError(f"key '{key}' of {title} must be a mapping of names to values", where=path)
        for name, value in values.items():
            if not re.fullmatch(r"[^=\0]+", str(name)):
                raise UsageError(f"'{name}' in '{key}' of {title} cannot name a variable", where=path)
            shown = json.dumps(value) if isinstance(value, (dict, list, bool)) else "" if value is None else str(value)
            if "\0" in shown:
                raise UsageError(f"'{name}' in '{key}' of {title} holds a zero byte", where=path)
            env[str(name)] = shown
    return env


def _settle_script(fields: dict[str, Any]) -> None:
    """Works out what is executed: an interpreter by extension, a program from PATH, or a shell for a command line."""
    script, cwd = fields["script"], fields["cwd"]
    is_file = os.path.isfile(os.path.join(cwd, script))
    if " " in script and not is_file:
        fields.setdefault("name", script.split()[0])
        command = " ".join([script, *fields.get("args", ())])
        fields.update(script="-c", args=(command,), interpreter="sh")
        return
    if "interpreter" not in fields:
        fields["interpreter"] = _INTERPRETERS.get(os.path.splitext(script)[1], "none")
        if fields["interpreter"] == "none" and is_file and not os.access(os.path.join(cwd, script), os.X_OK):
            fields["interpreter"] = "node"

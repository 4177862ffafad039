"""The fields of JSON outputs that scripts may rely on: docs/reference/json.md is made of this, and tests compare real outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from percore.supervisor.base.states import State
from tests.reference.markdown import code, table


class JsonField(NamedTuple):
    path: str  # `apps[].name`; `[]` for each entry of a list, `*` for each value of an object with free names
    kind: str  # text, number, flag, object, list, or two of them, such as `text or null`
    meaning: str


TEXT, NUMBER, FLAG, OBJECT, LIST = "text", "number", "true or false", "object", "list"
TEXT_OR_NULL, NUMBER_OR_NULL = "text or null", "number or null"
_TYPES: Mapping[str, tuple[type, ...]] = {
    TEXT: (str,), NUMBER: (int, float), FLAG: (bool,), OBJECT: (dict,), LIST: (list,), "null": (type(None),),
}  # fmt: skip
# What is below is another table, or not promised.
_CLOSED = "..."

_WORKER = (
    JsonField("slot", NUMBER, "number of the worker in its app, from 0"),
    JsonField("pid", NUMBER_OR_NULL, "0 or null: no process"),
    JsonField("state", TEXT, ", ".join(code(state.value) for state in State)),
    JsonField("release", TEXT_OR_NULL, "the release that it runs; empty without a deploy"),
    JsonField("port", NUMBER_OR_NULL, "the port that it listens on, or `port` of the app"),
    JsonField("memory_bytes", NUMBER, "resident memory of the worker and all below it"),
    JsonField("cpu_percent", NUMBER, "of one core"),
    JsonField("uptime_seconds", NUMBER, "since its process was started"),
    JsonField("restarts", NUMBER, "since the app was started or reset"),
)
_MORE_OF_WORKER = (
    JsonField("id", NUMBER, "PM2's id: unique among all apps"),
    JsonField("role", TEXT, "`current`, or during a reload `incoming` and `outgoing`"),
    JsonField("unstable_restarts", NUMBER, "quick failures in a row"),
    JsonField("last_delay", NUMBER, "seconds before the last restart"),
    JsonField("crash_looping", FLAG, ""),
    JsonField("finished", FLAG, "it was meant to end, and did so with success"),
    JsonField("failure", TEXT_OR_NULL, "why it is not well"),
    JsonField("config_hash", TEXT, "of what is run and how"),
    JsonField("env_hash", TEXT, "of its variables"),
)
_COMMIT = (
    JsonField("commit", "object or null", "of which the release was built, if the app is a git checkout"),
    JsonField("commit.sha", TEXT, ""),
    JsonField("commit.branch", TEXT, ""),
    JsonField("commit.is_dirty", FLAG, "the checkout had uncommitted changes"),
)
_FINDING = (
    JsonField("what", TEXT, ""),
    JsonField("next", TEXT, "what to type, or to change"),
    JsonField("topic", TEXT, "`memory`, `ports`, `limits` ..."),
    JsonField("severity", TEXT, "`error`, `warning`, `note`"),
)
_JOB = (
    JsonField("name", TEXT, ""),
    JsonField("cron", TEXT, "when it runs"),
    JsonField("timezone", TEXT_OR_NULL, "null: that of the host"),
    JsonField("next", NUMBER_OR_NULL, "when it runs next, in seconds since 1970"),
    JsonField("running_since", NUMBER_OR_NULL, "null: it does not run now"),
    JsonField("skipped", NUMBER, "times that were left out because it still ran"),
    JsonField("last", "object or null", "its last run"),
    JsonField("last.started", NUMBER, "seconds since 1970"),
    JsonField("last.seconds", NUMBER_OR_NULL, "how long it took"),
    JsonField("last.exit_code", NUMBER_OR_NULL, ""),
    JsonField("last.end", TEXT, "how it ended, in words"),
    JsonField("last.failed", FLAG, ""),
    JsonField("last.lines", LIST, "its last log lines"),
)
_DIFF = (
    JsonField("text", TEXT, "the change, in one line"),
    JsonField("diff", TEXT, "the lines that differ; may be empty"),
)


def _below(prefix: str, fields: tuple[JsonField, ...]) -> tuple[JsonField, ...]:
    return tuple(field._replace(path=f"{prefix}{field.path}") for field in fields)


OUTPUTS: Mapping[str, tuple[JsonField, ...]] = {
    "percore-status": (
        JsonField("release", TEXT_OR_NULL, "the release that `apply` was given"),
        JsonField("daemon", FLAG, "false: no supervisor runs"),
        JsonField("version", TEXT, "of the supervisor that runs"),
        JsonField("apps", LIST, ""),
        JsonField("apps[].name", TEXT, "`namespace:name` where another namespace had the name first"),
        JsonField("apps[].namespace", TEXT, ""),
        JsonField("apps[].mode", TEXT, "`cluster` or `fork`"),
        JsonField("apps[].release", TEXT_OR_NULL, ""),
        JsonField("apps[].source", TEXT, "the process file that it came from"),
        JsonField("apps[].wanted", NUMBER, "workers that should run now"),
        JsonField("apps[].port", NUMBER_OR_NULL, ""),
        JsonField("apps[].addresses", LIST, "addresses that it listens on"),
        JsonField("apps[].counts", _CLOSED, "what happened to it, by kind: restarts, reloads, drains"),
        JsonField("apps[].job", _CLOSED, "only of jobs: `scheduled` is true while its times count"),
        JsonField("apps[].workers", LIST, ""),
        *_below("apps[].workers[].", (*_WORKER, *_MORE_OF_WORKER)),
    ),
    "percore-jlist": (
        JsonField("[].pid", NUMBER, "0: no process"),
        JsonField("[].name", TEXT, ""),
        JsonField("[].pm_id", NUMBER, "id of the worker"),
        JsonField("[].monit.memory", NUMBER, "bytes"),
        JsonField("[].monit.cpu", NUMBER, "percent of one core"),
        JsonField("[].pm2_env", _CLOSED, "PM2's fields, the options that the app sets, and its variables"),
        JsonField(
            "[].pm2_env.status", TEXT, "`online`, `launching`, `stopping`, `stopped`, `errored`, `waiting restart`"
        ),
        JsonField("[].pm2_env.namespace", TEXT, ""),
        JsonField("[].pm2_env.restart_time", NUMBER, "restarts"),
        JsonField("[].pm2_env.unstable_restarts", NUMBER, "quick failures in a row"),
        JsonField("[].pm2_env.exit_code", NUMBER_OR_NULL, "of the last end"),
        JsonField("[].pm2_env.exec_mode", TEXT, "`cluster_mode` or `fork_mode`"),
        JsonField("[].pm2_env.instances", NUMBER, "workers of the app"),
        JsonField("[].pm2_env.pm_exec_path", TEXT, "the script"),
        JsonField("[].pm2_env.pm_cwd", TEXT, ""),
        JsonField("[].pm2_env.pm_out_log_path", TEXT, ""),
        JsonField("[].pm2_env.pm_err_log_path", TEXT, ""),
        JsonField("[].pm2_env.pm_pid_path", TEXT, "empty unless the app has a `pid_file`"),
        JsonField("[].pm2_env.pm_uptime", NUMBER, "when the process was started, in milliseconds since 1970"),
        JsonField("[].pm2_env.created_at", NUMBER, "the same"),
        JsonField("[].pm2_env.username", TEXT, ""),
        JsonField("[].pm2_env.version", TEXT, "of the app's package.json, or `N/A`"),
        JsonField("[].pm2_env.node_version", TEXT, "of the Node that runs it, or `N/A`"),
        JsonField("[].pm2_env.env", _CLOSED, "the app's own variables with their values"),
    ),
    "percore-jobs": _below(
        "[].",
        (
            *_JOB,
            JsonField("last.release", TEXT, "the release that it ran; empty without a deploy"),
            JsonField("overlap", TEXT, "`forbid` or `queue`"),
            JsonField("timeout", NUMBER_OR_NULL, "seconds"),
            JsonField("pid", NUMBER_OR_NULL, ""),
        ),
    ),
    "percore-doctor": (
        JsonField("facts", _CLOSED, "the host: cores, memory, disk, limits, features of the kernel; sizes in bytes"),
        JsonField("sizing.workers", NUMBER, "for one clustered app that has the host to itself"),
        JsonField("sizing.memory_bytes", NUMBER, "of one worker"),
        JsonField("sizing.heap_bytes", NUMBER, "of Node's heap"),
        JsonField("findings", LIST, ""),
        *_below("findings[].", _FINDING),
    ),
    "percore-apply": (
        JsonField("event", TEXT, "`result`"),
        JsonField("ok", FLAG, ""),
        JsonField("pending", FLAG, "something would change"),
        JsonField("changes", LIST, ""),
        JsonField("changes[].app", TEXT, ""),
        JsonField("changes[].change", TEXT, "`added`, `removed`, or what will be done with its workers"),
        JsonField("changes[].fields", LIST, "`field`, `from`, `to`"),
        JsonField("changes[].env", _CLOSED, "names of variables, under `added`, `removed`, `changed`"),
    ),
    "invoke-status": (
        JsonField("[].host", TEXT, ""),
        JsonField("[].reachable", FLAG, ""),
        JsonField("[].release", TEXT_OR_NULL, ""),
        *_below("[].", _COMMIT),
        JsonField("[].percore", TEXT_OR_NULL, "version of the supervisor that runs there"),
        JsonField("[].apps", LIST, ""),
        JsonField("[].apps[].name", TEXT, ""),
        JsonField("[].apps[].mode", TEXT, "`cluster` or `fork`"),
        JsonField("[].apps[].wanted", NUMBER, "workers that should run now"),
        JsonField("[].apps[].workers", LIST, ""),
        *_below("[].apps[].workers[].", _WORKER),
        JsonField("[].missing", LIST, "what the release says should run and does not; the exit code is then 9"),
        JsonField("[].drained", LIST, "the load balancers that leave the host out"),
        JsonField("[].drained[].at", TEXT, "name of the load balancer"),
        JsonField("[].drained[].by", TEXT, "who drained it"),
        JsonField("[].drained[].since", TEXT, ""),
        JsonField("[].drained[].why", TEXT, ""),
        JsonField("[].drained[].stays", FLAG, "false: for a run that goes on, or did not end"),
    ),
    "invoke-plan": (
        JsonField("[].host", TEXT, ""),
        JsonField("[].release", TEXT_OR_NULL, "the release that runs"),
        JsonField("[].up_to_date", FLAG, ""),
        JsonField("[].changes", LIST, ""),
        *_below("[].changes[].", _DIFF),
        JsonField("[].handlers", LIST, "handlers that would run"),
        JsonField("[].reasons", LIST, "why workers would be replaced"),
    ),
    "invoke-deploy": (
        JsonField("[].host", TEXT, ""),
        JsonField("[].release", TEXT_OR_NULL, "the release that runs now"),
        JsonField("[].apps", TEXT, "what runs, in words"),
        JsonField("[].result", TEXT, "`unchanged`, `switched`, ..., in words"),
    ),
    "invoke-history": (
        JsonField("[].host", TEXT, ""),
        JsonField("[].at", NUMBER, "seconds since 1970"),
        JsonField("[].who", TEXT, ""),
        JsonField("[].what", TEXT, "`deploy`, `rollback` ..."),
        JsonField("[].release", TEXT_OR_NULL, ""),
        JsonField("[].result", TEXT, "how it ended"),
        *_below("[].", _COMMIT),
    ),
    "invoke-drift": (
        JsonField("[].host", TEXT, ""),
        JsonField("[].current", TEXT_OR_NULL, "the release that runs"),
        JsonField("[].status", _CLOSED, "what its supervisor says, as `percore status --json`"),
        JsonField("[].workers", LIST, "what does not run as the release says"),
        JsonField("[].files", LIST, "files edited by hand"),
        *_below("[].files[].", _DIFF),
        JsonField("[].owed", LIST, "pending handlers"),
    ),
    "invoke-doctor": (
        JsonField("[].place", TEXT, "a host, or this machine"),
        JsonField("[].findings", LIST, ""),
        *_below("[].findings[].", _FINDING),
    ),
    "invoke-jobs": _below("[].", (JsonField("host", TEXT, ""), *_JOB)),
    "web-status": (
        JsonField("system_info.hostname", TEXT, ""),
        JsonField("system_info.uptime", NUMBER, "seconds"),
        JsonField("monit.loadavg", LIST, ""),
        JsonField("monit.total_mem", NUMBER, "bytes"),
        JsonField("monit.free_mem", NUMBER, "bytes"),
        JsonField("monit.cpu", LIST, "by core, as Node's `os.cpus()`"),
        JsonField("monit.interfaces", _CLOSED, "as Node's `os.networkInterfaces()`"),
        JsonField("processes", LIST, "the workers, as `percore jlist` without variables and arguments"),
    ),
    "web-health": (
        JsonField("status", TEXT, "`ok` or `failing`"),
        JsonField("reasons", LIST, "only for those who may read the figures"),
    ),
}


def fields_of(name: str) -> Iterator[str]:
    rows = [(code(field.path), _shown(field.kind), field.meaning) for field in OUTPUTS[name]]
    yield from table(("Field", "Kind", "Meaning"), rows)


def _shown(kind: str) -> str:
    return OBJECT if kind == _CLOSED else kind


# -- compared with what is printed -------------------------------------------------------------------------------------


def faults(name: str, value: Any) -> list[str]:
    """What is not in the table, what has another kind, and what is missing. Of a list without entries nothing is missed."""
    known = {field.path: field.kind for field in OUTPUTS[name]}
    found = dict(_walk("", value, known))
    missing = [path for path in known if path not in found and _is_expected(path, found, known)]
    wrong = [
        f"{path} is {type(found[path]).__name__}"
        for path in found
        if path in known and not _fits(found[path], known[path])
    ]
    return [*(f"{path} is not in the table" for path in found if path not in known and not _is_part(path, known)), *wrong,
            *(f"{path} is missing" for path in missing)]  # fmt: skip


def _walk(path: str, value: Any, known: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, entry in value.items():
            inner = f"{path}.{name}" if path else name
            if known.get(path) != _CLOSED or inner in known:
                yield from _walk(inner, entry, known)
    elif isinstance(value, list) and any(other.startswith(f"{path}[]") for other in known):
        for entry in value:
            yield from _walk(f"{path}[]", entry, known)


def _is_part(path: str, known: Mapping[str, str]) -> bool:
    """A step on the way to a field, such as `monit` to `monit.memory`."""
    return any(other.startswith((f"{path}.", f"{path}[]")) for other in known)


def _is_expected(path: str, found: Mapping[str, Any], known: Mapping[str, str]) -> bool:
    """What it is part of is there; an object that may be null may be."""
    above = re.sub(r"(\.?[^.\[]+|\[\])$", "", path)
    is_free = known.get(path) == _CLOSED and path not in found
    return not is_free and (not above or isinstance(found.get(above), (dict, list)))


def _fits(value: Any, kind: str) -> bool:
    if kind == _CLOSED:
        return isinstance(value, dict)
    names = (FLAG,) if kind == FLAG else kind.split(" or ")
    types = tuple(type_ for name in names for type_ in _TYPES[name])
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))

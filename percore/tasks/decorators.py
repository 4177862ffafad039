"""How an operator's task is made: its options and their help, its errors, and the scope of a run."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.main import program
from invoke.parser.context import ParserContext
from invoke.tasks import task

from percore.deploy.interrupts import exit_code_of, unwind_when_told
from percore.deploy.inventory import name_of
from percore.deploy.report import be_verbose, print_error, print_line
from percore.deploy.rollout.scope import FORKS, Scope
from percore.errors import PercoreError, UsageError
from percore.host.tags import Selection
from percore.tasks.environments import choose_environment

HELP = {
    "env": "the environment: a file or directory of inventories/, or the path of another; otherwise PERCORE_ENV, or local",
    "release": "id of a release, or its beginning",
    "limit": "only these hosts: a pattern as in Ansible, such as web:&fresh:!web3",
    "forks": "how many hosts at the same time",
    "json": "print JSON instead of a table",
    "verbose": "-v: each message to a host and how long it took; -vv: how much was sent; -vvv: what SSH says",
    "why": "what others read who find it locked, or drained",
    "tags": "only what has one of these tags, separated by commas; 'app' is the app itself",
    "skip-tags": "all but what has one of these tags",
    "yes": "do not ask",
    "check": "only show what would change; exit code 8 when anything would",
    "reboot": "reboot the hosts that need it",
    "security": "only what comes from Debian's security archive",
    "diff": "show how files change",
    "app": "only this app",
    "shell": "bash, zsh or fish",
    "workers": "a number, +1 or -1, or max: one per core",
    "data": "also what is in shared/",
    "lines": "how many lines of each log (20; all with --since)",
    "since": "only lines since then: 10m (ago), 14:30, 2026-05-06, 2026-05-06T14:30:00Z",
    "until": "only lines until then, in the same forms",
    "grep": "only lines in which this regular expression is found",
    "err": "only standard error",
    "follow": "show new lines until Ctrl-C",
    "host": "name of a host",
    "interval": "seconds between two looks at a host (1)",
    "list": "all groups and variables as JSON, as `ansible-inventory --list` has them",
    "graph": "the tree of groups and hosts (the default)",
    "var": "only this variable",
    "file": "a file of variables, or any other",
    "vault-id": "ID@SOURCE or SOURCE; the source of the password is a file, a program or 'prompt'",
    "new": "the new password: ID@SOURCE or SOURCE, as --vault-id",
    "only": "only what has this vault id",
    "name": "name of the variable",
    "every": "seconds between two looks",
    "once": "look once; what was told is remembered for the next time",
    "port": "the port on this machine's loopback",
    "allow-actions": "let the page reload, restart and scale",
    "output": "write to this file: a report of HTML, which opens without a server, or an image",
    "seconds": "how long to record for the report, or to measure",
    "with-secrets": "also write the Secret, to a file that git ignores",
    "print-secret": "print the Secret, for kubectl apply -f -",
    "from-running": "request what the apps use now where they run; asks the hosts",
    "rate": "requests a second, over all hosts; 0: as many as possible",
    "duration": "seconds, 1 to 600",
    "path": "what is requested, beginning with /",
    "connections": "clients at the same time, over all hosts; at most 1000",
    "direct": "the app's own port instead of NGINX",
    "tool": "own: a connection for each request; wrk: more load, over connections that are kept",
    "svg": "write the spread as a picture to this file",
    "png": "the same as PNG",
    "format": "oci: one tar for every engine; containerfile: a directory to build from; otherwise what this machine can make",
    "push": "push it to its registry, by skopeo",
    "new-base": "make Debian's part anew, with the updates since",
    "page": "a file of HTML to show, instead of percore's",
}


SWITCHING = ("deploy", "rollback", "converge", "setup", "drain", "undrain")
"""Tasks that change hosts for a time, and for good when all is well."""


def operator_task(body: Callable[..., None], pre: Sequence[Any] = (), help: Mapping[str, str] = HELP) -> Any:
    """A task whose errors are one line and a fitting exit code; a traceback only with --debug or PERCORE_DEBUG=1."""

    @functools.wraps(body)
    def run(context: Context, *args: Any, **kwargs: Any) -> None:
        unwind_when_told()
        if os.environ.get("PERCORE_DEBUG") or "--debug" in sys.argv:
            body(context, *args, **kwargs)
            return
        try:
            body(context, *args, **kwargs)
        except PercoreError as error:
            print_error(error)
            sys.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            switches = body.__name__ in SWITCHING
            print_line(
                "percore: interrupted" + ("; a switch that was not confirmed is rolled back" if switches else "")
            )
            sys.exit(exit_code_of(interrupt))

    names = {name.replace("_", "-") for name in inspect.signature(run).parameters}
    known = {name: text for name, text in help.items() if name in names}
    counted = ["verbose"] if "verbose" in names else []
    return task(run, pre=list(pre), help=known, incrementable=counted)


def host_task(
    *options: str, together: Sequence[str] = (), remote: bool = False
) -> Callable[[Callable[..., None]], Any]:
    """A task that talks to hosts: its first argument is the `Scope` that --env, --limit, --forks and `options` give.

    On one line with the tasks that it is used `together` with, it takes the options that were given to those as well.
    `remote`: it means nothing on this machine, so without --env it is about the other environment.
    """

    def decorate(body: Callable[..., None]) -> Any:
        own = list(inspect.signature(body).parameters.values())[1:]
        scope = [_option(name, default) for name, default in SCOPE.items() if name in (*options, "limit", "forks")]
        wanted = [_option("env", ""), *own, *scope, _option("verbose", 0)]

        @functools.wraps(body)
        def run(context: Context, **given: Any) -> None:
            for name in (*together, body.__name__) if together else ():
                given.update({option: value for option, value in options_of_line(name).items() if option in given})
            be_verbose(given.pop("verbose"))
            chosen = {one.name: given.pop(one.name) for one in own}
            given["env"] = choose_environment(given["env"], project_of(context), remote=remote)
            body(make_scope(project_of(context), **given), **chosen)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)
        run.__signature__ = inspect.Signature([context, *wanted])  # type: ignore[attr-defined]
        return operator_task(run)

    return decorate


def tasks_of_line() -> dict[str, ParserContext]:
    """The tasks of this command line, by name."""
    return {str(one.name): one for one in getattr(program, "tasks", ())}


def options_of_line(name: str) -> dict[str, Any]:
    """What was given to a task of this command line."""
    parsed = tasks_of_line().get(name)
    given = [one for one in parsed.args.values() if one.got_value] if parsed else []
    return {str(one.name).replace("-", "_"): one.value for one in given}


def _option(name: str, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


SCOPE: dict[str, object] = {"yes": False, "tags": "", "skip_tags": "", "limit": "all", "forks": FORKS}
"""The options that narrow a run, beside --env. Every task that talks to hosts has --limit and --forks."""


def make_scope(
    project: Path, env: str, limit: str, forks: int, yes: bool = False, tags: str = "", skip_tags: str = ""
) -> Scope:
    if forks < 1:
        raise UsageError(f"--forks {forks} works on no host", next="--forks 1 or more")
    selection = Selection(*([tag.strip() for tag in words.split(",") if tag.strip()] for words in (tags, skip_tags)))
    return dataclasses.replace(local_scope(project, env), limit=limit, forks=forks, selection=selection, yes=yes)


def local_scope(project: Path, env: str) -> Scope:
    """All of an environment, which is given by its name or by the path of its inventory."""
    is_path = os.sep in env or "/" in env
    return Scope(name_of(Path(env)), project, inventory=env) if is_path else Scope(env, project)


def project_of(context: Context) -> Path:
    """The directory of the tasks.py that invoke found (`namespace`)."""
    return Path(context.config.percore.project)

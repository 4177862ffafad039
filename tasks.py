"""The control CLI: one task per operator verb. Each reads its arguments and calls the package once.

`invoke --list` shows them; `./run TASK` does the same with an environment of its own.
"""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from percore.deploy import operations, rollout
from percore.deploy.fleet import FORKS, Scope
from percore.deploy.report import Report, print_error, print_line
from percore.errors import PercoreError
from percore.lab import Lab

PROJECT = Path(__file__).resolve().parent


HELP = {
    "env": "the environment: the name of a file in inventories/",
    "release": "id of a release, or its beginning",
    "limit": "only these hosts: a pattern as in Ansible, such as web:&fresh:!web3",
    "forks": "how many hosts at the same time",
    "json": "print JSON instead of a table",
    "why": "what others read who find it locked",
    "check": "only say what would change; exit code 8 when anything would",
    "diff": "show how files change",
    "app": "only this app",
    "lines": "how many lines of each log",
    "follow": "go on with new lines until Ctrl-C",
    "hosts": "how many hosts, 1 to 200",
    "suite": "bullseye, bookworm or trixie",
    "host": "node1, node2...",
}


def operator_task(body: Callable[..., None]) -> Any:
    """A task whose errors are one line and a fitting exit code; a traceback only with --debug or PERCORE_DEBUG=1."""

    @functools.wraps(body)
    def run(context: Context, *args: Any, **kwargs: Any) -> None:
        if os.environ.get("PERCORE_DEBUG") or "--debug" in sys.argv:
            body(context, *args, **kwargs)
            return
        try:
            body(context, *args, **kwargs)
        except PercoreError as error:
            print_error(error)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print_line("percore: interrupted; a switch that was not confirmed is taken back")
            sys.exit(130)

    return task(run, help={name: text for name, text in HELP.items() if name in inspect.signature(body).parameters})


@operator_task
def deploy(
    context: Context,
    env: str = "local",
    check: bool = False,
    diff: bool = False,
    limit: str = "all",
    forks: int = FORKS,
) -> None:
    """Build the app once, bring it to every host, switch all of them without losing a request, or none."""
    scope = Scope(env, PROJECT, limit, forks)
    if check:
        rollout.preview(scope, Report(), diff=diff)
    else:
        rollout.deploy(scope, Report(), diff=diff)


@operator_task
def plan(context: Context, env: str = "local", json: bool = False, limit: str = "all", forks: int = FORKS) -> None:
    """What a deploy would change on each host, with diffs, and why workers would be replaced; touches nothing."""
    rollout.preview(Scope(env, PROJECT, limit, forks), Report(quiet=json), diff=True, as_json=json)


@operator_task
def rollback(context: Context, env: str = "local", release: str = "", limit: str = "all", forks: int = FORKS) -> None:
    """Go back to the good release before the current one, or to the one named with --release."""
    rollout.rollback(Scope(env, PROJECT, limit, forks), Report(), release=release or None)


@operator_task
def converge(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """Bring hosts that were away to the release that the rest runs; take back what nobody confirmed."""
    rollout.converge(Scope(env, PROJECT, limit, forks), Report())


@operator_task
def lock(context: Context, env: str = "local", why: str = "", limit: str = "all", forks: int = FORKS) -> None:
    """Keep every rollout away from the hosts, until unlock."""
    operations.lock(Scope(env, PROJECT, limit, forks), Report(), why=why)


@operator_task
def unlock(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """Take away what lock put there."""
    operations.unlock(Scope(env, PROJECT, limit, forks), Report())


@operator_task
def history(
    context: Context, env: str = "local", lines: int = 20, json: bool = False, limit: str = "all", forks: int = FORKS
) -> None:
    """Who switched what, when, and how it ended."""
    operations.history(Scope(env, PROJECT, limit, forks), Report(), lines=lines, as_json=json)


@operator_task
def facts(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """What each host says of itself, as JSON."""
    operations.facts(Scope(env, PROJECT, limit, forks), Report())


@operator_task
def drift(context: Context, env: str = "local", json: bool = False, limit: str = "all", forks: int = FORKS) -> None:
    """Where hosts differ from their own release: workers, files edited by hand with the diff, restarts owed."""
    operations.drift(Scope(env, PROJECT, limit, forks), Report(quiet=json), as_json=json)


@operator_task
def execute(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """Run a command on all hosts at once, each line behind its host's name: invoke exec --env E -- uptime."""
    operations.exec_command(Scope(env, PROJECT, limit, forks), Report(), words_after_dashes())


def words_after_dashes() -> list[str]:
    """What invoke leaves to us: the words behind `--`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


@operator_task
def status(context: Context, env: str = "local", json: bool = False, limit: str = "all", forks: int = FORKS) -> None:
    """Show every worker on every host; --json for scripts."""
    operations.status(Scope(env, PROJECT, limit, forks), Report(), as_json=json)


@operator_task
def logs(
    context: Context,
    env: str = "local",
    app: str = "",
    lines: int = 20,
    follow: bool = False,
    limit: str = "all",
    forks: int = FORKS,
) -> None:
    """Show the apps' last log lines from all hosts; --follow until Ctrl-C."""
    operations.logs(Scope(env, PROJECT, limit, forks), Report(), app=app or None, lines=lines, follow=follow)


@operator_task
def stop(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """End everything that a deploy started; `deploy` starts it again."""
    operations.stop(Scope(env, PROJECT, limit, forks), Report())


@operator_task
def startup(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """Start everything at boot from now on."""
    operations.set_boot(Scope(env, PROJECT, limit, forks), Report(), enabled=True)


@operator_task
def unstartup(context: Context, env: str = "local", limit: str = "all", forks: int = FORKS) -> None:
    """No longer start anything at boot."""
    operations.set_boot(Scope(env, PROJECT, limit, forks), Report(), enabled=False)


@operator_task
def build(context: Context, env: str = "local") -> None:
    """Build the artifact and the load balancer's configuration, and touch no host."""
    rollout.build_only(Scope(env, PROJECT), Report())


@operator_task
def check(context: Context) -> None:
    """Format, lint, types, layers, unit tests."""
    bin_path = Path(sys.executable).parent
    on_hosts = "vermin -q -t=3.9- --no-tips --violations percore/host percore/supervisor percore/errors.py"
    for command in ("ruff format --check .", "ruff check .", "mypy", "lint-imports", on_hosts, "pytest -q tests/unit"):
        context.run(f"{bin_path}/{command}", pty=False)


def install_for_tests(context: Context) -> None:
    """As root on Debian: the servers and tools that tests run for real. Elsewhere the tests name what is missing."""
    wanted = {
        "redis-server": "redis-server",
        "pg_ctlcluster": "postgresql",
        "curl": "curl",
        "node": "nodejs",
        "npm": "npm",
        "faketime": "faketime",
        "zsh": "zsh",
        "fish": "fish",
    }
    missing = sorted({package for program, package in wanted.items() if shutil.which(program) is None})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL: Debian's scripts must not start the servers; the tests start their own.
        install = f"apt-get -qq install -y --no-install-recommends {' '.join(missing)}"
        context.run(f"apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive {install}", pty=False)


@operator_task
def test(context: Context) -> None:
    """Everything that check does, then real programs and real hosts."""
    install_for_tests(context)
    check(context)
    context.run(f"{Path(sys.executable).parent}/pytest -q tests --ignore=tests/unit", pty=False)


@operator_task
def up(context: Context, hosts: int = 3, suite: str = "bookworm") -> None:
    """Boot real Linux hosts on this machine and write inventories/lab.yml."""
    print_line(f"booting {hosts} {suite} hosts; the first time makes the image, which takes half a minute")
    lab = Lab.up(hosts, suite, project=PROJECT)
    for host in lab.hosts:
        print_line(f"  {host.name:<8} {host.address}")
    print_line("the lab is up -> ./run deploy --env lab")


@operator_task
def down(context: Context) -> None:
    """End the lab and everything it started; repairs after a crash."""
    Lab.down_any(project=PROJECT)
    print_line("the lab is down")


@operator_task
def ssh(context: Context, host: str) -> None:
    """Open a shell on a lab host."""
    command = Lab.running(project=PROJECT).host(host).ssh_command()
    os.execvp(command[0], command)


@task(
    name="supervisor",
    help={
        "only": "rows by name, separated by commas",
        "json": "write the figures to this file",
        "quick": "rough, in 3 minutes",
    },
)
def bench_supervisor(context: Context, only: str = "", json: str = "", quick: bool = False) -> None:
    """Measure the supervisor and PM2 side by side; see docs/benchmarks.md."""
    from tests.bench.supervisor.run import run

    try:
        run(only, json, quick=quick)
    except PercoreError as error:
        print_error(error)
        sys.exit(error.exit_code)


@task(
    name="deploy",
    help={
        "only": "service, files, status; separated by commas",
        "json": "write the figures to this file",
        "quick": "rough, one round",
    },
)
def bench_deploy(context: Context, only: str = "", json: str = "", quick: bool = False) -> None:
    """Measure deploys beside ansible-core, pyinfra and bare connections, on lab hosts; see docs/benchmarks.md."""
    from tests.bench.deploy.run import run

    try:
        run(only, json, quick=quick)
    except PercoreError as error:
        print_error(error)
        sys.exit(error.exit_code)


namespace = Collection(
    deploy,
    plan,
    rollback,
    converge,
    lock,
    unlock,
    history,
    facts,
    drift,
    status,
    logs,
    stop,
    startup,
    unstartup,
    build,
    check,
    test,
)
namespace.add_task(execute, name="exec")
namespace.add_collection(Collection("lab", up, down, ssh))
namespace.add_collection(Collection("bench", bench_supervisor, bench_deploy))

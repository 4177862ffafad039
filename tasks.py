"""The control CLI: one task per operator verb. Each reads its arguments and calls the package once.

`invoke --list` shows them; `./run TASK` does the same with an environment of its own.
"""

from __future__ import annotations

import functools
import getpass
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from percore.deploy import operations
from percore.deploy.interrupts import exit_code_of, unwind_when_told
from percore.deploy.inventory import export, find_inventory, load_inventory
from percore.deploy.inventory.patterns import select
from percore.deploy.plan import explain as explanation
from percore.deploy.report import Report, be_verbose, print_error, print_line
from percore.deploy.rollout import rollout
from percore.deploy.rollout.host import FORKS, Scope
from percore.deploy.vault import edit as vault_files
from percore.deploy.vault.envelope import DEFAULT_ID
from percore.deploy.vault.passwords import Keyring, keyring_from, new_keyring
from percore.errors import PercoreError, PreflightError
from percore.host.tags import Selection
from percore.lab import Lab

PROJECT = Path(__file__).resolve().parent


HELP = {
    "env": "the environment: the name of a file in inventories/",
    "release": "id of a release, or its beginning",
    "limit": "only these hosts: a pattern as in Ansible, such as web:&fresh:!web3",
    "forks": "how many hosts at the same time",
    "json": "print JSON instead of a table",
    "verbose": "-v: each message to a host and how long it took; -vv: how much was sent; -vvv: what SSH says",
    "why": "what others read who find it locked",
    "tags": "only what has one of these tags, separated by commas; 'app' is the app itself",
    "skip-tags": "all but what has one of these tags",
    "yes": "do not ask, where ask_before_switch is set",
    "check": "only show what would change; exit code 8 when anything would",
    "diff": "show how files change",
    "app": "only this app",
    "lines": "how many lines of each log",
    "follow": "show new lines until Ctrl-C",
    "hosts": "how many hosts, 1 to 200",
    "suite": "bullseye, bookworm or trixie",
    "host": "name of a host",
    "list": "all groups and variables as JSON, as `ansible-inventory --list` has them",
    "graph": "the tree of groups and hosts (the default)",
    "var": "only this variable",
    "file": "a file of variables, or any other",
    "vault-id": "ID@SOURCE or SOURCE; the source of the password is a file, a program or 'prompt'",
    "new": "the new password: ID@SOURCE or SOURCE, as --vault-id",
    "only": "only what has this vault id",
    "name": "name of the variable",
}


def operator_task(body: Callable[..., None], pre: Sequence[Any] = ()) -> Any:
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
            print_line("percore: interrupted; a switch that was not confirmed is rolled back")
            sys.exit(exit_code_of(interrupt))

    names = {name.replace("_", "-") for name in inspect.signature(run).parameters}
    known = {name: text for name, text in HELP.items() if name in names}
    counted = ["verbose"] if "verbose" in names else []
    return task(run, pre=list(pre), help=known, incrementable=counted)


def host_task(*options: str) -> Callable[[Callable[..., None]], Any]:
    """A task that talks to hosts: its first argument is the `Scope` that --env, --limit, --forks and `options` give."""

    def decorate(body: Callable[..., None]) -> Any:
        own = list(inspect.signature(body).parameters.values())[1:]
        scope = [_option(name, default) for name, default in SCOPE.items() if name in (*options, "limit", "forks")]
        wanted = [_option("env", "local"), *own, *scope, _option("verbose", 0)]

        @functools.wraps(body)
        def run(context: Context, **given: Any) -> None:
            be_verbose(given.pop("verbose"))
            chosen = {one.name: given.pop(one.name) for one in own}
            body(make_scope(**given), **chosen)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)
        run.__signature__ = inspect.Signature([context, *wanted])  # type: ignore[attr-defined]
        return operator_task(run)

    return decorate


def _option(name: str, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


SCOPE: dict[str, object] = {"yes": False, "tags": "", "skip_tags": "", "limit": "all", "forks": FORKS}
"""The options that narrow a run, beside --env. Every task that talks to hosts has --limit and --forks."""


def make_scope(env: str, limit: str, forks: int, yes: bool = False, tags: str = "", skip_tags: str = "") -> Scope:
    selection = Selection(*([tag.strip() for tag in words.split(",") if tag.strip()] for words in (tags, skip_tags)))
    return Scope(env, PROJECT, limit, forks, selection, yes)


@host_task("yes", "tags", "skip_tags")
def deploy(scope: Scope, check: bool = False, diff: bool = False, json: bool = False) -> None:
    """Build the app once, bring it to every host, switch all of them without losing a request, or none."""
    if check:
        rollout.preview(scope, Report(quiet=json), diff=diff, as_json=json)
    else:
        rollout.deploy(scope, Report(quiet=json), diff=diff, as_json=json)


@host_task("tags", "skip_tags")
def plan(scope: Scope, json: bool = False) -> None:
    """What a deploy would change on each host, with diffs, and why workers would be replaced; touches nothing."""
    rollout.preview(scope, Report(quiet=json), diff=True, as_json=json)


@host_task("yes")
def rollback(scope: Scope, release: str = "") -> None:
    """Go back to the good release before the current one, or to the one named with --release; first show what changes."""
    rollout.rollback(scope, Report(), release=release or None)


@host_task()
def converge(scope: Scope) -> None:
    """Bring hosts that were away to the release that the rest runs; roll back what was not confirmed."""
    rollout.converge(scope, Report())


@host_task()
def lock(scope: Scope, why: str = "") -> None:
    """Keep every rollout away from the hosts, until unlock."""
    operations.lock(scope, Report(), why=why)


@host_task()
def unlock(scope: Scope) -> None:
    """Remove what lock put there."""
    operations.unlock(scope, Report())


@host_task()
def history(scope: Scope, lines: int = 20, json: bool = False) -> None:
    """Who switched what, when, and how it ended."""
    operations.history(scope, Report(), lines=lines, as_json=json)


@host_task()
def facts(scope: Scope) -> None:
    """The facts of each host, as JSON."""
    operations.facts(scope, Report())


@host_task()
def drift(scope: Scope, json: bool = False) -> None:
    """Where hosts differ from their own release: workers, files edited by hand with the diff, pending handlers."""
    operations.drift(scope, Report(quiet=json), as_json=json)


@host_task()
def execute(scope: Scope) -> None:
    """Run a command on all hosts at once, each line behind its host's name: invoke exec --env E -- uptime."""
    operations.exec_command(scope, Report(), words_after_dashes())


def words_after_dashes() -> list[str]:
    """What invoke leaves to us: the words behind `--`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


@host_task()
def status(scope: Scope, json: bool = False) -> None:
    """Show every worker on every host; --json for scripts."""
    operations.status(scope, Report(), as_json=json)


@host_task()
def logs(scope: Scope, app: str = "", lines: int = 20, follow: bool = False) -> None:
    """Show the apps' last log lines from all hosts; --follow until Ctrl-C."""
    operations.logs(scope, Report(), app=app or None, lines=lines, follow=follow)


@host_task()
def stop(scope: Scope) -> None:
    """End everything that a deploy started; `deploy` starts it again."""
    operations.stop(scope, Report())


@host_task()
def startup(scope: Scope) -> None:
    """Start everything at boot from now on."""
    operations.set_boot(scope, Report(), enabled=True)


@host_task()
def unstartup(scope: Scope) -> None:
    """No longer start anything at boot."""
    operations.set_boot(scope, Report(), enabled=False)


@operator_task
def build(context: Context, env: str = "local") -> None:
    """Build the artifact and the load balancer's configuration, and touch no host."""
    rollout.build_only(Scope(env, PROJECT), Report())


@operator_task
def inventory(
    context: Context, env: str = "local", graph: bool = False, list: bool = False, host: str = "", limit: str = "all"
) -> None:
    """Show the hosts and groups of an environment, or with --list and --host their variables, as ansible-inventory does."""
    report, found = Report(), load_inventory(find_inventory(env, _inventories()))
    hosts = select(found, limit)
    if host:
        report.json(export.show_host(found, host))
    elif list:
        report.json(export.list_inventory(found, hosts))
    else:
        for line in export.draw_graph(found, hosts):
            report.line(line)


@operator_task
def explain(context: Context, host: str, env: str = "local", var: str = "", json: bool = False) -> None:
    """Show every layer that sets a host's variables, with file and line; the last one wins. Asks no host."""
    found = load_inventory(find_inventory(env, _inventories()))
    explained = explanation.explain(found, host, PROJECT, env=env, variable=var or None)
    if json:
        Report().json(explained)
    else:
        explanation.show(explained, Report())


def _inventories() -> str:
    return os.path.relpath(PROJECT / "inventories")


@operator_task
def encrypt(context: Context, file: str, vault_id: str = "") -> None:
    """Encrypt a whole file in Ansible Vault's format."""
    vault_files.encrypt(Path(file), *_vault(vault_id))


@operator_task
def decrypt(context: Context, file: str, vault_id: str = "") -> None:
    """Write a file, or the !vault values in it, as plain text."""
    vault_files.decrypt(Path(file), _vault(vault_id)[0])


@operator_task
def view(context: Context, file: str, vault_id: str = "") -> None:
    """Print a file in plain text, and write nothing."""
    sys.stdout.buffer.write(vault_files.view(Path(file), _vault(vault_id)[0]))


@operator_task
def edit(context: Context, file: str, vault_id: str = "") -> None:
    """Open a file, or the !vault values in it, in $EDITOR; what is not changed keeps its ciphertext."""
    ring, name = _vault(vault_id)
    print_line("saved" if vault_files.edit(Path(file), ring, name) else "nothing was changed")


@operator_task
def rekey(context: Context, file: str, vault_id: str = "", new: str = "", only: str = "") -> None:
    """Encrypt with another password what a file holds encrypted."""
    ring, name = new_keyring(new)
    vault_files.rekey(Path(file), _vault(vault_id)[0], ring, name, only=only)


@operator_task
def encrypt_string(context: Context, name: str = "", vault_id: str = "") -> None:
    """Print a !vault value for an inventory; the secret is asked for, or read from standard input."""
    ring, vault_name = _vault(vault_id)
    secret = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    sys.stdout.write(f"{vault_files.encrypt_string(secret, ring, vault_name, name=name)}\n")


def _vault(words: str) -> tuple[Keyring, str]:
    """The passwords, and the vault id to encrypt with: the first that was named."""
    ring = keyring_from(os.environ, words)
    return ring, ring.sources[0][0] if words else DEFAULT_ID


@operator_task
def developer_tools(context: Context) -> None:
    """Install what tests need in addition to deploying; on first use."""
    if (PROJECT / ".venv/percore-ready").is_file() and Path(sys.prefix).resolve() == PROJECT / ".venv":
        wanted = {**os.environ, "PERCORE_EXTRAS": "deploy,dev"}
        if subprocess.run([PROJECT / "run", "--version"], env=wanted, stdout=subprocess.DEVNULL).returncode:
            raise PreflightError("the developers' tools could not be installed", next="see above")
        importlib.invalidate_caches()
    elif importlib.util.find_spec("pytest") is None:
        raise PreflightError("the developers' tools are missing here", next="pip install -e '.[deploy,dev]'")


developer_task = functools.partial(operator_task, pre=[developer_tools])


@developer_task
def check(context: Context) -> None:
    """Format, lint, types, layers, unit tests; all of them, even after a failure."""
    from tests import stages

    if not stages.run_stages([stages.LINT, stages.UNIT], Report().line):
        sys.exit(1)


@developer_task
def test(context: Context) -> None:
    """Everything that check does, then real programs and real hosts; every stage, even after a failure."""
    from tests import machine, stages

    machine.prepare(print_line)
    if not stages.run_stages([stages.LINT, stages.UNIT, stages.SUPERVISOR, stages.HOSTS], Report().line):
        sys.exit(1)


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
    pre=[developer_tools], help={"minutes": "for how long", "seed": "what another run printed: the same choices again"}
)
def soak(context: Context, minutes: float = 5.0, seed: int = 0) -> None:
    """Kill, reload, scale and update at random under load, for minutes; count every request."""
    from tests.soak.soak import Soak
    from tests.supervisor.conftest import ended_supervisor

    seed = seed or int.from_bytes(os.urandom(4), "big")
    print_line(f"seed {seed}, {minutes:g} minutes")
    with (
        tempfile.TemporaryDirectory(prefix="percore-soak-") as directory,
        ended_supervisor(Path(directory)) as supervisor,
    ):
        run = Soak(supervisor, seed, print_line)
        try:
            run.run(float(minutes) * 60)
        except AssertionError as error:
            print_line(f"{error}\n{run.summary()}\nagain: ./run soak --seed {seed}")
            sys.exit(1)
        print_line(run.summary())


@task(
    pre=[developer_tools],
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
    pre=[developer_tools],
    name="deploy",
    help={
        "only": "service, files, rollouts, status; separated by commas",
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
    inventory,
    explain,
    check,
    test,
    soak,
)
namespace.add_task(execute, name="exec")
namespace.add_collection(Collection("secrets", encrypt, decrypt, view, edit, rekey, encrypt_string))
namespace.add_collection(Collection("lab", up, down, ssh))
namespace.add_collection(Collection("bench", bench_supervisor, bench_deploy))

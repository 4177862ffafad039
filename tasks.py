"""The tasks of this checkout: those of every project, which `percore.tasks` has, and those of percore's developers.

`./run --list` shows them; `./run TASK` runs one, in an environment of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from percore.deploy.report import Report, print_line
from percore.errors import PreflightError
from percore.lab import Lab
from percore.tasks import make_namespace
from percore.tasks.decorators import operator_task

PROJECT = Path(__file__).resolve().parent


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


def bench_task(**help: str) -> Callable[[Callable[..., None]], Any]:
    """A task that measures; `help` is of its options."""
    return functools.partial(developer_task, help=help)


@developer_task
def check(context: Context) -> None:
    """Format, lint, types, layers, unit tests; all of them, even after a failure."""
    from tests import stages

    if not stages.run_stages([stages.LINT, stages.UNIT], Report().line):
        sys.exit(1)


@task(
    pre=[developer_tools],
    help={
        "programs": "instead: programs from npm and PyPI under load; writes the table of docs/reference/sharing.md",
        "only": "some of these programs by name, separated by commas",
        "directory": "where their packages are installed; otherwise a directory in /tmp",
    },
)
def test(context: Context, programs: bool = False, only: str = "", directory: str = "") -> None:  # noqa: PT028
    """Everything that check does, then real programs and real hosts; every stage, even after a failure."""
    from tests import machine, stages

    if programs:
        from tests.programs.matrix import run

        sys.exit(0 if run(only, directory, print_line) else 1)

    machine.prepare(print_line)
    if not stages.run_stages([stages.LINT, stages.UNIT, stages.SUPERVISOR, stages.HOSTS], Report().line):
        sys.exit(1)


@task(
    pre=[developer_tools],
    name="build",
    default=True,
    help={"serve": "show it at this address instead, and follow changes: 127.0.0.1:8000"},
)
def docs_build(context: Context, serve: str = "") -> None:
    """Make a site of docs/, in build/site; a wrong link is an error."""
    from tests.site import build

    directory = PROJECT / "build/site"
    code = build.serve(serve) if serve else build.build(directory)
    if not serve and not code:
        print_line(f"the site is in {directory.relative_to(PROJECT)} -> open {directory / 'index.html'}")
    sys.exit(code)


@developer_task
def recording(context: Context) -> None:
    """Draw the terminal of the README anew, from a deploy to three lab hosts; as root on Linux."""
    from tests.site.recording import record

    print_line(f"drawn: {record().relative_to(PROJECT)}")


LAB_HELP = {
    "hosts": "how many hosts, 1 to 200",
    "suite": "bullseye, bookworm or trixie",
    "bare": "with sshd and Python alone, and a repository of packages to install with `setup`",
    "host": "name of a host",
}
lab_task = functools.partial(operator_task, help=LAB_HELP)


@developer_task
def reference(context: Context) -> None:
    """Write the generated parts of the reference pages, the man page and the completions anew, from the tables in the code."""
    from tests.reference import pages
    from tests.share import write_share

    write_share()
    for path in pages.write():
        print_line(f"written: {path.relative_to(PROJECT)}")


@lab_task
def up(context: Context, hosts: int = 3, suite: str = "bookworm", bare: bool = False) -> None:
    """Boot real Linux hosts on this machine and write inventories/lab.yml."""
    print_line(f"booting {hosts} {suite} hosts; the first time makes the image, which takes half a minute")
    lab = Lab.up(hosts, suite, bare=bare, project=PROJECT)
    for host in lab.hosts:
        print_line(f"  {host.name:<8} {host.address}")
    print_line(f"the lab is up -> ./run {'setup deploy' if bare else 'deploy'} --env lab")


@lab_task
def down(context: Context) -> None:
    """End the lab and everything it started; repairs after a crash."""
    Lab.down_any(project=PROJECT)
    print_line("the lab is down")


@lab_task
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


@bench_task(
    only="rows by name, separated by commas",
    json="write the figures to this file",
    quick="rough, in 3 minutes",
)
def bench_supervisor(context: Context, only: str = "", json: str = "", quick: bool = False) -> None:
    """Measure the supervisor and PM2 side by side; see docs/benchmarks.md."""
    from tests.bench.supervisor.run import run

    run(only, json, quick=quick)


@bench_task(
    only="service, files, rollouts, status; separated by commas",
    json="write the figures to this file",
    quick="rough, one round",
)
def bench_deploy(context: Context, only: str = "", json: str = "", quick: bool = False) -> None:
    """Measure deploys beside ansible-core, pyinfra and bare connections, on lab hosts; see docs/benchmarks.md."""
    from tests.bench.deploy.run import run

    run(only, json, quick=quick)


@bench_task(
    workers="the most workers; otherwise twice the cores",
    json="write the figures to this file, and the plot beside it as SVG",
    quick="rough, one round",
)
def bench_scaling(context: Context, workers: str = "", json: str = "", quick: bool = False) -> None:
    """Requests a second for 1 to n workers, beside PM2 and plain processes behind NGINX; see docs/benchmarks.md."""
    from tests.bench.scaling.run import run

    run(workers, json, quick=quick)


@bench_task(
    hosts="numbers of simulated hosts, separated by commas; otherwise 1,10,50,100,200",
    lab="numbers of lab hosts on which Ansible, ansible-core-rs and pyinfra do the same (as root); otherwise none",
    json="write the figures to this file, and the plot beside it as SVG",
    quick="rough, one round",
)
def bench_fleet(context: Context, hosts: str = "", lab: str = "", json: str = "", quick: bool = False) -> None:
    """What 1 to 200 hosts cost the control machine: time, CPU, memory; see docs/benchmarks.md."""
    from tests.bench.fleet.run import run

    run(hosts, lab, json, quick=quick)


namespace = make_namespace(__file__)
for own in (check, test, soak):
    namespace.add_task(own)
namespace.add_collection(Collection("docs", docs_build, recording, reference))
namespace.add_collection(Collection("lab", up, down, ssh))
benchmarks = {"supervisor": bench_supervisor, "deploy": bench_deploy, "fleet": bench_fleet, "scaling": bench_scaling}
namespace.add_collection(Collection("bench", **benchmarks))

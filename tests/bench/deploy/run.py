"""`invoke bench.deploy`: percore beside ansible-core, pyinfra and bare connections, on lab hosts, in one run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from percore import __version__
from percore.errors import UsageError
from percore.lab import Lab
from percore.lab.host import Host
from tests.bench.deploy.tools import Ansible, Bare, Percore, Place, Pyinfra, Tool, Work, inside
from tests.waiting import free_port

SLOW_SECONDS = 0.025
"""Each way: a round trip takes 50 ms."""

CONFIG_FILES = Work(files=10, service=False)
SERVICE = Work(files=0, service=True)


class Figure(NamedTuple):
    """One line of the table; seconds by tool. `goal` says what percore's should be, `reached` whether it is."""

    row: str
    what: str
    seconds: dict[str, list[float]]
    goal: str
    reached: bool
    note: str = ""

    def median(self, tool: str) -> float:
        return statistics.median(self.seconds[tool])


class Bench:
    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.rounds = 1 if quick else 3

    # -- rows --------------------------------------------------------------------------------------------------------

    def service(self) -> Iterator[Figure]:
        """The same role (user, directories, 2 MB artifact, link, env file, unit, NGINX site, nginx -t, service), 4 hosts."""
        with lab(self.folder, 4) as hosts:
            places = [Place(host, host.address, 22) for host in hosts]
            first: dict[str, list[float]] = {}
            again: dict[str, list[float]] = {}
            for kind in (Percore, Ansible):
                tool = kind(self.folder / "service", places, SERVICE)
                first[kind.name] = [tool.run()]
                again[kind.name] = [tool.run() for _ in range(self.rounds)]
            bare = Bare(self.folder / "service", places, SERVICE)
            again["bare"] = [bare.run() for _ in range(self.rounds)]
        yield judged("first", "the role of a service, 4 hosts, first time", first, ansible=8)
        yield judged("again", "the same, nothing to change", again, ansible=20, bare=3)

    def files(self) -> Iterator[Figure]:
        """Ten config files over 50 ms, 1 host and 10 hosts, no change; then 500 files: the round trips must not grow."""
        with lab(self.folder, 10) as hosts, slow_links(hosts) as places:
            for count, limit in ((1, 1.0), (10, 2.0)):
                seconds = {}
                for kind in (Percore, Ansible, Pyinfra):
                    tool: Tool = kind(self.folder / f"files-{count}", places[:count], CONFIG_FILES)
                    tool.run()
                    seconds[kind.name] = [tool.run() for _ in range(self.rounds)]
                title = f"ten config files, {count} host{'s' * (count > 1)}, 50 ms round trip, no change"
                median = statistics.median(seconds["percore"])
                yield Figure(f"files_{count}", title, seconds, f"<= {limit:g} s", median <= limit)
            many = Percore(self.folder / "files-many", places[:1], Work(files=500, service=False))
            many.run()
            seconds = {"percore": [many.run() for _ in range(self.rounds)]}
            yield Figure("files_500", "500 config files, 1 host, 50 ms round trip, no change", seconds, "-", True)

    def status(self) -> Iterator[Figure]:
        """`invoke status` of up to 30 hosts beside bare connections to them: how it grows."""
        with lab(self.folder, 10 if self.quick else 30) as hosts:
            everywhere = [Place(host, host.address, 22) for host in hosts]
            counts = [count for count in (1, 5, 10, 20, 30) if count <= len(hosts)]
            for count in counts:
                places = everywhere[:count]
                percore = Percore(self.folder / f"status-{count}", places, Work(files=0, service=True))
                status = _Status(percore)
                bare = Bare(self.folder / f"status-{count}-bare", places, SERVICE)
                seconds: dict[str, list[float]] = {"percore": [], "bare": []}
                for _ in range(self.rounds):
                    seconds["percore"].append(status.run())
                    seconds["bare"].append(bare.run())
                yield judged(f"status_{count}", f"status of {count} hosts", seconds, bare=3)


class _Status:
    def __init__(self, percore: Percore) -> None:
        self._percore = percore

    def run(self) -> float:
        start = time.perf_counter()
        done = subprocess.run(
            inside(self._percore.places[0].host, [sys.executable, "-m", "invoke", "status", "--env", "bench"]),
            cwd=self._percore.folder, env=self._percore.environment(), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return time.perf_counter() - start


def judged(row: str, what: str, seconds: dict[str, list[float]], **factors: float) -> Figure:
    """`ansible=8`: at least 8 times faster than Ansible; `bare=3`: at most 3 times a bare connection."""
    ours = statistics.median(seconds["percore"])
    goals, reached = [], True
    for tool, factor in factors.items():
        theirs = statistics.median(seconds[tool])
        if tool == "bare":
            goals.append(f"<= {factor:g} x bare")
            reached &= ours <= factor * theirs
        else:
            goals.append(f"{factor:g} x faster than {tool}")
            reached &= ours * factor <= theirs
    return Figure(row, what, seconds, " and ".join(goals), reached)


ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "service": Bench.service, "files": Bench.files, "status": Bench.status,
}  # fmt: skip


def run(only: str = "", json_path: str = "", *, quick: bool = False) -> None:
    """Measures, prints the table, and writes JSON and a plot of the growth."""
    names = only.split(",") if only else list(ROWS)
    for name in names:
        if name not in ROWS:
            raise UsageError(f"no such row: {name}", next=f"one of {', '.join(ROWS)}")
    figures: list[Figure] = []
    machine = describe_machine(quick=quick)
    print(json.dumps(machine), flush=True)
    with tempfile.TemporaryDirectory(prefix="percore-bench-") as folder:
        for name in names:
            for figure in ROWS[name](Bench(Path(folder) / name, quick=quick)):
                figures.append(figure)
                print(f"  {figure.row:<10} {shown(figure.seconds)}", flush=True)
    print(render(figures))
    growth = [figure for figure in figures if figure.row.startswith("status_")]
    if len(growth) > 1:
        print(plot(growth))
    if json_path:
        rows = [
            {"row": f.row, "what": f.what, "seconds": f.seconds, "goal": f.goal, "reached": f.reached} for f in figures
        ]
        Path(json_path).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def shown(seconds: dict[str, list[float]]) -> str:
    return ", ".join(f"{tool} {statistics.median(values):.2f} s" for tool, values in seconds.items())


def render(figures: Sequence[Figure]) -> str:
    """Markdown: medians in seconds, and how many times as long each of the others takes."""
    tools = ("percore", "ansible", "pyinfra", "bare")
    lines = [["What", *tools, "goal", "reached"]]
    for figure in figures:
        ours = figure.median("percore")
        cells = [
            "-" if tool not in figure.seconds
            else f"{ours:.2f} s" if tool == "percore"
            else f"{figure.median(tool):.2f} s ({figure.median(tool) / ours:.1f} x)"
            for tool in tools
        ]  # fmt: skip
        lines.append([figure.what, *cells, figure.goal, "yes" if figure.reached else "NO"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]])


def plot(growth: Sequence[Figure]) -> str:
    """Bars of text: how the time grows with the number of hosts."""
    longest = max(figure.median(tool) for figure in growth for tool in figure.seconds)
    lines = []
    for figure in growth:
        for tool in figure.seconds:
            seconds = figure.median(tool)
            lines.append(f"{figure.what:<22} {tool:<8} {'#' * max(1, round(40 * seconds / longest))} {seconds:.2f} s")
    return "\n".join(["", *lines])


@contextlib.contextmanager
def lab(folder: Path, hosts: int) -> Iterator[tuple[Host, ...]]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Lab.up(hosts, "bookworm", name=f"bench{os.getpid()}", project=folder)
    try:
        yield made.hosts
    finally:
        made.down()


@contextlib.contextmanager
def slow_links(hosts: Sequence[Host]) -> Iterator[list[Place]]:
    """Each host at a port of 127.0.0.1 in the lab's network, 50 ms away."""
    places = [Place(host, "127.0.0.1", free_port()) for host in hosts]
    routes = [f"{place.port}={place.host.address}:22" for place in places]
    script = str(Path(__file__).with_name("slowlink.py"))
    link = subprocess.Popen(
        inside(hosts[0], [sys.executable, script, str(SLOW_SECONDS), *routes]), stdout=subprocess.PIPE, text=True
    )
    try:
        assert link.stdout
        if link.stdout.readline() != "ready\n":
            raise RuntimeError("the slow link does not start")
        yield places
    finally:
        link.kill()
        link.communicate()


def describe_machine(*, quick: bool) -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names this machine."""
    from tests.bench.deploy.tools import install

    versions = {
        package: subprocess.run(
            [str(install(package) / "python"), "-c", f"import importlib.metadata as m; print(m.version('{package}'))"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for package in ("ansible-core", "pyinfra")
    }  # fmt: skip
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": quick, "percore": __version__, **versions,
        "python": platform.python_version(), "kernel": platform.release().split("-")[0],
        "cores": len(os.sched_getaffinity(0)), "load_before": round(os.getloadavg()[0], 2),
    }  # fmt: skip

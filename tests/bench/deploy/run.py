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
from percore.lab.host import LabHost
from tests.bench.deploy.rollouts import count_bad_with_ansible, count_lost
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
    unit: str = "s"  # or what is counted: lost requests, hosts, messages

    def median(self, tool: str) -> float:
        return statistics.median(self.seconds[tool])

    def shown(self, tool: str) -> str:
        return f"{self.median(tool):.2f} s" if self.unit == "s" else f"{self.median(tool):.0f} {self.unit}"


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
            few = Percore(self.folder / "files-few", places[:1], CONFIG_FILES)
            many = Percore(self.folder / "files-many", places[:1], Work(files=500, service=False))
            messages = {tool.work.files: (tool.run(), tool.count_messages())[1] for tool in (few, many)}
            seconds = {"percore": [many.run() for _ in range(self.rounds)]}
            yield Figure("files_500", "500 config files, 1 host, 50 ms round trip, no change", seconds, "-", True)
        title = f"messages to a host in a run without changes, 500 files ({messages[10]} with 10)"
        counted = {"percore": [float(messages[500])]}
        yield Figure("messages", title, counted, "the same", messages[10] == messages[500], "messages")

    def rollouts(self) -> Iterator[Figure]:
        """Requests lost in a rolling deploy, a rollback and a take-back; hosts left on a broken version."""
        with lab(self.folder, 3) as hosts:
            places = [Place(host, host.address, 22) for host in hosts]
            bad: dict[str, list[float]] = {}
            for number, (what, counts) in enumerate(count_lost(self.folder, places), 1):
                title = f"requests lost, of {counts['requests']}: {what}"
                lost = {"percore": [float(counts["lost"])]}
                yield Figure(f"lost_{number}", title, lost, "0", not counts["lost"], "lost")
                bad["percore"] = [float(counts["bad_hosts"])]
        with lab(self.folder / "ansible", 3) as hosts:
            bad["ansible"] = [float(count_bad_with_ansible(self.folder, [Place(h, h.address, 22) for h in hosts]))]
        title = "hosts of 3 on a broken version after its rollout, one host at a time"
        yield Figure("bad_hosts", title, bad, "0", bad["percore"] == [0.0], "hosts")

    def status(self) -> Iterator[Figure]:
        """`invoke status` of hosts that serve, beside bare connections to them: how it grows."""
        with lab(self.folder, 10 if self.quick else 60) as hosts:
            everywhere = [Place(host, host.address, 22) for host in hosts]
            percore = Percore(self.folder / "status", everywhere, SERVICE)
            percore.run()
            for count in (count for count in (1, 5, 10, 20, 30, 60) if count <= len(hosts)):
                bare = Bare(self.folder / f"status-{count}", everywhere[:count], SERVICE)
                seconds: dict[str, list[float]] = {"percore": [], "bare": []}
                for _ in range(self.rounds):
                    seconds["percore"].append(percore.run("status", "--limit", f"app[0:{count - 1}]"))
                    seconds["bare"].append(bare.run())
                yield judged(f"status_{count}", f"status of {count} host{'s' * (count > 1)}", seconds, bare=3)


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
    "service": Bench.service, "files": Bench.files, "rollouts": Bench.rollouts, "status": Bench.status,
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
                values = ", ".join(f"{tool} {figure.shown(tool)}" for tool in figure.seconds)
                print(f"  {figure.row:<10} {values}", flush=True)
    print(render(figures))
    growth = [figure for figure in figures if figure.row.startswith("status_")]
    if len(growth) > 1:
        print(plot(growth))
    if json_path:
        rows = [
            {"row": f.row, "what": f.what, "unit": f.unit, "values": f.seconds, "goal": f.goal, "reached": f.reached}
            for f in figures
        ]
        Path(json_path).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        if len(growth) > 1:
            Path(json_path).with_suffix(".svg").write_text(draw(growth))


def render(figures: Sequence[Figure]) -> str:
    """Markdown: medians, and how many times as long each of the others takes."""
    tools = ("percore", "ansible", "pyinfra", "bare")
    lines = [["What", *tools, "goal", "reached"]]
    for figure in figures:
        ours = figure.median("percore")
        cells = [
            "-" if tool not in figure.seconds
            else figure.shown(tool) if tool == "percore" or figure.unit != "s"
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


def draw(growth: Sequence[Figure]) -> str:
    """The same as an SVG: seconds over hosts, a line for each tool."""
    hosts = [int(figure.row.rpartition("_")[2]) for figure in growth]
    longest = max(figure.median(tool) for figure in growth for tool in figure.seconds)

    def place(count: int, seconds: float) -> tuple[float, float]:
        return round(60 + 500 * count / hosts[-1], 1), round(280 - 250 * seconds / longest, 1)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 320" font-family="sans-serif" font-size="13">',
             '<rect width="680" height="320" fill="white"/>', '<path d="M60 20V280H570" fill="none" stroke="#888"/>',
             '<text x="520" y="312">hosts</text>', f'<text x="6" y="34">{longest:.1f} s</text>']  # fmt: skip
    parts += [f'<text x="{place(count, 0)[0]}" y="298" text-anchor="middle">{count}</text>' for count in hosts]
    for tool, colour in (("percore", "#0a6"), ("bare", "#777")):
        points = [place(count, figure.median(tool)) for count, figure in zip(hosts, growth, strict=True)]
        parts.append(f'<path d="M{"L".join(f"{x} {y}" for x, y in points)}" fill="none" stroke="{colour}"/>')
        x, y = points[-1]
        title = "invoke status" if tool == "percore" else "bare connections"
        parts.append(f'<text x="{x + 5}" y="{y + 4}" fill="{colour}">{title}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


@contextlib.contextmanager
def lab(folder: Path, hosts: int) -> Iterator[tuple[LabHost, ...]]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Lab.up(hosts, "bookworm", name=f"bench{os.getpid()}", project=folder)
    try:
        yield made.hosts
    finally:
        made.down()


@contextlib.contextmanager
def slow_links(hosts: Sequence[LabHost]) -> Iterator[list[Place]]:
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

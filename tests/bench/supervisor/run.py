"""The run: both sides in turn, so that what else the machine does meets both; then the table, and JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from percore import __version__
from percore.errors import UsageError
from tests.bench.supervisor.rows import ROWS, Row, rows_named
from tests.bench.supervisor.sides import Percore, Pm2, Side, install_percore, install_pm2, need_programs
from tests.bench.supervisor.table import Result, Sample, number, render


def run(only: str = "", json_path: str = "", *, quick: bool = False) -> None:
    """Measures the rows and prints the table. A quick run is for developing, not for quoting."""
    names = only.split(",") if only else [None]
    rows = [row for name in names for row in rows_named(name)]
    if len(rows) < len(names):
        raise UsageError(f"no such row: {only}", next=f"one of {', '.join(row.name for row in ROWS)}")
    need_programs(wrk="wrk")
    install_percore()
    machine = describe_machine(install_pm2(), quick=quick)
    print(json.dumps(machine), flush=True)
    results = []
    for row in rows:
        try:
            results.append(measure(row, quick=quick))
        except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"  {row.name:<13} could not be measured: {error}", flush=True)
    print(render(results))
    if json_path:
        record = {"machine": machine, "rows": [result.to_record() for result in results]}
        Path(json_path).write_text(json.dumps(record, indent=1) + "\n")


def measure(row: Row, *, quick: bool) -> Result:
    samples: dict[type[Side], list[Sample]] = {Percore: [], Pm2: []}
    sides: list[type[Side]] = [Percore] if row.alone else [Percore, Pm2]
    for turn in range(1 if quick else row.rounds):
        for kind in sides if turn % 2 == 0 else reversed(sides):
            sample = once(row, kind, quick=quick)
            samples[kind].append(sample)
            print(f"  {row.name:<13} {kind.name:<8} {number(sample.value)} {row.unit}  {sample.note}", flush=True)
    return Result(row.name, row.what, row.unit, row.goal, samples[Percore], samples[Pm2])


def once(row: Row, kind: type[Side], *, quick: bool) -> Sample:
    side = kind()
    try:
        return row.measure(side, quick)
    finally:
        side.close()


def describe_machine(pm2: str, *, quick: bool) -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names this machine."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": quick, "percore": __version__, "pm2": pm2,
        "node": node, "python": platform.python_version(), "kernel": platform.release().split("-")[0],
        "cores": len(os.sched_getaffinity(0)), "load_before": _load_average(),
    }  # fmt: skip


def _load_average() -> Optional[float]:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None

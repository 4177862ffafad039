"""Requests a second for 1 to n workers: percore, PM2, and n plain processes behind NGINX, in turn."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from percore.errors import UsageError
from tests.bench.scaling.figures import SIDES, Curve, draw, render
from tests.bench.scaling.plain import PlainBehindNginx
from tests.bench.supervisor.load import requests_per_second
from tests.bench.supervisor.run import describe_machine
from tests.bench.supervisor.sides import Percore, Pm2, Side, install_percore, install_pm2, need_programs

PROGRAMS = {"costly": "1 ms of CPU for each request", "hello": "an answer at once"}
_KINDS: dict[str, type[Side]] = {"percore": Percore, "pm2": Pm2, "nginx": PlainBehindNginx}
_CONNECTIONS = 32


def run(workers: str = "", json_path: str = "", *, quick: bool = False) -> None:
    """Prints the tables; with a path also writes every sample, and the plot beside it as SVG."""
    cores = len(os.sched_getaffinity(0))
    most = int(workers) if workers.isdecimal() else 2 * cores if not workers else 0
    if not 1 <= most <= 64:
        raise UsageError("--workers must be a number from 1 to 64")
    need_programs(wrk="wrk", nginx="nginx")
    install_percore()
    machine = {**describe_machine(install_pm2(), quick=quick), "nginx": _nginx_version()}
    print(json.dumps(machine), flush=True)
    curves = [measure(program, most, quick=quick) for program in PROGRAMS]
    print("\n\n".join(map(render, curves)))
    if json_path:
        record = {"machine": machine, "curves": [curve.to_record() for curve in curves]}
        Path(json_path).write_text(json.dumps(record, indent=1) + "\n")
        Path(json_path).with_suffix(".svg").write_text(draw(curves, cores))


def measure(program: str, most: int, *, quick: bool) -> Curve:
    """Round by round, so that what else the machine does meets all three."""
    counts = range(1, most + 1)
    samples: dict[str, dict[int, list[float]]] = {side: {count: [] for count in counts} for side in SIDES}
    for _ in range(1 if quick else 3):
        for count in counts:
            for side in SIDES:
                found = once(_KINDS[side], program, count, seconds=1 if quick else 5)
                samples[side][count].append(round(found, 1))
                print(f"  {program:<7} {count} workers  {side:<8} {found:,.0f} 1/s", flush=True)
    return Curve(program, PROGRAMS[program], samples)


def once(kind: type[Side], program: str, workers: int, *, seconds: float) -> float:
    side = kind()
    try:
        side.start({**side.web(f"{program}.cjs"), "instances": workers})
        requests_per_second(side.port, connections=_CONNECTIONS, seconds=1, closes=False)  # the programs get warm
        return requests_per_second(side.port, connections=_CONNECTIONS, seconds=seconds, closes=False)
    finally:
        side.close()


def _nginx_version() -> str:
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().rpartition("/")[2]

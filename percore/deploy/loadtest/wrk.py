"""Load by wrk, which makes more of it than our own clients, over connections that are kept."""

from __future__ import annotations

import re
import shutil
import subprocess
from array import array
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from percore.common.passwords import for_programs
from percore.deploy.loadtest.clients import HostLoad, LoadTarget, LoadWish
from percore.errors import PercoreError, UsageError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_SPARE_SECONDS = 30.0


class WrkLoad(HostLoad):
    """wrk tells some percentiles, and no single figure."""

    percentiles: dict[float, float]
    answered: int = 0

    @property
    def rate(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float | None:
        return self.percentiles.get(share)


def send_wrk(places: Sequence[LoadTarget], wish: LoadWish) -> dict[str, HostLoad]:
    program = shutil.which("wrk")
    if program is None:
        raise UsageError("wrk is not installed here", next="apt install wrk, or leave --tool out")
    if wish.rate:
        raise UsageError("wrk keeps no rate", next="leave --tool out, or --rate")
    share = max(1, wish.connections // len(places))
    with ThreadPoolExecutor(len(places)) as pool:
        return dict(pool.map(lambda place: (place.host, _run(program, place, share, wish.seconds)), places))


def _run(program: str, place: LoadTarget, connections: int, seconds: float) -> HostLoad:
    words = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-H", f"Host: {place.asked_host}"]
    try:
        done = subprocess.run(
            [program, *words, place.url], capture_output=True, text=True, env=for_programs(), stdin=subprocess.DEVNULL,
            timeout=seconds + _SPARE_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PercoreError(f"wrk did not end well: {error}", where=place.host) from None
    if done.returncode:
        raise PercoreError("wrk failed", where=place.host, detail=done.stderr.strip() or done.stdout.strip())
    return read_wrk(done.stdout)


def read_wrk(said: str) -> HostLoad:
    """What wrk prints. Raises PercoreError."""
    found = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", said)
    if not found:
        raise PercoreError("wrk printed no result", detail=said[-2000:])
    load = WrkLoad(seconds=float(found[2]) * _UNITS[found[3]], sent=int(found[1]), took=array("d"), faults=Counter())
    load.answered = int(found[1])
    spans = re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)$", said, re.MULTILINE)
    load.percentiles = {int(share) / 100: float(value) * _UNITS[unit] for share, value, unit in spans}
    if longest := re.search(r"Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s|m)", said):
        load.percentiles[1.0] = float(longest[1]) * _UNITS[longest[2]]
    if wrong := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        load.faults["status 400 to 599, or below 200"] = int(wrong[1])
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said):
        for name, count in zip(("connect", "read", "write", "timeout"), map(int, errors.groups()), strict=True):
            load.faults.update({f"{name} failed": count} if count else {})
    return load

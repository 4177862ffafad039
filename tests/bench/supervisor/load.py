"""The two load generators: wrk where only speed counts, load.cjs where every single request does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

_SCRIPT = Path(__file__).with_name("load.cjs")
_TIMEOUT_MS = 5000


class Count(NamedTuple):
    """What became of the requests: answered, refused or cut, without an answer in time, answered wrongly."""

    ok: int
    lost: int
    hung: int
    bad: int
    p50: float
    p99: float
    reasons: dict[str, int]

    @property
    def failed(self) -> int:
        return self.lost + self.hung + self.bad

    def __str__(self) -> str:
        return f"{self.ok} ok, {self.lost} lost, {self.hung} hung, {self.bad} bad"


class Load:
    """Clients that ask one request after another, from `with` to its end; then `count` says what became of each."""

    def __init__(
        self, port: int, *, keeping: int, closing: int, pause_ms: float, timeout_ms: int = _TIMEOUT_MS
    ) -> None:
        self._timeout_seconds = timeout_ms / 1000
        self._process = _start(
            {"port": port, "keeping": keeping, "closing": closing, "pauseMs": pause_ms, "timeoutMs": timeout_ms}
        )
        self.count: Count

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self.count = _result(self._process, self._timeout_seconds + 10)


def arrive(port: int, *, rate: float, seconds: float) -> Count:
    """Requests that arrive at random, `rate` a second, each over its own connection, however slow the answers are."""
    process = _start({"port": port, "rate": rate, "seconds": seconds, "timeoutMs": _TIMEOUT_MS})
    return _result(process, seconds + _TIMEOUT_MS / 1000 + 10)


def _start(options: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["node", str(_SCRIPT), json.dumps(options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    process.stderr.readline()  # it has begun
    return process


def _result(process: subprocess.Popen[str], timeout: float) -> Count:
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"the load ended with {process.returncode}: {err}")
    return Count(**json.loads(out))


def requests_per_second(port: int, *, connections: int, seconds: float, closes: bool) -> float:
    """What wrk gets out of the server with one thread."""
    header = ["-H", "Connection: close"] if closes else []
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", *header, f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, check=True, timeout=seconds + 30,
    )  # fmt: skip
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if not found:
        raise RuntimeError(f"wrk printed no result: {done.stdout}")
    return float(found[1])

"""The rows of the table: one function each, which measures one side once. A side is new for every call."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple, Optional, TypeVar

from tests.bench.supervisor import proc
from tests.bench.supervisor.load import Load, arrive, requests_per_second
from tests.bench.supervisor.sides import Side, get
from tests.bench.supervisor.table import Goal, Sample, at_most, both, times_pm2
from tests.waiting import wait_for

MB = 1024 * 1024
Found = TypeVar("Found")
Measure = Callable[[Side, bool], Sample]


class Row(NamedTuple):
    """`rounds` is how often each side is measured; `alone`: PM2 has nothing to compare with."""

    name: str
    what: str
    unit: str
    goal: Goal
    measure: Measure
    rounds: int = 3
    alone: bool = False


# -- speed -----------------------------------------------------------------------------------------------------------


def _speed(side: Side, quick: bool, *, closes: bool) -> Sample:
    side.start(side.web("hello.cjs"))
    requests_per_second(side.port, connections=32, seconds=1, closes=closes)  # the programs get warm
    return Sample(requests_per_second(side.port, connections=32, seconds=2 if quick else 5, closes=closes))


def speed_closing(side: Side, quick: bool) -> Sample:
    return _speed(side, quick, closes=True)


def speed_keeping(side: Side, quick: bool) -> Sample:
    return _speed(side, quick, closes=False)


def tail(side: Side, quick: bool) -> Sample:
    side.start(side.web("busy.cjs"))
    arrive(side.port, rate=100, seconds=1)
    count = arrive(side.port, rate=250, seconds=4 if quick else 15)
    return Sample(count.p99, f"median {count.p50:.1f} ms; {count}", kept=count.failed == 0)


# -- what is lost ----------------------------------------------------------------------------------------------------


def lost_in_reloads(side: Side, quick: bool) -> Sample:
    side.start(side.web("hello.cjs", wait_ready=True, listen_timeout=5000, kill_timeout=5000))
    with Load(side.port, keeping=8, closing=8, pause_ms=1) as load:
        for _ in range(3 if quick else 10):
            side.run("reload", "web")
    return Sample(load.count.failed, str(load.count))


def lost_while_killed(side: Side, quick: bool) -> Sample:
    side.start(side.web("hello.cjs"))
    side.run("save", check=side.name == "pm2")
    before = set(side.pids())
    with Load(side.port, keeping=4, closing=4, pause_ms=5) as load:
        for _ in range(2 if quick else 6):
            os.kill(side.daemon_pid, signal.SIGKILL)
            time.sleep(0.3)
            side.come_back()
            time.sleep(0.7)
    kept = len(before & set(side.pids()))
    return Sample(load.count.failed, f"{load.count}; {kept} of {len(before)} workers lived on")


def hung_in_kills(side: Side, quick: bool) -> Sample:
    side.start(side.web("hello.cjs"))
    with Load(side.port, keeping=8, closing=24, pause_ms=0, timeout_ms=8000) as load:
        for _ in range(5 if quick else 26):
            time.sleep(0.25)
            alive = [pid for pid in side.pids() if pid]
            if alive:
                os.kill(alive[0], signal.SIGKILL)
    return Sample(load.count.hung, str(load.count))


def _broken_release(side: Side, script: str, listen_timeout_ms: int) -> Sample:
    side.start(side.web("hello.cjs", wait_ready=True, listen_timeout=listen_timeout_ms))
    side.release(script, over="hello.cjs")
    with Load(side.port, keeping=2, closing=2, pause_ms=5) as load:
        start = time.monotonic()
        done = side.run("reload", "web", check=False)
        seconds = time.monotonic() - start
        time.sleep(2)  # and afterwards?
    serves = "still serves" if get(side.port, timeout=2) else "app is down"
    kept = done.returncode != 0 and load.count.failed == 0 and serves == "still serves"
    return Sample(seconds, f"{serves}, exit {done.returncode}, {load.count.failed} requests failed", kept)


def release_throws(side: Side, quick: bool) -> Sample:
    return _broken_release(side, "throws.cjs", 3000)


def release_silent(side: Side, quick: bool) -> Sample:
    return _broken_release(side, "silent.cjs", 2000)


# -- reactions -------------------------------------------------------------------------------------------------------


def crash_to_process(side: Side, quick: bool) -> Sample:
    """From kill -9 to a new process below the daemon, of a program that dies fast; the pauses are longer than `min_uptime`."""
    side.start({"name": "idle", "script": "idle.py", "interpreter": "python3"})
    daemon = side.daemon_pid
    own = proc.command_line(daemon)
    created, executed = [], []
    for _ in range(4 if quick else 8):
        time.sleep(1.5)
        before = set(proc.children(daemon))
        (victim,) = (pid for pid in before if b"idle.py" in proc.command_line(pid))
        start = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        new = _await(lambda: set(proc.children(daemon)) - before)  # noqa: B023 called before the loop goes on
        created.append((time.perf_counter() - start) * 1000)
        _await(lambda: any(proc.command_line(pid) not in (own, b"") for pid in new))  # noqa: B023
        executed.append((time.perf_counter() - start) * 1000)
    note = f"{min(created):.1f} to {max(created):.1f} ms; its program runs after {statistics.median(executed):.1f} ms"
    return Sample(statistics.median(created), note)


def kill_to_answer(side: Side, quick: bool) -> Sample:
    """Eight kills in a row, each as soon as the port answers again: the median; what matters is that none is much slower."""
    side.start({**side.web("pid.cjs"), "instances": 1, "exec_mode": "fork"})
    answer = get(side.port)
    times = []
    for _ in range(8):
        former, start = answer, time.perf_counter()
        os.kill(int(former), signal.SIGKILL)
        answer = _await(lambda: get(side.port).replace(former, b""))  # noqa: B023 called before the loop goes on
        times.append((time.perf_counter() - start) * 1000)
    return Sample(statistics.median(times), f"{min(times):.0f} to {max(times):.0f} ms")


def _await(condition: Callable[[], Found]) -> Found:
    """Without a pause: a millisecond counts here."""
    deadline = time.monotonic() + 30
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError("nothing within 30 s")
    return found


def memory_limit(side: Side, quick: bool) -> Sample:
    """The greatest resident memory of one worker, over two replacements, or 45 s."""
    side.start(side.web("leak.cjs", instances=1, max_memory_restart="100M"))
    daemon = side.daemon_pid
    seen: set[int] = set()
    peak = 0
    deadline = time.monotonic() + 45
    while len(seen) < 3 and time.monotonic() < deadline:
        for pid in proc.children(daemon):
            if b"leak.cjs" in proc.command_line(pid) or side.name == "pm2":
                seen.add(pid)
                peak = max(peak, proc.rss_bytes(pid))
        time.sleep(0.05)
    return Sample(peak / MB, f"{len(seen) - 1} replacements")


# -- the daemon itself -----------------------------------------------------------------------------------------------


def daemon_memory(side: Side, quick: bool) -> Sample:
    side.start(side.web("hello.cjs", instances=4))
    time.sleep(2 if quick else 8)
    return Sample(proc.rss_bytes(side.daemon_pid) / MB)


def _twenty() -> list[dict[str, object]]:
    return [{"name": f"idle{number}", "script": "idle.cjs"} for number in range(20)]


def _rest(daemon: int, seconds: float) -> tuple[float, float]:
    """Percent of one core, and wake-ups a second, while nothing happens."""
    cpu, wakes, start = proc.cpu_seconds(daemon), proc.wake_ups(daemon), time.monotonic()
    time.sleep(seconds)
    span = time.monotonic() - start
    return (proc.cpu_seconds(daemon) - cpu) / span * 100, (proc.wake_ups(daemon) - wakes) / span


def idle_cpu(side: Side, quick: bool) -> Sample:
    side.start(*_twenty())
    daemon = side.daemon_pid
    time.sleep(3)
    percent, wakes = _rest(daemon, 8 if quick else 30)
    return Sample(percent, f"{wakes:.1f} wake-ups a second")


def cold_start(side: Side, quick: bool) -> Sample:
    side.run("ping")
    times = []
    for _ in range(3 if quick else 6):
        side.run("kill")
        times.append(side.timed("ping"))
    return Sample(statistics.median(times) * 1000)


def list_json(side: Side, quick: bool) -> Sample:
    side.start(*_twenty())
    return Sample(statistics.median(side.timed("jlist") for _ in range(5 if quick else 15)) * 1000)


def start_twenty(side: Side, quick: bool) -> Sample:
    side.run("ping")
    path = side.write(*_twenty())
    seconds = side.timed("start", str(path))
    return Sample(seconds * 1000, kept=side.statuses() == ["online"] * 20)


def restart_twenty(side: Side, quick: bool) -> Sample:
    side.start(*_twenty())
    time.sleep(2)
    before = set(side.pids())
    seconds = side.timed("restart", "all")
    return Sample(seconds * 1000, kept=side.statuses() == ["online"] * 20 and not before & set(side.pids()))


def log_lines(side: Side, quick: bool) -> Sample:
    lines = 100_000 if quick else 500_000
    side.start(side.web("chatty.cjs", instances=1, env={"LINES": str(lines)}))
    daemon = side.daemon_pid
    cpu = proc.cpu_seconds(daemon)
    get(side.port, "/write", timeout=120)
    while True:  # what it still has in its pipes; PM2 is never quite at rest
        before = proc.cpu_seconds(daemon)
        time.sleep(1)
        if proc.cpu_seconds(daemon) - before < 0.1:
            return Sample(before - cpu, f"{lines:,} lines")


def two_hundred_slots(side: Side, quick: bool) -> Sample:
    count = 60 if quick else 200

    def rss_with(instances: int) -> int:
        # Not PORT: it speaks no HTTP that `start` could wait for.
        app = side.web("accept.py", interpreter="python3", interpreter_args=["-I", "-S"], instances=instances)
        side.start({**app, "env": {"SHARED_PORT": str(side.port)}})
        wait_for(lambda: side.statuses() == ["online"] * instances, f"{instances} workers", seconds=120)
        time.sleep(3)
        return proc.rss_bytes(side.daemon_pid)

    few = rss_with(4)
    side.run("delete", "all")
    side.run("kill")
    many = rss_with(count)
    percent, wakes = _rest(side.daemon_pid, 5 if quick else 15)
    note = f"{count} workers: {many / MB:.1f} MB, {percent:.3f} % of a core, {wakes:.1f} wake-ups a second"
    return Sample((many - few) / (count - 4) / 1024, note, kept=percent < 1)


ROWS = [
    Row("close", "req/s, connection per request, 2 workers", "1/s", times_pm2(2.2, more=True), speed_closing),
    Row("keep-alive", "req/s, keep-alive", "1/s", times_pm2(1.0, more=True), speed_keeping),
    Row("p99", "p99 at half load, 4 ms CPU per request", "ms", times_pm2(1.1), tail),
    Row("reload", "failed requests, 10 reloads under load", "requests", at_most(0, "0"), lost_in_reloads, 2),
    Row("daemon-kill", "failed while the supervisor is killed 6 times", "requests", at_most(0, "0"), lost_while_killed, 2),
    Row("worker-kill", "hung clients, 26 kills of workers", "requests", at_most(0, "0"), hung_in_kills, 1),
    Row("throws", "reload to a release that throws", "s", at_most(4.0, "old serves, exit > 0, <= 4 s"), release_throws, 1),
    Row("silent", "reload to a release that is never ready", "s", at_most(3.0, "old serves, exit > 0, <= 3 s"),
        release_silent, 1),
    Row("crash", "crash -> new process", "ms", both(at_most(5.0, "<= 5 ms"), times_pm2(0.5)), crash_to_process, 2),
    Row("kills", "8 kills in a row: kill -> answer of the port", "ms", times_pm2(0.4), kill_to_answer, 2),
    Row("memory-limit", "100 MB limit, leak of 50 MB/s: peak", "MB", at_most(200, "<= 200 MB"), memory_limit, 1),
    Row("rss", "daemon RSS, 4 workers idle", "MB", at_most(14, "<= 14 MB"), daemon_memory, 2),
    Row("idle", "daemon CPU idle with 20 apps", "% of a core", at_most(0.05, "<= 0.05 %"), idle_cpu, 1),
    Row("cold", "cold start of the daemon", "ms", times_pm2(0.4), cold_start),
    Row("jlist", "jlist with 20 apps", "ms", times_pm2(0.3), list_json),
    Row("start", "start 20 apps", "ms", times_pm2(0.5), start_twenty),
    Row("restart", "restart all of 20 apps", "ms", times_pm2(0.5), restart_twenty),
    Row("logs", "500,000 log lines: supervisor CPU", "s", at_most(0.05, "~0 (<= 0.05 s)"), log_lines, 1),
    Row("slots", "200 slots: daemon RSS per slot", "kB", at_most(50, "< 50 kB, no busy loop"), two_hundred_slots, 1, True),
]  # fmt: skip


def rows_named(name: Optional[str]) -> list[Row]:
    return [row for row in ROWS if name is None or row.name == name]

"""A supervisor that has nothing to do does nothing, and what it has done leaves nothing behind.

PERCORE_TEST_ROUNDS=100000 makes the long form of it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from percore.supervisor.base.home import Home, connect
from percore.supervisor.client import request
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import resident_kb, start_daemon
from tests.waiting import wait_for

ROUNDS = int(os.environ.get("PERCORE_TEST_ROUNDS", "60"))
WARM_UP = 60
# What a round may leave behind, on an average: not one object, and far less than a kilobyte.
MOST_BLOCKS, MOST_BYTES = 0.9, 200

# Told by the process itself when it is asked (SIGRTMIN): the objects that Python has, and the bytes that malloc() gave.
# Resident pages would not do: the allocator keeps what it does not use, and a few kilobytes drown in that.
WEIGHS_ITSELF = """
import ctypes, gc
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
def weigh(*_):
    gc.collect()
    sys._clear_type_cache()  # of names that were looked up: it has a bound, which would take thousands of rounds to reach
    info = mallinfo()
    place = os.path.join(os.environ["PERCORE_HOME"], "weight")
    with open(place + ".new", "w") as file:
        file.write(f"{sys.getallocatedblocks()} {info.uordblks + info.hblkhd}")
    os.rename(place + ".new", place)
signal.signal(signal.SIGRTMIN, weigh)
from percore.supervisor.core.worker import drain
drain._LIMIT_SECONDS = drain._PATIENCE_SECONDS = 1.0
"""


class Weight(NamedTuple):
    blocks: int
    size: int
    resident_kb: int
    descriptors: int


def weigh(supervisor: Supervisor, pid: int) -> Weight:
    place = supervisor.home / "weight"
    os.kill(pid, signal.SIGRTMIN)
    wait_for(place.exists, "its weight")
    blocks, size = map(int, place.read_text().split())
    place.unlink()
    return Weight(blocks, size, resident_kb(pid), descriptors(pid))


def lightest(supervisor: Supervisor, pid: int) -> Weight:
    """Of several looks, for longer than a cancelled timer is kept: what a round needs as long as it lasts does not count."""
    looks = []
    for _ in range(9):
        looks.append(weigh(supervisor, pid))
        time.sleep(0.4)
    return Weight(*map(min, zip(*looks)))


def must_not_grow(supervisor: Supervisor, daemon: int, run_rounds: Callable[[], int]) -> None:
    """`run_rounds` returns their number. What is left behind is so each time; what was made once, such as a cache, only once."""
    before = lightest(supervisor, daemon)
    rounds = run_rounds()
    after = lightest(supervisor, daemon)
    try:
        has_not_grown(before, after, rounds)
    except AssertionError:
        again = run_rounds()
        has_not_grown(after, lightest(supervisor, daemon), again)


def has_not_grown(before: Weight, after: Weight, rounds: int) -> None:
    assert (after.blocks - before.blocks) / rounds < MOST_BLOCKS, (before, after)
    assert (after.size - before.size) / rounds < MOST_BYTES, (before, after)
    assert after.resident_kb - before.resident_kb < 300 + rounds // 2, "nor by what neither of the two counts"
    assert after.descriptors - before.descriptors <= rounds // 10, (before, after)


def start_weighing_itself(supervisor: Supervisor) -> int:
    # Without its caches, malloc() gives back what is freed: the count is exact to the byte.
    exact = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}
    return start_daemon(supervisor, WEIGHS_ITSELF, env=exact).pid


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def ask(supervisor: Supervisor, times: int, **request: object) -> None:
    with connect(str(supervisor.home / "run" / "control.sock")) as sock, sock.makefile("rwb") as stream:
        for _ in range(times):
            stream.write(json.dumps({"version": 1, **request}).encode() + b"\n")
            stream.flush()
            while (reply := json.loads(stream.readline()))["event"] != "result":
                pass
            assert reply["ok"], reply


@pytest.mark.parametrize("what", ["restarts", "reloads"])
def test_memory_and_descriptors_are_the_same_after_many(supervisor: Supervisor, what: str) -> None:
    (supervisor.folder / "quick.py").write_text(
        "import os, socket\nsock = socket.socket()\nsock.bind(('0.0.0.0', int(os.environ['PORT'])))\nsock.listen()\n"
        "while True: sock.accept()[0].close()\n"
    )
    app = supervisor.api(
        script="quick.py",
        interpreter="python3",
        interpreter_args=["-I", "-S"],
        instances=1,
        min_uptime=0.0,
        listen_timeout=3.0,
    )
    daemon = start_weighing_itself(supervisor)
    supervisor.apply(app if what == "reloads" else supervisor.singleton(args=["exec sleep 1000"], min_uptime=0.0))
    rounds, warm_up = (ROUNDS, WARM_UP) if what == "restarts" else (ROUNDS // 3, WARM_UP // 4)
    ask(supervisor, warm_up, op=what[:-1], selector="all")

    def run_rounds() -> int:
        ask(supervisor, rounds, op=what[:-1], selector="all")
        return rounds

    must_not_grow(supervisor, daemon, run_rounds)


def test_memory_and_descriptors_are_the_same_after_ten_thousand_requests(supervisor: Supervisor) -> None:
    daemon = start_weighing_itself(supervisor)
    supervisor.apply(supervisor.singleton(args=["exec sleep 1000"]))
    ask(supervisor, 1000, op="describe", selector="all")

    def run_rounds() -> int:
        for _ in range(20):
            ask(supervisor, 5 * ROUNDS, op="describe", selector="all")
            ask(supervisor, 3 * ROUNDS, op="ping")
        return 20 * 8 * ROUNDS

    must_not_grow(supervisor, daemon, run_rounds)


def test_memory_and_descriptors_are_the_same_after_many_crashes(supervisor: Supervisor) -> None:
    daemon = start_weighing_itself(supervisor)
    path = supervisor.folder / "one.json"
    path.write_text(json.dumps({"apps": [{"name": "tick", "script": "-c", "args": ["exit 3"], "interpreter": "sh",
                                          "restart_delay": 10, "min_uptime": 0}]}))  # fmt: skip
    supervisor.run("start", str(path), check=False)

    def ends() -> int:
        *_, result = request(Home(str(supervisor.home)), "status")
        return int(result["apps"][0]["workers"][0]["restarts"])

    def await_ends(more: int) -> int:
        first = ends()
        wait_for(lambda: ends() >= first + more, "many more ends", seconds=60.0 * max(1, more / 60))
        return ends() - first

    await_ends(WARM_UP)
    must_not_grow(supervisor, daemon, lambda: await_ends(2 * ROUNDS))

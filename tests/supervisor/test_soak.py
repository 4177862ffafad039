"""A short form of `invoke soak`."""

from __future__ import annotations

import os

from tests.soak.soak import Soak
from tests.supervisor.conftest import Supervisor

SECONDS = float(os.environ.get("PERCORE_TEST_SOAK_SECONDS", "25"))


def test_whatever_is_done_at_random_loses_no_request_and_runs_no_singleton_twice(supervisor: Supervisor) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    lines: list[str] = []
    soak = Soak(supervisor, seed, lines.append)
    try:
        soak.run(SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}\nseed {seed}: {lines}\n{soak.summary()}\n{supervisor.log()[-5000:]}") from None

"""What probes found, judged: more failures than allowed, or much slower than before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from percore.deploy.rollout.switch.probes import describe, judge


def probe(*, failed: int = 0, before: float | None = 0.012, during: float | None = 0.014, asked: int = 100) -> Any:
    return {
        "target": "web1",
        "before": {"asked": asked if before is not None else 0, "failed": 0, "faults": [], "p99": before},
        "during": {"asked": asked, "failed": failed, "faults": ["GET / answered 502"] * bool(failed), "p99": during},
    }


def verdict(found: Any, *, slowdown: int = 10, failures: int = 1) -> str:
    settings = SimpleNamespace(probe_max_failed_percentage=failures, probe_max_slowdown=slowdown)
    host: Any = SimpleNamespace(name="web1", settings=settings)
    return str(judge({"web1": found}, [host]).get("web1", ""))


def test_a_host_that_answers_as_before_is_well() -> None:
    assert verdict(probe()) == ""
    assert verdict(probe(failed=1)) == ""
    assert verdict(probe(before=None)) == ""
    assert verdict(probe(before=None, failed=50)) == ""


def test_failures_beyond_the_limit_are_told_with_the_last_one() -> None:
    assert verdict(probe(failed=2)).startswith("web1: 2 of 100 requests failed since the switch (GET / answered 502)")
    assert verdict(probe(failed=2), failures=5) == ""


def test_much_slower_answers_are_a_regression_unless_the_figures_are_small_or_few() -> None:
    assert "p99 50 ms -> 600 ms" in verdict(probe(before=0.05, during=0.6))
    assert verdict(probe(before=0.002, during=0.1)) == ""
    assert verdict(probe(before=0.05, during=0.6, asked=20)) == ""
    assert verdict(probe(before=0.05, during=0.6), slowdown=0) == ""


def test_all_hosts_are_told_in_one_line() -> None:
    assert (
        describe({"web1": probe(), "web2": probe(failed=1, before=0.02)})
        == "1 of 200 requests failed, p99 20 ms -> 14 ms"
    )
    assert describe({"web1": probe(before=None)}) == "0 of 100 requests failed, p99 14 ms"

"""Which hosts go together, and when a rollout stops."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percore.deploy.plan.batches import Policy
from percore.deploy.schema import read_fields
from percore.errors import UsageError


class Given(dict[str, Any]):
    """Variables as an inventory gives them."""

    def where(self, name: str = "") -> str:
        return "host web1"


def policy(serial: Any = "100%", canary: Any = 1, max_fail: Any = 0, soak: Any = 0) -> Policy:
    given = Given(serial=serial, canary=canary, max_fail_percentage=max_fail, soak_seconds=soak)
    return Policy(**read_fields(Policy, given))


def sizes(policy: Policy, hosts: int) -> list[int]:
    return [len(batch) for batch in policy.batches(range(hosts))]


@pytest.mark.parametrize(
    ("serial", "canary", "hosts", "wanted"),
    [
        ("100%", 1, 10, [1, 9]),
        ("100%", 1, 1, [1]),
        ("100%", 0, 10, [10]),
        (3, 0, 10, [3, 3, 3, 1]),
        ("30%", 0, 10, [3, 3, 3, 1]),
        ("10%", 0, 3, [1, 1, 1]),
        ([1, "10%", 5], 0, 20, [1, 2, 5, 5, 5, 2]),
        ([1, 5], 2, 9, [2, 1, 5, 1]),
        ("100%", 5, 3, [3]),
    ],
)
def test_hosts_are_divided_as_the_policy_says(serial: Any, canary: int, hosts: int, wanted: list[int]) -> None:
    assert sizes(policy(serial, canary), hosts) == wanted


@given(
    st.lists(st.one_of(st.integers(1, 50).map(str), st.integers(1, 100).map("{}%".format)), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(1, 200),
)
def test_every_host_is_in_exactly_one_batch_and_in_order(serial: list[str], canary: int, hosts: int) -> None:
    batches = policy(serial, canary).batches(range(hosts))
    assert [host for batch in batches for host in batch] == list(range(hosts))
    assert all(batches)


@pytest.mark.parametrize(
    ("allowed", "failed", "hosts", "exceeded"),
    [(0, 0, 4, False), (0, 1, 200, True), (25, 1, 4, False), (25, 2, 4, True), (100, 4, 4, False)],
)
def test_more_failures_than_allowed_stop_a_rollout(allowed: int, failed: int, hosts: int, exceeded: bool) -> None:
    assert policy(max_fail=allowed).is_exceeded(failed, hosts) is exceeded


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"serial": "many"}, "host web1: variable 'serial' should be a number of hosts, a percentage such as 30%"),
        ({"serial": "many"}, "or a list of them and is 'many'"),
        ({"serial": "120%"}, "'serial' should be"),
        ({"serial": 0}, "'serial' should be"),
        ({"serial": []}, "'serial' should be .* and is a list"),
        ({"canary": -1}, "variable 'canary' should be a number from 0 to 1000000 and is -1"),
        ({"max_fail": 101}, "variable 'max_fail_percentage' should be a number from 0 to 100 and is 101"),
        ({"soak": "long"}, "variable 'soak_seconds' should be a number from 0 to 1000000 and is 'long'"),
        ({"soak": True}, "variable 'soak_seconds' should be a number from 0 to 1000000 and is True"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        policy(**values)

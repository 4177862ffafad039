"""docs/reference/json.md: the fields of the control machine's outputs are those of the page. tests/supervisor has the host's."""

from __future__ import annotations

import json
import typing
from typing import Any, NamedTuple, NotRequired

import pytest

from percore.common.finding import Finding
from percore.deploy import status
from percore.deploy.connection.care_messages import JobReport
from percore.deploy.connection.messages import Drift, HistoryEntry
from percore.deploy.rollout.diff import Difference
from percore.deploy.rollout.results import HostResult
from percore.web.health import answer_health
from percore.web.http import HttpRequest, Right
from percore.web.snapshot import Snapshot
from percore.web.status import answer_status
from tests.reference.json_outputs import OUTPUTS, faults

WORKER = {
    "slot": 0, "id": 3, "pid": 411, "state": "running", "release": None, "port": 5000, "memory_bytes": 1, "cpu_percent": 0.4,
    "uptime_seconds": 18.4, "restarts": 0,
}  # fmt: skip
APP = {"name": "api", "mode": "cluster", "wanted": 1, "workers": [WORKER], "counts": {"crash": 1}}


class FakeHost(NamedTuple):
    name: str = "web1"


def sample(kind: Any) -> Any:
    """A value of a type of messages, with everything in it that may be."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Annotated, NotRequired):
        return sample(arguments[0])
    if typing.is_typeddict(kind) or (isinstance(kind, type) and hasattr(kind, "_fields")):
        return {name: sample(hint) for name, hint in typing.get_type_hints(kind).items()}
    if origin is list:
        return [sample(arguments[0])]
    if origin is dict:
        return {}
    if arguments:  # of a union the first one, which is not None
        return sample(arguments[0])
    return {str: "text", int: 1, float: 1.5, bool: True}[kind]


def entry_of_status(*, reply: dict[str, Any] | None) -> dict[str, Any]:
    drained = {"host": "web1", "who": "ann", "at": 1.0, "why": "disk", "verb": "drain"}
    return status._status_entry(typing.cast(Any, FakeHost()), reply, typing.cast(Any, [("edge1", drained)]))


REPLY = {
    "current": "20260102030405-1a2b3c4d", "status": {"apps": [APP]}, "missing": ["app x is stopped"],
    "commit": {"sha": "1f0c1f0c", "branch": "main", "is_dirty": False},
}  # fmt: skip
PRINTED = {
    "invoke-status": [entry_of_status(reply=REPLY), entry_of_status(reply=None)],
    "invoke-plan": [sample(Difference)],
    "invoke-deploy": [sample(HostResult)],
    "invoke-history": [{"host": "web1", **sample(HistoryEntry)}],
    "invoke-drift": [{"host": "web1", **sample(Drift)}],
    "invoke-doctor": [{"place": "web1", "findings": [sample(Finding)]}],
    "invoke-jobs": [{"host": "web1", **sample(JobReport)}],
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_fields_of_an_output_are_those_of_the_page(name: str) -> None:
    assert faults(name, PRINTED[name]) == []


@pytest.mark.parametrize(("name", "answer"), [("web-status", answer_status), ("web-health", answer_health)])
def test_the_fields_of_an_answer_over_http_are_those_of_the_page(name: str, answer: Any) -> None:
    class Looked:
        def get(self) -> Snapshot:
            return Snapshot(0.0, 0.0, "", {}, {}, [], "")

    response = answer(Looked(), HttpRequest("GET", "/", {}, {}, b"", Right.FIGURES))
    assert faults(name, json.loads(response.body)) == []


def test_each_output_of_the_control_machine_is_compared() -> None:
    assert {name for name in OUTPUTS if name.startswith("invoke-")} == set(PRINTED)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([{"host": "a", "release": None, "apps": ""}], ["[].result is missing"]),
        ([{"host": "a", "release": None, "apps": "", "result": "", "more": 1}], ["[].more is not in the table"]),
        ([{"host": "a", "release": 1, "apps": "", "result": ""}], ["[].release is int"]),
        ([{"host": "a", "release": None, "apps": "", "result": True}], ["[].result is bool"]),
    ],
)
def test_a_field_that_is_missing_or_new_or_of_another_kind_is_named(value: Any, told: list[str]) -> None:
    assert faults("invoke-deploy", value) == told

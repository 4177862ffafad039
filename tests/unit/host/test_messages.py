"""The agent is asked by the control side alone, yet it reads each message as text: with types, bounds, and an error in words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from percore.common import typed
from percore.deploy.connection import protocol, replies
from percore.errors import RolloutError
from percore.host.agent import Agent
from percore.host.messages import Plan
from percore.host.operations.table import OPERATIONS
from percore.host.release.plan import load_plan
from percore.host.release.releases import Releases
from percore.host.replies import ShownChange
from percore.host.resources.registry import make

RELEASE = "20260101120000-0a1b2c3d"


class Host:
    """An agent whose app has its place in a directory of ours."""

    def __init__(self, directory: Path) -> None:
        self.target = {
            "deploy_to": str(directory / "app"), "command": [str(directory / "percore")], "home": str(directory / "home"),
            "user": None, "package": str(directory / "package"), "confirm_seconds": 3,
        }  # fmt: skip

    def say(self, line: bytes) -> dict[str, Any]:
        said = io.BytesIO()
        Agent(io.BytesIO(), said).answer(line)
        result: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
        return result

    def ask(self, op: Any, **message: Any) -> dict[str, Any]:
        return self.say(json.dumps({"op": op, "target": self.target, **message}).encode())

    def refusal(self, op: Any, **message: Any) -> str:
        result = self.ask(op, **message)
        assert not result["ok"], result
        assert "trace" not in result["error"]
        return str(result["error"]["what"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_every_operation_has_a_typed_reply_on_the_control_side() -> None:
    assert {*OPERATIONS} == {*protocol.OPERATIONS, "bye"}


def test_what_the_agent_answers_is_what_the_control_side_reads(host: Host) -> None:
    for op, message in (
        ("inspect", {"owner": None, "resources": [], "programs": ["sh"]}),
        ("drift", {}),
        ("status", {}),
    ):
        replies.read_result(op, host.ask(op, **message))
    replies.read_result("probe", host.ask("probe"))


@pytest.mark.parametrize(
    ("op", "message", "told"),
    [
        ("stage", {}, "'stage' without 'release'"),
        ("activate", {"release": "../../etc"}, "'activate' with 'release' that is not a release id"),
        ("find", {"release": "../x"}, "'find' with 'release' that is not a part of a release id"),
        ("history", {"count": "many"}, "'history' with 'count' that is not a whole number"),
        ("history", {"count": -1}, "'history' with 'count' that is not between 0 and"),
        ("ports", {"ports": [80, 70000]}, "'ports' with 'ports[]' that is not between 1 and 65535"),
        ("exec", {"words": "ls"}, "'exec' with 'words' that is not a list"),
        ("inspect", {"target": {"deploy_to": "srv"}}, "'inspect' with 'target.deploy_to' that is not an absolute path"),
        (
            "confirm",
            {"release": RELEASE, "deployed": 1, "keep": 3},
            "'confirm' with 'deployed' that is not true or false",
        ),
        ("amend", {"activation": {"before": {}}}, "'amend' with 'activation.before' that is not a list"),
        ("stage", {"target": None}, "'stage' with 'target' that is not a mapping"),
    ],
)
def test_a_message_that_makes_no_sense_is_refused_with_the_field(
    host: Host, op: str, message: dict[str, Any], told: str
) -> None:
    assert told in host.refusal(op, **message)


@pytest.mark.parametrize("op", ["leave", "__init__", "", None, 3, ["status"]])
def test_an_operation_that_is_none_is_refused(host: Host, op: Any) -> None:
    assert "the agent has no operation" in host.refusal(op)


@pytest.mark.parametrize("line", [b"{", b"[]", b"3", b'"status"', b"[" * 100_000])
def test_a_line_that_is_no_message_is_refused_and_the_agent_goes_on(host: Host, line: bytes) -> None:
    assert "no message" in host.say(line)["error"]["what"]


def test_a_field_that_is_not_known_passes(host: Host) -> None:
    assert host.ask("status", later="more")["ok"]


def test_a_value_in_a_value_is_a_mapping_on_the_wire() -> None:
    assert typed.as_json([ShownChange("a", "b")]) == [{"text": "a", "diff": "b"}]


def test_the_plan_of_an_older_release_is_read_and_one_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    releases = Releases(str(tmp_path))
    path = Path(releases.plan_path(RELEASE))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"before": [], "after": [], "health": {"path": "/"}}))  # of before there were handlers
    assert load_plan(releases, RELEASE) == Plan([], [], (), {"path": "/"})
    for text, told in (('{"before": 3, "after": []}', "with 'before' that is not a list"), ("{", "not valid JSON")):
        path.write_text(text)
        with pytest.raises(RolloutError, match=told):
            load_plan(releases, RELEASE)


def test_a_resource_of_a_kind_that_only_a_newer_version_knows_is_named() -> None:
    with pytest.raises(RolloutError, match="a resource of kind 'timer' is not known here"):
        make({"kind": "timer", "name": "x"})

"""What a host says is text: whatever one answers, the run ends in a sentence that names it, and the other host is left alone."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from percore.common.names import is_release_id
from percore.deploy import operations, status
from percore.deploy.connection import agent, local, messages, protocol, replies, stream, transport
from percore.deploy.fleet import doctor, logs
from percore.deploy.report import Report, print_error
from percore.deploy.rollout import hosts as fleet
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import known_release, patch, preview, rollout
from percore.errors import PercoreError, UnreachableError
from tests.deploy.fake_agent import HONEST, OLD, PHASE, STATUS, WORKER, FakeHost, facts, result
from tests.deploy.project import Project

EVIL = "\x1b]0;owned\x07\x1b[2J\rall well\x9b\x7f\u202e\n"
VERBS: dict[str, Callable[[Scope, Report], None]] = {
    "plan": lambda scope, report: preview.preview(scope, report, diff=True),
    "deploy": rollout.deploy,
    "rollback": known_release.rollback,
    "converge": known_release.converge,
    "status": lambda scope, report: status.status(scope, report, as_json=False),
    "history": lambda scope, report: operations.history(scope, report, lines=5, as_json=False),
    "drift": lambda scope, report: operations.drift(scope, report, as_json=False),
    "logs": lambda scope, report: logs.logs(scope, report, logs.LogWish(lines="5")),
    "exec": lambda scope, report: operations.exec_command(scope, report, ["true"]),
    "facts": operations.facts,
    "lock": lambda scope, report: operations.lock(scope, report, why="work"),
    "unlock": operations.unlock,
    "stop": operations.stop,
    "patch": lambda scope, report: patch.patch(scope, report, reboot=False, security=False, check=True),
    "doctor": lambda scope, report: doctor.doctor(scope, report, as_json=False),
}
USES = {
    "plan": ("inspect", "compare"),
    "deploy": ("inspect", "probe", "ports", "stage", "activate", "health", "revert", "confirm", "status"),
    "rollback": ("find", "compare_release"),
    "converge": ("inspect",),
    "status": ("status",), "history": ("history",), "drift": ("drift",), "logs": ("stream",), "exec": ("exec",),
    "lock": ("hold",), "unlock": ("let_go",), "stop": ("stop",),
}  # fmt: skip
PHASES = [(verb, op) for verb, ops in USES.items() for op in ops]


class Two:
    """Two hosts, `good` and `bad`."""

    def __init__(self, folder: Path) -> None:
        (folder / "project").mkdir()
        self.project = Project(folder / "project")
        self.good, self.bad = FakeHost(folder / "good"), FakeHost(folder / "bad")
        path = self.project.folder / "inventories" / "local.yml"
        inventory = yaml.safe_load(path.read_text())
        inventory["all"]["hosts"] = {
            name: {"ansible_connection": "local", "ansible_python_interpreter": str(host.program)}
            for name, host in (("good", self.good), ("bad", self.bad))
        }
        inventory["all"]["vars"]["confirm_seconds"] = 3
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))

    def be_honest(self) -> None:
        self.good.be_honest()
        self.bad.be_honest()

    def run(self, verb: str) -> PercoreError | None:
        """How it ended, printed as an operator reads it."""
        try:
            VERBS[verb](self.project.scope, Report())
        except PercoreError as error:
            print_error(error)
            return error
        return None


@pytest.fixture(scope="module")
def module_two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("two"))


@pytest.fixture
def two(module_two: Two, monkeypatch: pytest.MonkeyPatch) -> Two:
    monkeypatch.chdir(module_two.project.folder)
    module_two.be_honest()
    return module_two


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def test_honest_hosts_are_served_by_every_verb(two: Two) -> None:
    for verb in VERBS:
        two.be_honest()
        error = two.run(verb)
        assert error is None or error.exit_code == 8, f"{verb}: {error}"


# -- wrong replies ---------------------------------------------------------------------------------------------------

ODD_FACTS = [
    {"event": "facts", "facts": without(facts()["facts"], "time")},
    {"event": "facts"}, {"event": "facts", "facts": None}, {"event": "result"}, {"event": "alive"}, [], 7, None, "facts",
    facts(time="now"), facts(time=1e300), facts(python="3"), facts(python="three.x"), facts(uid="0"), facts(uid=True),
    facts(system="../x"), facts(machine="../../tmp/x"), facts(python_path="/x {{ lookup('env', 'CONTROL_SECRET') }}"),
    facts(python_path="/usr/bin/../../x"), facts(python_path="python3"), facts(python_path="/x; touch /tmp/y"),
    facts(python_path="/x\n/y"), facts(nginx="/usr/sbin/nginx -x"), facts(user="a b"), facts(hostname="a\nb"),
    b"{not json}\n", b"\xff\xfe\x00\n", b"[" * 200_000 + b"\n", b'{"event": "facts", "facts": ' + b'{"a":' * 5000 + b"\n",
    b'{"event": "facts", "facts": {"time": NaN}}\n', b'{"event": "facts", "facts": {"time": 1e999}}\n',
    b'{"event": "facts", "facts": {"time": ' + b"9" * 6000 + b"}}\n", b"x" * (9 << 20), b"",
]  # fmt: skip


@pytest.mark.parametrize("verb", ["deploy", "facts"])
@pytest.mark.parametrize("answer", ODD_FACTS, ids=lambda answer: repr(answer)[:60])
def test_odd_facts_are_one_line_that_names_the_host(
    two: Two, verb: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answer in (b"", {"event": "alive"}):
        monkeypatch.setattr(agent, "GREETING_SECONDS", 3.0)
    two.bad.says("facts", answer)
    error = two.run(verb)
    assert error is not None
    assert str(error).startswith("bad: ")
    assert error.exit_code == 7
    assert not two.good.asked("activate")


@pytest.mark.parametrize("greeting", [b"", b"Welcome!\n" * 100_000, b"\xff" * (9 << 20), b"\n\x00\n", b"percore agent"])
def test_an_odd_greeting_is_one_line_that_names_the_host(two: Two, greeting: bytes, monkeypatch: Any) -> None:
    monkeypatch.setattr(agent, "GREETING_SECONDS", 3.0)
    two.bad.says("greeting", greeting)
    error = two.run("status")
    assert isinstance(error, UnreachableError)
    assert str(error).startswith("bad: ")
    assert two.good.asked("status")


def test_what_a_login_shell_prints_before_is_passed_over(two: Two) -> None:
    two.bad.says("greeting", b"Welcome to \xff\x1b[2J\n\nlast login: today\npercore agent is here\n")
    assert two.run("status") is None


@pytest.mark.parametrize(
    ("verb", "op", "answer", "told"),
    [
        ("status", "status", {"event": "result"}, "its agent answered 'status' with 'ok' that is not true or false"),
        ("status", "status", result("status", status={}), "its agent answered 'status' without 'status.apps'"),
        ("status", "status", {"event": "result", "ok": True}, "its agent answered 'status' without 'current'"),
        ("status", "status", result("status", current="../../etc"), "'current' that is not a release id"),
        ("status", "status", {"event": "result", "ok": False}, "'error' that is not a mapping"),
        ("status", "status", {"event": "result", "ok": False, "error": {"what": 7, "exit_code": 1}}, "'error.what'"),
        ("status", "status", {"event": "result", "ok": False, "error": {"what": "x", "exit_code": "1"}}, "exit_code"),
        ("status", "status", {"event": "need", "parts": ["0" * 64]}, "the need of a part that was not offered"),
        ("status", "status", {"event": "need", "parts": 7}, "'parts' that is not a list"),
        ("status", "status", {"event": "worker"}, "without 'app'"),
        ("history", "history", result("history", entries=[{}]), "without 'entries[].at'"),
        ("history", "history", result("history", entries=[{"at": 1e12}]), "'entries[].at' that is not between"),
        ("drift", "drift", without(result("drift"), "files"), "without 'files'"),
        ("exec", "exec", result("exec", code="0"), "'code' that is not a whole number"),
        ("exec", "exec", {"event": "line"}, "without 'text'"),
        ("rollback", "find", result("find", release="../../../x"), "'release' that is not a release id"),
        ("plan", "inspect", result("inspect", marks={"../x": {"mark": "good"}}), "a name in marks"),
        ("plan", "inspect", result("inspect", versions={"node": "x y"}), "that is not a version"),
        ("deploy", "ports", result("ports", strangers={"x": "y"}), "a name in strangers"),
        ("deploy", "ports", result("ports", conflicts=[{"what": "x"}]), "without 'conflicts[].next'"),
        ("deploy", "probe", result("probe", probe={"target": "good"}), "without 'probe.before'"),
        ("plan", "compare", result("compare", changes=["x"]), "'changes[]' that is not a mapping"),
        ("unlock", "let_go", result("let_go", holder={"owner": 7}), "'holder.owner' that is not a text"),
    ],
)
def test_a_wrong_reply_is_named_with_its_place(two: Two, verb: str, op: str, answer: Any, told: str) -> None:
    two.bad.says(op, answer)
    error = two.run(verb)
    assert error is not None
    assert str(error).startswith("bad: ")
    assert told in str(error)
    assert error.exit_code == 7


@pytest.mark.parametrize(("op", "code"), [("activate", 5), ("health", 5), ("confirm", 5), ("stage", 7)])
def test_a_wrong_reply_in_the_middle_of_a_rollout_takes_the_other_host_back(two: Two, op: str, code: int) -> None:
    two.bad.says(op, {"event": "result", "ok": True, "status": []} if op != "confirm" else b"\xff\n")
    two.bad.says("attach", b"\xff\n")
    error = two.run("deploy")
    assert error is not None
    assert error.exit_code == code
    assert "bad" in str(error)
    ops = [message["op"] for message in two.good.asked()]
    assert ("revert" in ops) == (op in ("activate", "health"))


def test_one_bad_host_does_not_keep_the_others_from_being_shown(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, op in (("status", "status"), ("history", "history"), ("drift", "drift")):
        two.bad.says(op, b"7\n")
        error = two.run(verb)
        assert error is not None
        assert error.exit_code == 7
        assert "good" in capsys.readouterr().out


def test_what_nobody_expected_fails_the_one_host_it_happened_with(two: Two) -> None:
    hosts = fleet.load_hosts(two.project.scope)

    def work(host: Host) -> str:
        if host.name == "bad":
            raise KeyError("\x1b[2Jx")
        return host.name

    results, faults = on_all(hosts, work)
    assert list(faults) == ["bad"]
    assert str(faults["bad"]).startswith("bad: unexpected KeyError: ")
    assert results == {"good": "good"}


# -- time and size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flood", [b'{"event": "alive"}\n', b'{"event": "progress", "text": "x"}\n', b""])
def test_an_answer_that_never_comes_ends_by_itself(two: Two, monkeypatch: pytest.MonkeyPatch, flood: bytes) -> None:
    monkeypatch.setitem(protocol.OPERATIONS, "status", (messages.Current, protocol.ReplyLimits(1.0, 2.0)))
    two.bad.says("status", flood * 1000)
    began = time.monotonic()
    error = two.run("status")
    assert time.monotonic() - began < 15
    assert isinstance(error, UnreachableError)
    assert str(error).startswith("bad: its agent answered 'status' with nothing that ends it")


def test_a_host_that_says_nothing_at_all_is_given_up(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 1.0)
    two.bad.says("stream", b"")
    assert "nothing was heard any more" in str(two.run("logs"))


def test_more_lines_than_an_answer_may_have_end_it(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MOST_EVENTS", 1000)
    two.bad.says("status", b'{"event": "progress", "text": "x"}\n' * 2000)
    assert "more than 1000 lines" in str(two.run("status"))
    two.be_honest()
    two.bad.says("stream", b'{"event": "line", "text": "x"}\n' * 2000, result("stream"))
    assert two.run("logs") is None  # logs are as long as they are


def test_a_host_that_takes_nothing_of_what_is_sent_is_given_up(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SEND_SECONDS", 0.5)
    address = fleet.load_hosts(two.project.scope)[0].address
    channel = transport.open_channel(address, ["sleep", "3"], directory=two.project.folder)
    with pytest.raises(TimeoutError):
        channel.send(bytes(1 << 20))
    channel.finish(wait=True)


def test_what_a_host_says_as_it_ends_is_shown(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    two.bad.program.write_text("#!/bin/sh\nprintf '\\033[2Jall well\\033[1A\\n' >&2\n")
    try:
        assert str(two.run("status")).startswith(r"bad: \x1b[2Jall well\x1b[1A")
    finally:
        two.bad.write_program()
    assert "\x1b" not in capsys.readouterr().err


# -- one host decides nothing on another -----------------------------------------------------------------------------


def staged(two: Two) -> tuple[str, str]:
    """The release and the fingerprint that a deploy brings now."""
    assert two.run("deploy") is None
    (message,) = two.bad.asked("stage")
    two.be_honest()
    return message["release"], message["fingerprint"]


@pytest.mark.parametrize(
    "odd",
    [
        "../../../../etc/evil", "/etc/evil", "20260101120000-0a1b2c3d", "20260101120000-HASH\n", "99990101120000-HASH",
        "20260101120000-HASH/../../x",
    ],
)  # fmt: skip
def test_a_release_of_one_host_reaches_no_other_unless_it_fits_what_was_built(two: Two, odd: str) -> None:
    release, fingerprint = staged(two)
    odd = odd.replace("HASH", release[15:])
    status = {"apps": [{**STATUS["apps"][0], "workers": [{**WORKER, "release": odd}]}]}
    two.bad.says("inspect", result("inspect", current=odd, changes=[], status=status, marks={
        odd: {"mark": "good", "fingerprint": fingerprint},
    }))  # fmt: skip
    two.run("deploy")
    assert odd not in json.dumps(two.good.asked())
    assert all(is_release_id(message["release"]) for message in two.good.asked() if message.get("release"))


def test_a_host_that_has_what_was_built_shares_its_release_with_a_new_one(two: Two) -> None:
    release, fingerprint = staged(two)
    web = {**STATUS["apps"][0], "workers": [{**WORKER, "release": release}]}
    status = {"apps": [web, {**web, "name": "tick", "mode": "fork"}]}
    two.bad.says("inspect", result("inspect", current=release, changes=[], status=status, marks={
        release: {"mark": "good", "fingerprint": fingerprint},
    }))  # fmt: skip
    assert two.run("deploy") is None
    assert [message["release"] for message in two.good.asked("stage")] == [release]


def test_converge_believes_no_release_that_cannot_have_been_deployed(two: Two) -> None:
    later = "99990101120000-0a1b2c3d"
    two.bad.says("inspect", result("inspect", current=later, marks={later: {"mark": "good"}}))
    two.run("converge")
    assert later not in json.dumps(two.good.asked())


def test_rollback_believes_no_other_release_than_was_asked_for(two: Two) -> None:
    two.bad.says("find", result("find", release=OLD))
    with pytest.raises(UnreachableError, match="bad: its agent was asked for release '20260101110000' and answered"):
        known_release.rollback(two.project.scope, Report(), release="20260101110000")
    with pytest.raises(PercoreError, match=r"--release: '\.\./x' is no release id"):
        known_release.rollback(two.project.scope, Report(), release="../x")


def test_a_host_is_not_believed_what_it_says_of_one_that_it_was_not_to_probe(two: Two) -> None:
    hosts = fleet.load_hosts(two.project.scope)
    from percore.deploy.rollout.switch.probes import start_probes

    lost = {**PHASE, "failed": 10, "faults": ["down"]}
    two.bad.says("probe", result("probe", probe={"target": "other", "before": PHASE, "during": lost}))
    try:
        fleet.connect_all(hosts)
        assert "other" not in start_probes(hosts).read(hosts)
    finally:
        fleet.close_all(hosts)


# -- text stays text -------------------------------------------------------------------------------------------------


def test_nothing_that_a_host_says_is_rendered(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_SECRET", "s3cr3t-of-the-operator")
    template = "{{ lookup('env', 'CONTROL_SECRET') }} {{ app_name }}"
    inventory = two.project.folder / "inventories" / "local.yml"
    before = inventory.read_text()
    values = yaml.safe_load(before)
    values["all"]["vars"]["env"] = {"SEEN": "{{ seen }}"}
    values["all"]["vars"]["seen"] = "x"
    inventory.write_text(yaml.safe_dump(values, sort_keys=False))
    two.bad.says("facts", facts(more={"a": [template, {template: template}]}, os_version="12", kernel="6"))
    try:
        two.run("plan")
    finally:
        inventory.write_text(before)
    assert two.bad.asked("compare")
    assert "s3cr3t" not in json.dumps(two.bad.asked())


@pytest.mark.parametrize(
    ("verb", "op", "answer"),
    [
        ("plan", "compare", result("compare", changes=[{"text": EVIL, "diff": EVIL}], reasons=[EVIL], handlers=[EVIL])),
        ("history", "history", result("history", entries=[
            {"at": 1, "who": EVIL, "what": EVIL, "release": EVIL, "result": EVIL},
        ])),
        ("logs", "stream", {"event": "line", "text": EVIL}),
        ("exec", "exec", {"event": "line", "text": EVIL}),
        ("status", "status", result("status", status={"apps": [
            {"name": EVIL, "mode": "fork", "wanted": 1, "workers": [{**WORKER, "release": EVIL}]},
        ]})),
        ("drift", "drift", result("drift", workers=[EVIL], files=[{"text": EVIL, "diff": EVIL}], owed=[EVIL])),
        ("unlock", "let_go", result("let_go", holder={"owner": EVIL, "why": EVIL})),
        ("status", "status", {"event": "result", "ok": False, "error": {
            "what": EVIL, "where": EVIL, "next": EVIL, "detail": EVIL, "exit_code": 4}}),
        ("stop", "stop", result("stop", changed=[EVIL])),
        ("deploy", "stage", {"event": "progress", "text": EVIL}),
        ("deploy", "activate", {"event": "worker", "app": EVIL, "slot": 1, "state": "backoff", "failure": EVIL}),
        ("deploy", "ports", result("ports", strangers={"1": EVIL})),
        ("deploy", "ports", result("ports", conflicts=[{"what": EVIL, "next": EVIL}])),
    ],
)  # fmt: skip
def test_control_characters_are_shown_and_not_sent(
    two: Two, verb: str, op: str, answer: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    two.bad.says(op, answer, *([result(op)] if op in HONEST and answer.get("event") != "result" else []))
    two.run(verb)
    out, err = capsys.readouterr()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out + err)
    assert r"\x1b[2J\rall well" in (out + err).replace(r"\x0d", r"\r")
    assert not re.search(r"(?m)^\s*all well", out + err)


def test_lines_of_logs_go_into_a_pipe_as_they_are(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    two.bad.says("exec", {"event": "line", "text": "\x1b[31mred\x1b[0m \x1b[2J"}, result("exec"))
    assert two.run("exec") is None
    assert "bad | \x1b[31mred\x1b[0m \x1b[2J\n" in capsys.readouterr().out


def test_a_failed_hook_is_given_a_hosts_sentence_that_an_environment_can_hold(two: Two) -> None:
    path = two.project.folder / "inventories" / "local.yml"
    before = path.read_text()
    values = yaml.safe_load(before)
    values["all"]["vars"]["hooks"] = {"failed": f'printf "%s" "$PERCORE_ERROR" > {two.project.folder}/told'}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    error = {"what": "a\0b\ud800" + "x" * 10_000, "exit_code": 4}
    two.bad.says("stage", {"event": "result", "ok": False, "error": error})
    try:
        assert two.run("deploy") is not None
    finally:
        path.write_text(before)
    assert (two.project.folder / "told").read_text().startswith(r"bad: a\x00b\ud800x")


# -- generated ---------------------------------------------------------------------------------------------------------

BOUNDED = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(OLD) | st.just(EVIL)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """An honest answer with one place of it replaced, or taken away."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 4)):
            return without(value, name)
        return {**value, name: draw(spoiled(value[name]))}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        return [draw(spoiled(value[0])), *value[1:]]
    return draw(anything)


def odd_answers(honest: dict[str, Any]) -> st.SearchStrategy[Any]:
    events = st.fixed_dictionaries(
        {"event": st.sampled_from(["need", "progress", "worker", "line", "facts", "changes", "x"])}
    )
    return st.one_of(spoiled(honest), anything, st.binary(max_size=80).map(lambda said: said + b"\n"), events)


@pytest.mark.parametrize(("verb", "op"), PHASES)
def test_generated_answers_end_in_a_sentence_and_leave_the_other_host_alone(
    two: Two, verb: str, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 2.0)

    comes_back = op in ("activate", "health", "confirm")  # each time it is asked again for some seconds

    @settings(
        max_examples=4 if comes_back else 15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(answer=odd_answers(result(op)))
    @example(answer={"event": "result"})
    def check(answer: Any) -> None:
        two.be_honest()
        two.bad.says(op, answer, result(op))
        two.bad.says("attach", b"7\n")
        began = time.monotonic()
        assert "unexpected" not in str(two.run(verb))
        assert time.monotonic() - began < 30
        ops = [message["op"] for message in two.good.asked()]
        if "activate" in ops:
            assert "revert" in ops or "confirm" in ops
        assert all(is_release_id(message["release"]) for message in two.good.asked() if message.get("release"))

    check()


@settings(BOUNDED, max_examples=25)
@given(answer=odd_answers(facts()))
def test_generated_facts_end_in_a_sentence(two: Two, answer: Any) -> None:
    two.be_honest()
    two.bad.says("facts", answer, facts())
    for verb in ("facts", "plan"):
        assert "unexpected" not in str(two.run(verb))


def test_generated_lines_are_read_or_refused() -> None:
    @settings(BOUNDED, max_examples=3000)
    @given(st.one_of(st.binary(max_size=200), anything.map(lambda value: json.dumps(value).encode())))
    def check(line: bytes) -> None:
        with contextlib.suppress(replies.WrongReply):
            event = replies.read_line(line)
            replies.read_event(event)
            for op in HONEST:
                replies.read_result(op, event)

    check()

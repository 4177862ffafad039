"""Generated states: whatever stands there, it is read without a traceback, and one app that makes no sense costs no other."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.common.typing import NamedTuple, Optional
from percore.errors import UsageError
from percore.supervisor.config import records
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.kinds import Port, Seconds
from percore.supervisor.state.saved import SET_ASIDE, read_saved
from percore.supervisor.state.state_file import StateFile, _text_of, _write

COMMITS = ("4cec26b", "bb318ba", "d3c627e")
STATES = Path(__file__).parents[2] / "supervisor" / "states"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def written(commit: str, folder: Path) -> StateFile:
    """The files as a supervisor of that commit wrote them."""
    recorded = json.loads((STATES / f"{commit}.json").read_text())
    _write(str(folder / "state.json"), recorded["state"])
    for name in ("state.env.json", "state.env.json.copy"):
        _write(str(folder / name), recorded["environments"])
    return StateFile(str(folder / "state.json"))


def places_in(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a JSON value."""
    if way:
        yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places_in(value[key], (*way, key))


def changed(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    place = content
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value
    return content


@pytest.mark.parametrize("commit", COMMITS)
def test_a_state_of_a_former_commit_is_read_whole(commit: str, tmp_path: Path) -> None:
    content, problem = written(commit, tmp_path).load()
    assert content
    assert problem == ""
    saved = read_saved(content)
    assert [app.config.name for app in saved.apps] == ["api", "tick", "job"]
    assert saved.aside == ()
    assert saved.unknown == {}
    assert not any(app.unknown or app.config.unknown for app in saved.apps)
    assert saved.apps[0].config.env["SECRET"] == "s3"
    assert saved.apps[1].config.cron_restart == "0 4 * * *"


def test_one_wrong_value_anywhere_costs_the_app_it_stands_in_and_no_other(tmp_path: Path) -> None:
    content = json.loads(json.dumps(written("d3c627e", tmp_path).read()))  # no two share an environment
    names = [app["config"]["name"] for app in content["apps"]]

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(list(places_in(content["apps"]))), anything)
    def check(way: tuple[Any, ...], value: Any) -> None:
        saved = read_saved({**content, "apps": changed(content["apps"], way, value)})
        assert set(names) - {names[way[0]]} <= {app.config.name for app in saved.apps}
        assert len(saved.apps) + len(saved.aside) == len(names)
        for app in saved.aside:
            assert app.reason

    check()


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["release", "boot", "apps", SET_ASIDE, "later"]), anything), st.lists(anything))
def test_any_state_is_read_without_a_traceback(content: dict[str, Any], apps: list[Any]) -> None:
    saved = read_saved({**content, "apps": apps})
    assert len(saved.aside) >= len(apps)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(AppConfig._fields), anything))
def test_a_request_with_any_config_gets_one_or_is_told_the_key(record: dict[str, Any]) -> None:
    record = {"name": "a", "script": "s", "cwd": "/", **record}
    try:
        config = AppConfig.from_record(record)
    except UsageError:
        with pytest.raises(UsageError, match="release record: key '"):
            AppConfig.from_record(record)
    else:
        assert AppConfig.from_record(config.to_record()) == config


@pytest.mark.parametrize("commit", COMMITS)
def test_a_former_commit_finds_all_it_needs_in_what_is_written_today(commit: str, tmp_path: Path) -> None:
    """It refuses a config with a key it does not know, so none is written that says no more than its absence."""
    recorded = json.loads((STATES / f"{commit}.json").read_text())
    saved = read_saved(written(commit, tmp_path).read())
    for app, former in zip(saved.apps, recorded["state"]["apps"]):
        assert app.config.to_record().keys() == former["config"].keys()
        assert app.config.to_record().keys() <= set(recorded["fields_of_a_config"])


def test_a_field_that_was_renamed_is_read_by_both_names_and_written_under_the_one_older_versions_know() -> None:
    app = {"name": "a", "script": "s", "cwd": "/"}
    for written in ("max_memory", "max_memory_restart"):
        config = AppConfig.from_record({**app, written: 1000})
        assert config.max_memory_restart == 1000
        assert config.to_record() == {**app, "max_memory": 1000}
        assert config.changed({"max_memory": 5}) == config.changed({"max_memory_restart": 5})
    with pytest.raises(UsageError, match="key 'max_memory' is 'many'"):
        AppConfig.from_record({**app, "max_memory": "many"})


def test_what_is_none_of_ours_stays_in_the_file_of_environments(tmp_path: Path) -> None:
    state = written("d3c627e", tmp_path)
    environments = json.loads((tmp_path / "state.env.json").read_text())
    del environments["checksum"]
    for name in ("state.env.json", "state.env.json.copy"):
        _write(str(tmp_path / name), {**environments, "format": {"later": True}, "version": 3})
    content = state.read()
    for number in range(3):
        state.save({**content, "apps": content["apps"][:1], "number": number})
    kept = json.loads((tmp_path / "state.env.json").read_text())
    assert (kept["format"], kept["version"]) == ({"later": True}, 3)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_state_too_deep_to_be_read_is_set_aside(opening: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"apps": ' + opening * 200_000)
    content, problem = StateFile(str(tmp_path / "state.json")).load()
    assert content is None
    assert "it was set aside as" in problem
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    assert _text_of(deep)
    _write(str(tmp_path / "state.json"), {"version": 1, "apps": [deep]})
    content, _ = StateFile(str(tmp_path / "state.json")).load()
    assert content
    assert len(read_saved(content).aside) == 1


NOTHING: Mapping[str, Any] = {}


class Sample(NamedTuple):
    port: Port
    ways: tuple[str, ...] = ()
    wait: Optional[Seconds] = None
    unknown: Mapping[str, Any] = NOTHING


def test_a_record_is_read_by_the_kinds_of_its_fields() -> None:
    assert records.read(Sample, {"port": 1, "wait": 2, "x": 3}) == Sample(1, (), 2.0, {"x": 3})
    for record, reason in (
        ({}, "port is missing"),
        ([], "is a list, not an object"),
        ({"port": True}, "port is True, not a port between 1 and 65535"),
        ({"port": 1, "ways": "x"}, "ways is 'x', not a list"),
        ({"port": 1, "ways": [1]}, "ways.0 is 1, not a text that a program can be given"),
        ({"port": 1, "wait": float("inf")}, "wait is inf, not seconds"),
    ):
        with pytest.raises(records.WrongField, match=reason):
            records.read(Sample, record)


def test_the_reason_holds_no_value_of_a_variable() -> None:
    with pytest.raises(UsageError) as refused:
        AppConfig.from_record({"name": "a", "script": "s", "cwd": "/", "env": {"TOKEN": ["hunter2"]}})
    assert "env.'TOKEN'" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def _of_first_slot(app: Any, **fields: Any) -> None:
    app["slots"][0].update(fields)


RULES: dict[str, tuple[Any, str]] = {
    "two apps of one name": (lambda api, tick: tick["config"].update(name="api"), "as that of another app is"),
    "one process for two workers": (
        lambda api, tick: tick["slots"][0]["workers"][0].update(pid=api["slots"][0]["workers"][0]["pid"]),
        "as that of another worker is",
    ),
    "slots that are numbered otherwise": (lambda api, tick: _of_first_slot(tick, number=1), "slots is not numbered"),
    "an end that is none": (
        lambda api, tick: _of_first_slot(
            tick,
            end={"state": "running", "exit_code": 0, "failure": "", "last_end": "", "restarts": 0, "started_time": 0.0},
        ),
        "slot 0.end.state is 'running', which is no end",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_fields_that_do_not_go_together_cost_the_app_they_stand_in(rule: str, tmp_path: Path) -> None:
    change, reason = RULES[rule]
    content = json.loads(json.dumps(written("d3c627e", tmp_path).read()))
    api, tick, *_ = content["apps"]
    change(api, tick)
    saved = read_saved(content)
    assert [app.config.name for app in saved.apps] == ["api", "job"]
    assert [reason in app.reason for app in saved.aside] == [True], [app.reason for app in saved.aside]

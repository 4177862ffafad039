"""What `percore apply` would change."""

from __future__ import annotations

from typing import Any

from percore.supervisor.commands.apply import describe_changes
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.compare import Running, compare
from percore.supervisor.config.kinds import CLUSTER


def app(name: str = "api", **fields: Any) -> AppConfig:
    return AppConfig(
        **{"name": name, "script": "server.js", "cwd": "/srv", "mode": CLUSTER, "source": "/srv/apps.json", **fields}
    )


def running(*apps: AppConfig, count: int = 1, wanted: bool = True) -> dict[str, Running]:
    return {config.name: Running(config, count, wanted) for config in apps}


def find(found: dict[str, Running], *wished: AppConfig) -> list[tuple[str, str]]:
    return [(change["app"], change["change"]) for change in compare(found, wished, owner="/srv/apps.json", cores=4)]


def test_each_kind_of_change_has_the_word_that_apply_uses() -> None:
    assert find({}, app()) == [("api", "added")]
    assert find(running(app()), app()) == []
    assert find(running(app()), app(instances=3)) == [("api", "scaled")]
    assert find(running(app(), count=4), app(instances="max")) == []
    assert find(running(app()), app(args=("x",))) == [("api", "reloaded")]
    assert find(running(app(mode="fork")), app(mode="fork", args=("x",))) == [("api", "restarted")]
    assert find(running(app(), wanted=False), app()) == [("api", "started")]
    assert find(running(app(), app("old")), app()) == [("old", "removed")]
    assert find(running(app("other", source="/elsewhere")), app()) == [("api", "added")]


def test_the_lines_name_keys_as_the_file_does_and_no_value_of_the_environment() -> None:
    before = app(env={"KEPT": "1", "OLD": "secret1", "CHANGED": "secret2"}, max_memory_restart=1000)
    after = app(env={"KEPT": "1", "NEW": "secret3", "CHANGED": "secret4"}, interpreter_args=("--inspect",), instances=2)
    lines = list(describe_changes(compare(running(before), [after], owner="", cores=4)))
    assert lines == [
        "~ api (will be reloaded)",
        "    instances: 1 -> 2",
        "    node_args: none -> --inspect",
        "    max_memory_restart: 1000 -> none",
        "    env: + NEW, - OLD, ~ CHANGED (values are not shown)",
    ]

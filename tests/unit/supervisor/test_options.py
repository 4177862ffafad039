"""The table of options: what the command line, the page, `describe` and `jlist` make of it, and what wins over what."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from percore.errors import UsageError
from percore.supervisor.commands.app_options import join_codes, written_keys
from percore.supervisor.commands.describe import described_options
from percore.supervisor.commands.output import js_literal
from percore.supervisor.commands.pm2_json import options_in_json
from percore.supervisor.commands.start import make_start_parser
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_reader import settle
from percore.supervisor.config.options import MODIFIERS, OPTIONS, Option, option_of
from percore.supervisor.config.process_file import load_process_file
from percore.supervisor.config.value_types import FLAG


def written(*arguments: str) -> dict[str, Any]:
    return written_keys(make_start_parser().parse_args(join_codes(list(arguments))), "start")


def by_key(options: tuple[Option, ...]) -> Any:
    return pytest.mark.parametrize("option", options, ids=lambda option: option.key)


@by_key(tuple(option for option in (*OPTIONS, *MODIFIERS) if option.is_typed))
def test_each_key_and_each_of_its_aliases_is_an_option_with_a_help(option: Option) -> None:
    known = make_start_parser()._option_string_actions
    for name in (option.key, *option.aliases):
        assert option_of(name) in known
    assert known[option_of(option.key)].help == option.help
    assert not option.short or known[option.short] is known[option_of(option.key)]
    if option.type is FLAG:
        assert written(option_of(option.key)) == {option.key: True}
        assert written(f"--no-{option_of(option.key)[2:]}") == {option.key: False}


def test_each_field_of_an_app_has_one_option() -> None:
    own = {"env", "source", "release", "unknown"}  # those are no options
    own |= {field for field in AppConfig._fields if field.startswith("job_")}  # nor those of jobs
    assert sorted(option.field for option in OPTIONS) == sorted(set(AppConfig._fields) - own)


# -- what is shown ------------------------------------------------------------------------------------------------------


def test_describe_shows_what_the_app_sets_in_the_units_of_people() -> None:
    config = {
        "script": "a.js",
        "cwd": "/srv",
        "args": ["-x", "y"],
        "watch": True,
        "wait_ready": True,
        "max_memory_restart": 300 << 20,
        "restart_delay": 2.0,
        "depends_on": ["db", "cache"],
        "hooks": ["crash"],
        "kill_signal": "SIGINT",
    }
    shown = dict(described_options(config))
    assert (shown["max memory"], shown["restart delay"], shown["script args"]) == ("300.0mb", "2 s", "-x y")
    assert (shown["depends on"], shown["hooks"], shown["watch & reload"]) == ("db, cache", "crash", "yes")
    assert (shown["wait ready"], shown["stop signal"], shown["kill timeout"]) == ("yes", "SIGINT", "1.6 s")
    assert "max restarts" not in shown


def test_jlist_shows_options_in_pm2s_units_and_never_where_hooks_lead() -> None:
    shown = options_in_json(
        {"restart_delay": 2.0, "interpreter": "node", "port": 80, "hooks": {"crash": ["https://x"]}}
    )
    assert (shown["restart_delay"], shown["exec_interpreter"], shown["port"]) == (2000, "node", 80)
    assert (shown["max_memory_restart"], shown["args"], shown["kill_timeout"]) == (None, [], 1600)
    assert not {"hooks", "max_restarts", "interpreter"} & set(shown)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("-n", "a", "-i", "max"), {"name": "a", "instances": "max"}),
        (("-i", "-1"), {"instances": "-1"}),
        (("--node-args", "--inspect --trace"), {"node_args": "--inspect --trace"}),
        (("--interpreter-args=-x",), {"node_args": "-x"}),
        (("--stop-exit-codes", "1", "2", "app.js"), {"stop_exit_codes": ["1", "2"]}),
        (("app.js", "--watch", "--ignore-watch", "logs 'a b'"), {"watch": True, "ignore_watch": ["logs", "a b"]}),
        (("--watch-delay", "4"), {"watch_delay": "4s"}),
        (("--watch-delay", "4000ms"), {"watch_delay": "4000ms"}),
        (("--time",), {"log_date_format": True}),
        (("-x", "--source-map-support", "--no-pmx", "-w"), {"execute_command": True, "source_map_support": True}),
        (("--uid", "www", "-c", "0 3 * * *"), {"user": "www", "cron_restart": "0 3 * * *"}),
    ],
)
def test_pm2s_options_say_what_a_process_file_would(arguments: tuple[str, ...], wanted: dict[str, Any]) -> None:
    assert written(*arguments) == wanted


@pytest.mark.parametrize(
    "arguments", [("--kill-timeout", "soon"), ("-i", "many"), ("--port", "0"), ("--kill-signal", "SIGX")]
)
def test_a_wrong_value_is_refused_by_the_keys_own_reader(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"^start: --[a-z-]+ must be "):
        written(*arguments)


def test_the_file_wins_over_defaults_and_the_command_line_over_the_file_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"name": "a", "script": "a.sh", "killTimeout": 5, "out": "x.log"}))
    [app] = load_process_file(
        str(tmp_path / "a.json"),
        defaults={"kill_timeout": "9", "kill_signal": "SIGTERM"},
        overrides={"out_file": "y.log", "instances": 3},
    ).apps
    assert (app.kill_timeout, app.kill_signal, app.out_file, app.instances) == (0.005, "SIGTERM", "y.log", 3)


def test_null_in_a_file_leaves_room_for_a_default() -> None:
    assert settle({"kill_timeout": None}, {"killTimeout": 7}, {})["killTimeout"] == 7


def test_values_are_printed_as_node_prints_them() -> None:
    deep = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    values = [
        {"a": "it's", "b-c": [1, None, True], "e": {}, "f": "line\n", "$g": 1.5, "both": "'\"", "all": "'\"`"},
        [
            deep,
            {"three": deep["a"]["b"]},
            {"empty": {"a": {"b": {"c": {}}}}},
            ["x" * 33, "y" * 33],
            ["x" * 30, "y" * 30],
        ],
    ]
    program = "console.log(require('util').inspect(JSON.parse(require('fs').readFileSync(0)), false, null, false))"
    for value in values:
        node = subprocess.run(
            ["node", "-e", program], input=json.dumps(value), capture_output=True, text=True, check=True
        )
        assert js_literal(value) == node.stdout.rstrip("\n")

"""The keys of a process file as options, and what counts when file, command line and environment all say something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from percore.errors import UsageError
from percore.supervisor.commands.app_options import join_codes, option_of, written_keys
from percore.supervisor.commands.pm2_json import js_literal
from percore.supervisor.commands.start import make_start_parser
from percore.supervisor.config.options import KEYS, flag
from percore.supervisor.config.process_file import load_process_file, settle


def written(*arguments: str) -> dict[str, Any]:
    return written_keys(make_start_parser().parse_args(join_codes(list(arguments))), "start")


@pytest.mark.parametrize("key", [key for key in KEYS if key.name != "script"], ids=lambda key: key.name)
def test_each_key_and_each_of_its_aliases_is_an_option(key: Any) -> None:
    known = make_start_parser()._option_string_actions
    for name in (key.name, *key.aliases):
        assert option_of(name) in known
    if key.read is flag:
        assert written(option_of(key.name)) == {key.name: True}
        assert written(f"--no-{option_of(key.name)[2:]}") == {key.name: False}


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
    value = {"a": "it's", "b-c": [1, None, True], "e": {}, "f": "line\n", "$g": 1.5}
    assert js_literal(value) == (
        "{\n  a: 'it\\'s',\n  'b-c': [\n    1,\n    null,\n    true\n  ],\n  e: {},\n  f: 'line\\n',\n  $g: 1.5\n}"
    )

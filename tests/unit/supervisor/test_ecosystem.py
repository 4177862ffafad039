"""Process files in every form PM2's users have."""

from __future__ import annotations

import contextlib
import json
import pwd
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.errors import UsageError
from percore.supervisor.commands.app_options import changed_fields
from percore.supervisor.commands.targets import load_release
from percore.supervisor.config.app import AppConfig, resolve_instances
from percore.supervisor.config.app_reader import make_app
from percore.supervisor.config.options import OPTIONS
from percore.supervisor.config.process_file import load_process_file, resolve_for_release

SEED = """
module.exports = {
  apps: [
    { name: 'boltlink-api', script: './dist/index.js', instances: 'max', exec_mode: 'cluster', max_memory_restart: '500M',
      kill_timeout: 5000, listen_timeout: 3000, interpreter_args: '--max_old_space_size=1024' },
    { name: 'boltlink-worker', script: './dist/worker.js', instances: 1, exec_mode: 'fork' },
  ],
};
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def one(folder: Path, **keys: Any) -> AppConfig:
    loaded = load_process_file(write(folder, "one.json", json.dumps({"apps": [{"script": "app.js", **keys}]})))
    return loaded.apps[0]


def test_the_seed_file_is_read_as_it_stands(tmp_path: Path) -> None:
    loaded = load_process_file(write(tmp_path, "ecosystem.config.js", SEED))
    api, worker = loaded.apps
    assert loaded.warnings == ()
    assert (api.name, api.mode, api.instances, api.interpreter) == ("boltlink-api", "cluster", "max", "node")
    assert (api.max_memory_restart, api.kill_timeout, api.listen_timeout) == (500 << 20, 5.0, 3.0)
    assert api.interpreter_args == ("--max_old_space_size=1024",)
    assert (worker.mode, worker.instances) == ("fork", 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"apps": [{"name": "a", "script": "a.js"}]}'),
        ("b.json", "{ apps: [{ name: 'a', script: 'a.js', }], /* PM2's JSON */ }"),
        ("c.json", '[{"name": "a", "script": "a.js"}]'),
        ("d.json", '{"name": "a", "script": "a.js"}'),
        ("e.json", '{"pm2": {"name": "a", "cmd": "a.js"}}'),
        ("f.yml", "apps:\n  - name: a\n    script: a.js\n"),
        ("g.config.cjs", "module.exports = [{ name: 'a', exec: 'a.js' }];"),
        ("h.config.mjs", "export default { apps: { name: 'a', script: 'a.js' } };"),
    ],
)
def test_every_form_gives_the_same_app(tmp_path: Path, name: str, text: str) -> None:
    (app,) = load_process_file(write(tmp_path, name, text)).apps
    assert (app.name, app.script, app.cwd) == ("a", "a.js", str(tmp_path))


def test_module_exports_in_an_es_module_is_an_error_that_says_how_to_name_the_file(tmp_path: Path) -> None:
    write(tmp_path, "package.json", '{"type": "module"}')
    path = write(tmp_path, "ecosystem.config.js", "module.exports = { apps: [{ name: 'a', script: 'a.js' }] };")
    with pytest.raises(UsageError, match=r"does nothing in an ES module .*: name the file \.cjs"):
        load_process_file(path)


def test_an_unknown_key_is_a_warning_that_names_the_nearest(tmp_path: Path) -> None:
    loaded = load_process_file(
        write(tmp_path, "x.json", '{"apps": [{"name": "a", "script": "a.js", "instancess": 2}]}')
    )
    assert loaded.warnings[0].endswith("key 'instancess' of app 'a' is not known -> did you mean 'instances'?")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("instances", "many", "must be a whole number"),
        ("exec_mode", "clutser", "must be cluster or fork"),
        ("max_memory_restart", "lots", "a size such as 300M"),
        ("port", 70000, "a port between 1 and 65535"),
        ("env", "A=1", "a mapping of names to values"),
        ("env", {"A": "zero \0 byte"}, "cannot be the value"),
        ("args", "an 'open quote", "can be split at spaces"),
        ("args", ["zero \0 byte"], "no zero byte"),
        ("kill_timeout", "soon", "a time such as 10s"),
        ("kill_timeout", -1, "a time such as 10s"),
        ("max_memory_restart", "9" * 400, "a size such as 300M"),
        (
            "health",
            "health",
            "a path such as /health, or an address such as https://localhost/health (http, https or h2c)",
        ),
        ("kill_signal", "SIGNAL", "a signal such as SIGTERM"),
        ("max_restarts", -1, "0 or more"),
        ("instance_var", "A=B", "the name of a variable"),
        ("execute_command", "maybe", "true or false"),
    ],
)
def test_a_wrong_value_names_file_app_and_key(tmp_path: Path, key: str, value: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        one(tmp_path, name="shop", **{key: value})
    assert told in str(caught.value)
    assert f"'{key}' of app 'shop'" in str(caught.value)
    assert "one.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.yml", "apps:\n  - name: [a\n", "x.yml:3"),
        ("x.config.js", "module.exports = {\n apps: [ }\n};", "x.config.js:2"),
        ("x.json", "{}", "contains no apps"),
        ("x.json", '{"apps": [{"name": "a"}]}', "app 'a' has no 'script'"),
        (
            "x.json",
            '{"apps": [{"name": "a", "scrpt": "b.js"}]}',
            "app 'a' has no 'script' -> did you mean 'scrpt' to be it?",
        ),
        ("x.json", '[{"name": "a", "script": "a"}, {"name": "a", "script": "b"}]', "two apps are called 'a'"),
        ("x.txt", "apps", "not a process file"),
        ("x.yml", "apps:\n  - script: a.js\n    port: none\n", "x.yml:3: key 'port'"),
        ("x.yml", "script: a.js\nscript: b.js\n", "x.yml:2:1: invalid YAML: key 'script' is given twice"),
        ("x.yml", "script: !!int a.js\n", "x.yml: invalid YAML"),
        ("x.yml", "script: a.js\nenv: &all {A: *all}\n", "an alias contains itself"),
        ("x.json", "[" * 100000, "nested too deeply"),
        ("x.json", '{"apps": [{"name": "a", "script": "a.js", }, ]', "SyntaxError: Unexpected token"),
        ("x.json", '{"apps": ["a.js"]}', 'app 0 must be a mapping of keys to values, not "a.js"'),
        ("x.config.js", "throw new Error('no database');", "x.config.js:1: Error: no database"),
        ("x.config.js", "module.exports = undefined;", "it does not export an object of apps"),
        ("x.json", '[{"script": "a.js", "depends_on": "db"}, {"script": "dbs.js"}]', "did you mean 'dbs'?"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_process_file(write(tmp_path, name, text))
    assert told in str(caught.value)


def test_env_of_the_named_environment_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "x.json", '{"script": "a.js", "env": {"A": 1, "B": true}, "env_production": {"A": 2}}')
    assert load_process_file(path).apps[0].env == {"A": "1", "B": "true"}
    assert load_process_file(path, env_name="production").apps[0].env == {"A": "2", "B": "true"}


def test_interpreters_follow_the_extension_and_the_mode_follows_both(tmp_path: Path) -> None:
    assert one(tmp_path).interpreter == "node"
    assert one(tmp_path, script="app.py").interpreter == "python3"
    assert one(tmp_path, instances=2).mode == "cluster"
    assert one(tmp_path, script="app.py", instances=2).mode == "fork"
    command = one(tmp_path, script="npm run serve")
    assert (command.interpreter, command.args, command.name) == ("/bin/sh", ("npm run serve",), "npm")


def test_a_release_record_lies_below_the_release_on_the_host(tmp_path: Path) -> None:
    path = write(tmp_path, "ecosystem.config.js", SEED)
    record = resolve_for_release(
        path, release_id="r7", release_path="/srv/shop/releases/r7", extra_env={"PORT": "5000"}
    )
    api = AppConfig.from_record(record["apps"][0])
    assert (api.cwd, api.script, api.release) == ("/srv/shop/releases/r7", "./dist/index.js", "r7")
    assert api.env == {"PORT": "5000"}
    assert str(tmp_path) not in json.dumps(record)


def test_paths_of_the_built_tree_become_paths_of_the_release(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "link").symlink_to("tree")
    text = """
    module.exports = {
      name: 'a', cwd: __dirname + '/', script: __dirname + '/dist/a.js', interpreter: '/usr/bin/node',
      out_file: __dirname + '/log/o',
      node_args: ['-r', __dirname + '/hook.js'], args: ['--conf=' + __dirname + '/a.json', __dirname + '-other/x'],
      env: { HERE: __dirname, BOTH: __dirname + '/a:' + __dirname + '/b', PLACE: '/srv' },
    };"""
    write(tree, "ecosystem.config.js", text)
    for folder in (tree, tmp_path / "link"):
        record = resolve_for_release(str(folder / "ecosystem.config.js"), release_id="r", release_path="/srv/r")
        (app,) = (AppConfig.from_record(app) for app in record["apps"])
        assert (app.cwd, app.script, app.interpreter) == ("/srv/r", "/srv/r/dist/a.js", "/usr/bin/node")
        assert (app.out_file, app.interpreter_args) == ("/srv/r/log/o", ("-r", "/srv/r/hook.js"))
        assert app.args == ("--conf=/srv/r/a.json", f"{tree}-other/x")
        assert app.env == {"HERE": "/srv/r", "BOTH": "/srv/r/a:/srv/r/b", "PLACE": "/srv"}


def test_an_app_started_below_a_link_stays_below_it(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "current").symlink_to("releases")
    write(tmp_path / "releases", "ecosystem.config.js", "module.exports = { script: 'a.js', cwd: __dirname };")
    assert load_process_file(str(tmp_path / "current" / "ecosystem.config.js")).apps[0].cwd == f"{tmp_path}/current"


def resolve(folder: Path, apps: Any, **extra_env: str) -> tuple[list[AppConfig], list[str]]:
    path = write(folder, "x.json", json.dumps(apps))
    record = resolve_for_release(path, release_id="r", release_path="/srv/r", extra_env=extra_env)
    return [AppConfig.from_record(app) for app in record["apps"]], record["warnings"]


def test_the_operators_variables_win_over_the_files(tmp_path: Path) -> None:
    (app,), _ = resolve(
        tmp_path, {"script": "a.js", "port": 5000, "env": {"A": "file", "B": "file"}}, A="ours", PORT="6000"
    )
    assert app.env == {"A": "ours", "B": "file", "PORT": "6000"}
    assert app.port == 6000


def test_one_port_is_not_given_to_apps_that_name_different_ones(tmp_path: Path) -> None:
    apps, warnings = resolve(
        tmp_path,
        [
            {"name": "a", "script": "a.js", "port": 5000},
            {"name": "b", "script": "b.js", "env": {"PORT": 5001}},
            {"name": "c", "script": "c.js"},
        ],
        PORT="7000",
    )
    assert [app.env["PORT"] for app in apps] == ["5000", "5001", "7000"]
    assert apps[0].port == 5000
    assert warnings[0].endswith("PORT=7000 of the environment does not apply to apps with their own port: a, b")


def test_a_port_of_the_environment_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PORT of the environment must be a whole number"):
        resolve(tmp_path, {"script": "a.js", "port": 5000}, PORT="http")


def test_yaml_means_what_it_means_to_pm2(tmp_path: Path) -> None:
    text = (
        "script: a.js\nenv: {A: on, B: 12:30, C: 010, D: 2020-01-01, E: 1.0, F: true, G: , H: 0x10, I: 1e3, J: yes}\n"
    )
    assert load_process_file(write(tmp_path, "x.yml", text)).apps[0].env == {
        "A": "on", "B": "12:30", "C": "10", "D": "2020-01-01", "E": "1", "F": "true", "G": "", "H": "16", "I": "1000", "J": "yes",
    }  # fmt: skip
    merged = "x: &env {A: 1, B: 1}\napps:\n  - {name: a, script: a.js, env: {<<: *env, B: 2}}\n"
    assert load_process_file(write(tmp_path, "x.yml", merged)).apps[0].env == {"A": "1", "B": "2"}


def test_a_javascript_file_may_print_and_leave_things_open(tmp_path: Path) -> None:
    text = "console.log('hello'); setInterval(() => {}, 1e6); module.exports = Promise.resolve({ script: 'a.js' });"
    assert load_process_file(write(tmp_path, "x.config.js", text)).apps[0].script == "a.js"


def test_keys_of_logs_are_read_without_a_word(tmp_path: Path) -> None:
    text = "apps: [{script: a.js, time: true, log_type: json, log_file: all.log}]\n"
    loaded = load_process_file(write(tmp_path, "x.yml", text))
    assert not loaded.warnings
    assert (loaded.apps[0].log_date_format, loaded.apps[0].log_type) == ("YYYY-MM-DDTHH:mm:ss", "json")


def test_two_keys_for_one_thing_are_said(tmp_path: Path) -> None:
    loaded = load_process_file(write(tmp_path, "x.json", '{"script": "a.js", "exec": "b.js"}'))
    assert loaded.apps[0].script == "b.js"
    assert loaded.warnings[0].endswith("'script' and 'exec' of app 0 mean the same -> 'exec' is used")
    agreed = load_process_file(
        write(tmp_path, "x.json", '{"script": "a.js", "merge_logs": true, "combine_logs": true}')
    )
    assert not agreed.warnings


def test_an_interpreter_runs_a_file_of_the_app_or_else_a_program_in_path(tmp_path: Path) -> None:
    for name in ("yarn", "server", "server.js"):
        place = tmp_path / ("app" if name == "server.js" else "bin") / name
        place.parent.mkdir(exist_ok=True)
        place.touch(mode=0o755)
    keys = {"cwd": str(tmp_path / "app"), "env": {"PATH": str(tmp_path / "bin")}}
    assert one(tmp_path, **keys, script="yarn", interpreter="bash").script == str(tmp_path / "bin/yarn")
    assert one(tmp_path, **keys, script="server", interpreter="node").script == "server"  # Node finds server.js
    assert one(tmp_path, **keys, script="./yarn", interpreter="bash").script == "./yarn"
    assert one(tmp_path, **keys, script="nosuch", interpreter="bash").script == "nosuch"
    assert one(tmp_path, **keys, script="yarn").script == "yarn"  # looked up at each start
    file = write(tmp_path / "app", "p.json", json.dumps({**keys, "script": "yarn", "interpreter": "bash"}))
    record = resolve_for_release(file, release_id="1", release_path="/srv/app/releases/1")
    assert record["apps"][0]["script"] == "yarn"  # where it is on a host, nobody knows here


def test_a_home_that_no_shell_replaced_is_that_of_who_asks_and_in_a_release_that_of_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home/bin").mkdir(parents=True)
    (tmp_path / "home/bin/a.js").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    written = {"script": "~/bin/a.js", "out_file": "~/logs/a.log", "pid": "~/a.pid", "interpreter": "~/bin/node"}
    [read] = load_process_file(write(tmp_path, "p.json", json.dumps(written))).apps
    home = f"{tmp_path}/home"
    assert (read.script, read.out_file) == (f"{home}/bin/a.js", f"{home}/logs/a.log")
    assert (read.pid_file, read.interpreter) == (f"{home}/a.pid", f"{home}/bin/node")
    assert changed_fields({"out_file": "~/b.log"}, {"name": "a", "config": {}}, "restart") == {
        "out_file": f"{home}/b.log"
    }
    (tmp_path / "p.json").write_text(json.dumps({**written, "script": "a.js", "user": "root"}))
    record = resolve_for_release(str(tmp_path / "p.json"), release_id="1", release_path="/srv/app/releases/1")
    assert record["apps"][0]["out_file"] == "~/logs/a.log"
    (tmp_path / ".percore.json").write_text(json.dumps(record))
    [released], _ = load_release(str(tmp_path / ".percore.json"))
    assert released.out_file == f"{pwd.getpwnam('root').pw_dir}/logs/a.log"


def test_keys_that_change_others(tmp_path: Path) -> None:
    path = write(tmp_path, "x.json", '{"name": "a", "script": "a.js", "append_env_to_name": true, "env_prod": {}}')
    assert load_process_file(path, env_name="prod").apps[0].name == "a-prod"
    assert "did you mean 'env_prod'?" in load_process_file(path, env_name="prodd").warnings[0]
    assert one(tmp_path, instances=2, execute_command=True).mode == "fork"
    assert one(tmp_path, sourceMapSupport=True).interpreter_args == ("--enable-source-maps",)


def test_a_command_line_keeps_its_arguments_whole(tmp_path: Path) -> None:
    assert one(tmp_path, script="npm run serve", args=["a b"]).args == ("npm run serve 'a b'",)
    npm = one(tmp_path, script="npm", args="run 'a b'")
    assert (npm.interpreter, npm.script, npm.args) == ("none", "npm", ("run", "a b"))


def test_a_file_that_cannot_be_executed_and_has_no_extension_is_run_by_node(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("")
    assert one(tmp_path, script="server").interpreter == "node"
    program.chmod(0o755)
    assert one(tmp_path, script="server").interpreter == "none"


# In the forms of PM2's own examples (names and contents are ours).
FORMS = {
    "two-ports.config.js": """
        module.exports = { apps: [
          { script: 'api.js', instances: 'max', exec_mode: 'cluster', env: { PORT: 8000, NODE_ENV: 'development' },
            env_production: { NODE_ENV: 'production' } },
          { name: 'single', script: 'api.js', env: { PORT: 8001 } } ] }""",
    "languages.yml": """
        apps:
          - {name: bash, script: a.sh}
          - {name: python, script: a.py, interpreter: python3}
          - {name: ruby, script: a.rb}
          - {name: php, script: a.php, autorestart: false}
          - {name: perl, script: a.pl, exec_mode: fork_mode}""",
    "binary.yml": "apps:\n  - script: /bin/ls\n    args: -l -a\n    autorestart: false\n",
    "object.json": '{"apps": {"name": "tree", "script": "tree.js", "treekill": false}}',
    "ready.json": """{ // loose JSON
        "apps": [{ "name": "ready", script: "./ready.js", "wait_ready": true, "listen_timeout": "10s", "kill_timeout": 3000,
                   "err_file": "err.log", out: "NULL", mergeLogs: true, }] }""",
    "sections.json": """{"apps": [{"name": "shop", "script": "a.js", "args": ["--a", 1], "pmx": false, "vizion": false,
        "nodeArgs": "--inspect=0 --expose-gc", "maxMemoryRestart": "1.5G", "stop_exit_codes": 0, "instances": "-1"}],
        "deploy": {"production": {"host": "example.com"}}}""",
    "joined.json": '[{"name": "a", "script": ["a", "js"].join(".")}]',
}


@pytest.mark.parametrize("name", FORMS)
def test_files_in_the_forms_of_pm2s_examples_load_without_a_word(tmp_path: Path, name: str) -> None:
    loaded = load_process_file(write(tmp_path, name, FORMS[name]))
    assert loaded.warnings == ()
    for app in loaded.apps:
        assert AppConfig.from_record(json.loads(json.dumps(app.to_record()))) == app


def test_values_of_pm2s_forms_arrive_typed(tmp_path: Path) -> None:
    def load(name: str) -> tuple[AppConfig, ...]:
        return load_process_file(write(tmp_path, name, FORMS[name])).apps

    assert [(app.mode, app.env["PORT"]) for app in load("two-ports.config.js")] == [
        ("cluster", "8000"),
        ("fork", "8001"),
    ]
    assert [app.interpreter for app in load("languages.yml")] == ["bash", "python3", "ruby", "php", "perl"]
    assert [(app.name, app.interpreter, app.args) for app in load("binary.yml")] == [("ls", "none", ("-l", "-a"))]
    (ready,) = load("ready.json")
    assert (ready.listen_timeout, ready.kill_timeout, ready.error_file, ready.out_file, ready.merge_logs) == (
        10.0, 3.0, "err.log", "/dev/null", True,
    )  # fmt: skip
    (shop,) = load("sections.json")
    assert (shop.args, shop.interpreter_args) == (("--a", "1"), ("--inspect=0", "--expose-gc"))
    assert (shop.max_memory_restart, shop.stop_exit_codes, shop.instances, shop.mode) == (3 << 29, (0,), -1, "cluster")


@pytest.mark.parametrize(("wished", "cores", "count"), [("max", 4, 4), (0, 4, 4), (-1, 4, 3), (-9, 4, 1), (3, 1, 3)])
def test_instances_are_counted_as_pm2_counts_them(wished: Any, cores: int, count: int) -> None:
    assert resolve_instances(wished, cores) == count


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.text())
    | st.dictionaries(st.text(), st.text())
)
known = st.sampled_from([option.key for option in OPTIONS])


@settings(max_examples=300)
@given(st.dictionaries(known | st.text(max_size=8), values, max_size=6))
def test_any_mapping_is_an_app_or_a_usage_error(written: dict[str, Any]) -> None:
    try:
        app = make_app(written, path="/x/ecosystem.json", number=0, env_name=None, warnings=[])
    except UsageError:
        return
    assert AppConfig.from_record(json.loads(json.dumps(app.to_record()))) == app


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
fields = {
    "name": st.text("aB 1-é", min_size=1),
    "script": words,
    "cwd": words,
    "args": st.lists(words).map(tuple),
    "interpreter": words,
    "instances": st.integers(-9, 9) | st.just("max"),
    "share_port": st.booleans(),
    "port": st.none() | st.integers(1, 65535),
    "env": st.dictionaries(st.text("A_b", min_size=1), words),
    "listen_timeout": st.floats(0, 1e6),
    "stop_exit_codes": st.lists(st.integers(0, 255)).map(tuple),
    "max_restarts": st.none() | st.integers(0, 1 << 52),
    "max_memory_restart": st.none() | st.integers(1, 1 << 62),
    "out_file": st.none() | words,
    "depends_on": st.lists(words).map(tuple),
}


@given(st.fixed_dictionaries(fields))
def test_every_app_survives_its_record(values: dict[str, Any]) -> None:
    app = AppConfig(**values)
    assert AppConfig.from_record(json.loads(json.dumps(app.to_record()))) == app


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known | words, inner, max_size=3))
)
def test_any_json_is_a_process_file_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(UsageError):
        load_process_file(str(path))


def test_the_examples_of_the_reference_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "process-file.md").read_text()
    first, *others = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    loaded = load_process_file(write(tmp_path, "ecosystem.yml", first))
    assert [app.mode for app in loaded.apps] == ["cluster", "fork"]
    (tmp_path / "defaults.env").touch()
    (tmp_path / ".env").touch()
    (tmp_path / "src").mkdir()
    for example in (first, *others):
        assert load_process_file(write(tmp_path, "ecosystem.yml", example)).warnings == ()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"port_per_worker": True}, "needs 'port'"),
        ({"listen": "3000", "exec_mode": "fork"}, "'listen' of app 'api' needs workers that share ports"),
        (
            {"listen": "localhost:3000", "exec_mode": "cluster"},
            "key 'listen' of app 'api' must be an address such as 3000",
        ),
    ],
)
def test_keys_of_ports_that_do_not_fit_together_are_refused(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    path = tmp_path / "ecosystem.json"
    path.write_text(json.dumps({"apps": [{"name": "api", "script": "x.js", **keys}]}))
    with pytest.raises(UsageError, match=re.escape(told)):
        load_process_file(str(path))


def test_hooks_are_read_by_event_and_survive_their_record(tmp_path: Path) -> None:
    app = one(tmp_path, hooks={"crash": "notify", "memory": ["a b", "https://x.example"], "crash_loop": None})
    assert app.hooks == {"crash": ("notify",), "memory": ("a b", "https://x.example")}
    assert AppConfig.from_record(json.loads(json.dumps(app.to_record()))) == app
    with pytest.raises(UsageError, match="'hooks' of app 'shop' must be a mapping with keys among crash"):
        one(tmp_path, name="shop", hooks={"crashed": "notify"})


def two_envs(tmp_path: Path, *names: str) -> str:
    apps = [{"name": "web", "script": "web.js", "env": {"NODE_ENV": "development"}}]
    apps += [{"name": "job", "script": "job.js"}]
    for name in names:
        apps[0][name] = {"NODE_ENV": name}
    path = tmp_path / "ecosystem.json"
    path.write_text(json.dumps({"apps": apps}))
    return str(path)


@pytest.mark.parametrize(
    ("names", "used", "told"),
    [
        (["env_production", "env_staging"], "env_production", []),
        (["env_staging"], "development", []),
        ([], "development", []),
        (["env_prduction"], "development", ["no app has 'env_production' -> did you mean 'env_prduction'?"]),
    ],
)
def test_the_block_of_the_environment_is_used_where_there_is_one(
    tmp_path: Path, names: list[str], used: str, told: list[str]
) -> None:
    loaded = load_process_file(two_envs(tmp_path, *names), default_env="production")
    assert loaded.apps[0].env["NODE_ENV"] == used
    assert [warning.partition(": ")[2] for warning in loaded.warnings] == told
    named = load_process_file(two_envs(tmp_path, *names, "env_other"), env_name="other", default_env="production")
    assert named.apps[0].env["NODE_ENV"] == "env_other"

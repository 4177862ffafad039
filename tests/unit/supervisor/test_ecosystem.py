"""Process files in every form PM2's users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.errors import UsageError
from percore.supervisor.config import AppConfig, resolve_instances
from percore.supervisor.ecosystem import load_process_file, make_app, resolve_for_release
from percore.supervisor.keys import KEYS

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
    assert (api.max_memory, api.kill_timeout, api.listen_timeout) == (500 << 20, 5.0, 3.0)
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
        ("x.json", "{}", "names no apps"),
        ("x.json", '{"apps": [{"name": "a"}]}', "app 'a' has no 'script'"),
        ("x.json", '[{"name": "a", "script": "a"}, {"name": "a", "script": "b"}]', "two apps are called 'a'"),
        ("x.txt", "apps", "not a process file"),
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
    assert (command.interpreter, command.args, command.name) == ("sh", ("npm run serve",), "npm")


def test_a_release_record_lies_below_the_release_on_the_host(tmp_path: Path) -> None:
    path = write(tmp_path, "ecosystem.config.js", SEED)
    record = resolve_for_release(
        path, release_id="r7", release_path="/srv/shop/releases/r7", extra_env={"PORT": "5000"}
    )
    api = AppConfig.from_record(record["apps"][0])
    assert (api.cwd, api.script, api.release) == ("/srv/shop/releases/r7", "./dist/index.js", "r7")
    assert api.env == {"PORT": "5000"}
    assert str(tmp_path) not in json.dumps(record)


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
known = st.sampled_from([key.name for key in KEYS])


@settings(max_examples=300)
@given(st.dictionaries(known | st.text(max_size=8), values, max_size=6))
def test_any_mapping_is_an_app_or_a_usage_error(written: dict[str, Any]) -> None:
    try:
        app = make_app(written, path="/x/ecosystem.json", number=0, env_name=None, warnings=[])
    except UsageError:
        return
    assert AppConfig.from_record(json.loads(json.dumps(app.to_record()))) == app


def test_the_reference_names_every_key_and_its_example_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "process-file.md").read_text()
    for key in KEYS:
        assert f"`{key.name}`" in text
    example = text.split("```yaml\n")[1].split("```")[0]
    loaded = load_process_file(write(tmp_path, "ecosystem.yml", example))
    assert [app.mode for app in loaded.apps] == ["cluster", "fork"]
    assert loaded.warnings == ()

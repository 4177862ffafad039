"""Plans and rendering: values become what a host should have, and each fault says where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from percore.deploy.plan.host_plan import HostPlan, make_plan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.roles import EVERYWHERE, HANDLER_KEYS, ITEM_KEYS
from percore.deploy.plan.variables import render_text
from percore.deploy.vault import passwords
from percore.deploy.vault.envelope import seal
from percore.errors import UsageError
from tests.unit.deploy.planned import render_state, settings_of

PROJECT = Path(__file__).resolve().parents[3]
KNOWN = {"facts": {}, "python_path": "/usr/bin/python3", "package_id": "abc123"}
APP = {"app_name": "shop", "app_path": "examples/boltlink"}


def plan(variables: dict[str, Any] | None = None, project: Path = PROJECT) -> HostPlan:
    return make_plan("web1", {**APP, **(variables or {})}, env="test", project=project)


def render(variables: dict[str, Any] | None = None) -> HostState:
    return render_state(plan(variables), known=KNOWN)


def own_role(folder: Path, text: str, **templates: str) -> HostPlan:
    """A project with the shipped roles and one more role called `own`, that a host has beside the app."""
    (folder / "templates").symlink_to(PROJECT / "templates")
    (folder / "roles").mkdir()
    for role in ("app", "percore", "nginx"):
        (folder / "roles" / role).symlink_to(PROJECT / "roles" / role)
    (folder / "roles" / "own" / "templates").mkdir(parents=True)
    (folder / "roles" / "own" / "role.yml").write_text(text)
    for name, content in templates.items():
        (folder / "roles" / "own" / "templates" / name).write_text(content)
    return plan({"roles": ["app", "own"]}, folder)


def content_of(state: HostState, path: str) -> str:
    spec = next(spec for spec in state.resources() if spec.get("path") == path)
    return state.files[spec["sha256"]].decode()


def test_the_shipped_roles_give_a_unit_a_command_and_a_site() -> None:
    state = render()
    unit = content_of(state, "/etc/systemd/system/percore.service")
    assert "User=percore\n" in unit
    for line in (
        "Delegate=yes",
        "DelegateSubgroup=supervisor",
        "MemoryAccounting=yes",
        "OOMPolicy=continue",
        "KillMode=process",
    ):
        assert f"\n{line}\n" in unit
    assert "ExecStart=/usr/local/bin/percore daemon\n" in unit
    assert 'PERCORE_HOME="${PERCORE_HOME:-/var/lib/percore}"' in content_of(state, "/usr/local/bin/percore")
    site = content_of(state, "/etc/nginx/sites-available/shop")
    assert site.count("server 127.0.0.1:5000 max_fails=0;") == 2
    assert "least_conn;" in site
    assert "X-Forwarded-For" in site
    assert "X-Real-IP" in site


def enabled_units(state: HostState) -> list[tuple[str, bool]]:
    return [(spec["name"], spec["enabled"]) for spec in state.before if "enabled" in spec]


def test_what_a_deploy_starts_starts_at_boot_unless_the_inventory_says_otherwise() -> None:
    assert enabled_units(render()) == [("percore.service", True), ("nginx.service", True)]
    assert enabled_units(render({"startup": False})) == [("percore.service", False)]
    with pytest.raises(UsageError, match="variable 'startup' should be true or false and is 'no'"):
        render({"startup": "no"})


def test_a_shared_directory_belongs_to_the_user_of_the_apps() -> None:
    made = {spec["path"]: spec for spec in render({"shared": ["uploads", "data/files"]}).prepare if "path" in spec}
    assert made["/srv/shop/shared/uploads"]["owner"] == "percore"
    assert "/srv/shop/shared/data/files" in made
    assert settings_of(plan({"shared": "uploads"})).shared == ("uploads",)


@pytest.mark.parametrize(
    "name", ["/etc", "../x", ".", "", "a//b", "up*", "a/", ".percore/files", ["a", "a/b"], {"a": 1}, 3.5]
)
def test_a_shared_directory_lies_in_the_apps_own_and_in_no_other(name: object) -> None:
    with pytest.raises(UsageError, match="variable 'shared' should be a list of directories in the app's directory"):
        settings_of(plan({"shared": name if isinstance(name, list) else [name]}))


def test_without_nginx_and_systemd_neither_is_touched() -> None:
    state = render({"nginx": False, "service_manager": "process", "percore_user": ""})
    kinds = {spec["kind"] for spec in state.resources()}
    assert kinds == {"directory", "file", "link"}
    assert state.health() == {"path": None, "seconds": 10, "port": 5000}


def test_the_same_input_gives_the_same_fingerprint_and_every_change_another() -> None:
    record = {"apps": []}
    fingerprint = render().fingerprint("artifact", record)
    assert render().fingerprint("artifact", record) == fingerprint
    assert render({"port": 5001}).fingerprint("artifact", record) != fingerprint
    assert render().fingerprint("other", record) != fingerprint
    assert render().fingerprint("artifact", {"apps": [1]}) != fingerprint


def test_inventory_variables_win_over_the_defaults_of_roles() -> None:
    assert settings_of(plan()).deploy_to == "/srv/shop"
    assert settings_of(plan({"deploy_to": "/opt/{{ app_name }}"})).deploy_to == "/opt/shop"


def test_a_value_that_is_one_expression_keeps_its_type() -> None:
    settings = settings_of(plan({"base": 4000, "port": "{{ base + 80 }}", "nginx": "{{ base > 5000 }}"}))
    assert settings.port == 4080
    assert settings.nginx is False


def test_variables_in_a_circle_are_refused_with_the_circle() -> None:
    with pytest.raises(UsageError, match="circle: a > b > a"):
        settings_of(plan({"deploy_to": "{{ a }}", "a": "{{ b }}", "b": "{{ a }}"}))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("port", "http", "variable 'port' should be a port from 1 to 65535 and is 'http'"),
        ("port", True, "variable 'port' should be a port from 1 to 65535 and is True"),
        ("nginx", "yes", "variable 'nginx' should be true or false and is 'yes'"),
        ("service_manager", "sysv", "variable 'service_manager' should be systemd or process and is 'sysv'"),
        ("deploy_to", "srv", "variable 'deploy_to' should be an absolute path without '..', and not / and is 'srv'"),
        ("env", ["A=1"], "variable 'env' should be a mapping"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(name: str, value: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(plan({name: value}))
    assert told in str(caught.value)
    assert caught.value.where == "host web1"


def test_an_undefined_variable_is_told_with_host_place_and_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(plan({"deploy_to": "/srv/{{ app_nane }}"}))
    assert str(caught.value) == (
        "host web1, variable deploy_to: variable 'app_nane' is not defined -> did you mean 'app_name'?"
    )


def test_an_undefined_variable_in_a_template_is_told_with_its_line(tmp_path: Path) -> None:
    text = "files:\n  - {path: /etc/own, template: own.j2}\n"
    with pytest.raises(UsageError, match=r"template own\.j2:2: variable 'prot' is not defined -> did you mean 'port'"):
        render_state(own_role(tmp_path, text, **{"own.j2": "first\nsecond {{ prot }}\n"}), known=KNOWN)


def test_a_template_that_does_not_parse_is_told_with_its_line(tmp_path: Path) -> None:
    text = "files:\n  - {path: /etc/own, template: own.j2}\n"
    with pytest.raises(UsageError, match=r"own\.j2:2: template is not valid"):
        render_state(own_role(tmp_path, text, **{"own.j2": "first\n{% if %}\n"}), known=KNOWN)


def test_a_missing_template_is_told_with_the_role(tmp_path: Path) -> None:
    text = "files:\n  - {path: /etc/own, template: none.j2}\n"
    with pytest.raises(UsageError, match=r"own/role\.yml: template 'none\.j2' does not exist"):
        render_state(own_role(tmp_path, text), known=KNOWN)


def test_items_and_roles_are_left_out_when_their_condition_is_false(tmp_path: Path) -> None:
    text = "files:\n  - {path: /a, content: x, when: port > 6000}\n  - {path: /b, content: x, when: port < 6000}\n"
    state = render_state(own_role(tmp_path, text), known=KNOWN)
    paths = [spec.get("path") for spec in state.before]
    assert "/b" in paths
    assert "/a" not in paths


def test_commands_are_split_as_a_shell_splits_them(tmp_path: Path) -> None:
    text = "commands:\n  - {run: sh -c 'touch \"/a b\"', unless: test -e '/a b'}\n"
    state = render_state(own_role(tmp_path, text), known=KNOWN)
    command = next(spec for spec in state.before if spec["kind"] == "command" and spec["run"][0] == "sh")
    assert (command["run"], command["unless"]) == (["sh", "-c", 'touch "/a b"'], ["test", "-e", "/a b"])
    (tmp_path / "roles" / "own" / "role.yml").write_text("commands:\n  - run: echo 'open\n")
    with pytest.raises(UsageError, match="cannot be split into words"):
        render_state(plan({"roles": ["app", "own"]}, tmp_path), known=KNOWN)


def test_an_encrypted_file_of_a_role_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCORE_VAULT_PASSWORD", "pw")
    passwords.keyring.cache_clear()
    made = own_role(tmp_path, "files:\n  - {path: /etc/key, copy: key}\n")
    (tmp_path / "roles" / "own" / "files").mkdir()
    (tmp_path / "roles" / "own" / "files" / "key").write_text(seal(b"the key", b"pw"))
    assert content_of(render_state(made, known=KNOWN), "/etc/key") == "the key"
    passwords.keyring.cache_clear()


def test_a_mode_written_as_a_number_means_what_it_looks_like(tmp_path: Path) -> None:
    text = "files:\n  - {path: /a, content: x, mode: 0640}\n  - {path: /b, content: x, mode: '0640'}\n"
    state = render_state(own_role(tmp_path, text), known=KNOWN)
    assert [spec["mode"] for spec in state.before if spec.get("path") in ("/a", "/b")] == ["0640", "0640"]


def test_templates_cannot_reach_into_python() -> None:
    with pytest.raises(UsageError, match="template fails: access to attribute"):
        settings_of(plan({"deploy_to": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}))


def test_the_edge_configuration_lists_every_host() -> None:
    servers = [{"host": f"web{n}", "address": f"10.0.0.{n}", "port": 80} for n in (1, 2)]
    values = {"app_name": "my-shop", "env_name": "test", "servers": servers, "server_name": "_"}
    text = render_text("nginx-edge.conf.j2", values, PROJECT / "templates")
    assert "upstream my_shop {" in text
    assert "server 10.0.0.1:80; # web1\n    server 10.0.0.2:80; # web2" in text


def test_the_documented_example_shows_every_key_and_renders(tmp_path: Path) -> None:
    document = (PROJECT / "docs" / "reference" / "roles.md").read_text()
    example = document.split("```yaml\n")[1].split("```")[0]
    templates = ("metrics.conf.j2", "metrics.service.j2", "metrics-site.conf.j2")
    made = own_role(tmp_path, example, **dict.fromkeys(templates, "# {{ app_name }}\n"))
    role = next(role for role in made.roles if role.name == "own")
    assert set(role.items) == set(ITEM_KEYS)
    assert {key for handler in role.handlers for key in handler} == set(HANDLER_KEYS)
    for kind, keys in ITEM_KEYS.items():
        shown = {key for item in role[kind] for key in item}
        assert set(keys.required) <= shown
    assert {*EVERYWHERE} <= {key for kind in ITEM_KEYS for item in role[kind] for key in item}
    state = render_state(made, known={**KNOWN, "facts": {"os": "debian"}})
    assert content_of(state, "/etc/motd") == "Welcome to web1\n"
    assert {spec["kind"] for spec in state.resources()} >= {
        "packages",
        "user",
        "directory",
        "file",
        "link",
        "absent",
        "unit",
        "unit-file",
        "command",
        "site",
    }


NOTIFYING = """
handlers:
  - {name: last, run: "true"}
  - {name: never, restart: x.service, when: false}
files:
  - {path: /a, content: x, notify: [last, never]}
units:
  - {name: x.service, template: x.j2, active: true, notify: last}
"""


def test_a_change_notifies_the_handlers_that_there_are_and_a_unit_its_own_restart(tmp_path: Path) -> None:
    state = render_state(own_role(tmp_path, NOTIFYING, **{"x.j2": "[Unit]\n"}), known=KNOWN)
    notified = {spec.get("path", spec.get("name")): spec.get("notify") for spec in state.before}
    assert notified["/a"] == ["last"]
    assert notified["/etc/systemd/system/x.service"] == ["restart x.service", "last"]
    assert notified["x.service"] == ["last"]
    kinds = {handler["name"]: handler["kind"] for handler in state.handlers}
    assert kinds == {"last": "run", "restart x.service": "restart", "handover percore.service": "handover"}


def test_a_handler_that_does_not_exist_is_told_with_the_nearest(tmp_path: Path) -> None:
    made = own_role(tmp_path, NOTIFYING.replace("notify: [last", "notify: [lasst"), **{"x.j2": ""})
    with pytest.raises(UsageError, match=r"files\[0\].notify: handler 'lasst' does not exist -> did you mean 'last'"):
        render_state(made, known=KNOWN)


def test_tags_of_a_role_and_of_an_item_add_up_and_make_no_other_release(tmp_path: Path) -> None:
    text = "tags: [base]\nfiles:\n  - {path: /a, content: x, tags: 'b, c'}\n"
    made = render_state(own_role(tmp_path, text), known=KNOWN)
    assert next(spec["tags"] for spec in made.before if spec.get("path") == "/a") == ["base", "b", "c"]
    (tmp_path / "roles" / "own" / "role.yml").write_text(
        text.replace("tags: [base]\n", "").replace(", tags: 'b, c'", "")
    )
    without = render_state(plan({"roles": ["app", "own"]}, tmp_path), known=KNOWN)
    assert made.fingerprint("", {}) == without.fingerprint("", {})


def test_what_a_host_says_is_never_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_SECRET", "s3cr3t")
    said = "{{ lookup('env', 'CONTROL_SECRET') }}{% set x = app_path %}{# #}"
    facts = {"os": said, "deep": {"list": [said, {said: [said]}]}}
    role = """
        defaults: {through: "{{ facts.deep.list[0] }}", whole: "{{ facts.deep }}", direct: "{{ facts }}"}
        files:
          - {path: /etc/a, content: "{{ facts.os }}|{{ facts['deep'].list[0] }}|{{ through }}|{{ python_path }}|{{ package_id }}"}
          - {path: /etc/b, template: own.j2}
          - {path: /etc/c, content: "{{ whole.list[1] }}|{{ direct.os }}"}
        """
    made = own_role(
        tmp_path, role, **{"own.j2": "{{ facts.os }} {{ facts.deep.list[1][facts.os][0] }} {{ whole }} {{ facts }}"}
    )
    state = render_state(made, known={**KNOWN, "facts": facts, "python_path": said, "package_id": said})
    assert content_of(state, "/etc/a") == "|".join([said] * 5)
    for path in ("/etc/b", "/etc/c", "/usr/local/bin/percore"):
        assert said in content_of(state, path).replace("\\'", "'")
    assert not any(b"s3cr3t" in content for content in state.files.values())
    assert "s3cr3t" not in str(state.resources())

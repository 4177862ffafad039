"""Plans and rendering: values become what a host should have, and each fault says where it is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.plan.host_plan import HostPlan, make_plan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.roles import EVERYWHERE, HANDLER_KEYS, ITEM_KEYS
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
    spec = next(spec for spec in (*state.resources(), *state.setup) if spec.get("path") == path)
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
    assert "PERCORE_HOME=/var/lib/percore\n" in content_of(state, "/usr/local/bin/percore")
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


def test_the_documented_example_shows_every_key_and_renders(tmp_path: Path) -> None:
    document = (PROJECT / "docs" / "reference" / "roles.md").read_text()
    example = document.split("```yaml\n")[1].split("```")[0]
    templates = ("metrics.conf.j2", "metrics.service.j2", "metrics-site.conf.j2")
    made = own_role(tmp_path, example, **dict.fromkeys(templates, "# {{ app_name }}\n"))
    role = next(role for role in made.roles if role.name == "own")
    assert set(role.items) == {*ITEM_KEYS} - {"nodes"}
    assert {key for handler in role.handlers for key in handler} == set(HANDLER_KEYS)
    for kind, keys in ITEM_KEYS.items():
        shown = {key for item in role[kind] for key in item}
        assert set(keys.required) <= shown or kind == "nodes"
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


def test_the_documented_role_of_a_host_renders(tmp_path: Path) -> None:
    document = (PROJECT / "docs" / "reference" / "roles.md").read_text()
    made = own_role(tmp_path, document.split("```yaml\n")[2].split("```")[0])
    kinds = ["packages", "node", "file", "command"]
    assert [spec["kind"] for spec in render_state(made, known=KNOWN).setup] == kinds
    assert settings_of(made).env["REPORTS_NODE"] == "/opt/node/20/bin/node"


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
    assert shlex.quote(said) in content_of(state, "/usr/local/bin/percore")
    for path in ("/etc/b", "/etc/c"):
        assert said in content_of(state, path).replace("\\'", "'")
    assert not any(b"s3cr3t" in content for content in state.files.values())
    assert "s3cr3t" not in str(state.resources())


# -- what a host has whatever release runs -----------------------------------------------------------------------------

PROVISIONED = {
    "roles": ["base", "node", "python", "redis", "postgresql", "firewall", "tls", "loadbalancer", "app"],
    "postgresql_password": "it's ours", "redis_password": "p/w", "tls_self_signed": True, "groups": {"app": ["web1"]},
}  # fmt: skip
DEBIAN = {**KNOWN, "facts": {"os_codename": "bookworm"}}


def render_provisioned(**variables: Any) -> HostState:
    return render_state(plan({**PROVISIONED, **variables}), known=DEBIAN)


def set_up_of(state: HostState, kind: str) -> list[dict[str, Any]]:
    return [spec for spec in state.setup if spec["kind"] == kind]


def test_roles_of_the_host_are_set_up_and_belong_to_no_release() -> None:
    state = render_provisioned()
    wanted = {"nginx", "redis-server", "postgresql-15", "nftables", "haproxy", "openssl", "python3-venv"}
    packages = {package["name"] for spec in set_up_of(state, "packages") for package in spec["packages"]}
    assert wanted - {"nginx"} <= packages
    assert not any("redis" in str(spec) for spec in (*state.prepare, *state.before, *state.after))
    assert [spec["kind"] for spec in state.set_up(with_app=True)].count("user") == 0
    assert [spec["kind"] for spec in state.set_up(with_app=False)].count("user") == 1


def test_a_host_without_the_app_is_rendered_without_its_settings() -> None:
    state = render_state(make_plan("db1", {"roles": ["redis"]}, env="test", project=PROJECT), known=DEBIAN)
    assert state.settings is None
    assert set_up_of(state, "unit")[0]["name"] == "redis-server.service"


def test_the_app_is_told_where_its_servers_are_and_its_own_environment_wins() -> None:
    env = render_provisioned().settings.env  # type: ignore[union-attr]
    assert env["DATABASE_URL"] == "postgresql://shop:it%27s%20ours@127.0.0.1:5432/shop"
    assert env["REDIS_URL"] == "redis://:p%2Fw@127.0.0.1:6379/0"
    own = render_provisioned(env={"REDIS_URL": "redis://elsewhere"}).settings
    assert own is not None
    assert own.env["REDIS_URL"] == "redis://elsewhere"


def test_secret_files_are_never_shown_and_quoted_for_their_readers() -> None:
    state = render_provisioned(postgresql_password="a:b\\c'd")
    for path in ("/etc/percore/postgresql/shop.sql", "/etc/percore/postgresql/shop.pass"):
        assert next(spec for spec in state.setup if spec.get("path") == path)["secret"] == "all"
    texts = {content.decode() for content in state.files.values()}
    assert "*:*:*:*:a\\:b\\\\c'd\n" in texts
    assert any("PASSWORD 'a:b\\c''d';" in text for text in texts)


def test_several_versions_of_node_are_installed_side_by_side() -> None:
    state = render_provisioned(node_version="22.11.0", node_versions=[20, "18.19"])
    assert [spec["version"] for spec in set_up_of(state, "node")] == ["22.11.0", "20", "18.19"]
    link = next(spec for spec in state.setup if spec.get("path") == "/usr/local/bin/node")
    assert link["to"] == "/opt/node/22.11.0/bin/node"
    debian = render_provisioned(node_version="debian")
    assert set_up_of(debian, "node") == []
    assert "nodejs" in str(set_up_of(debian, "packages"))


def test_a_version_that_yaml_read_as_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="in quotes where it has one dot"):
        render_provisioned(node_version=22.10)


def test_each_makes_an_item_of_every_entry(tmp_path: Path) -> None:
    text = "scope: host\ndefaults: {people: [{name: ann, groups: [adm]}, {name: bob, groups: []}]}\nusers:\n"
    text += "  - {name: '{{ item.name }}', groups: '{{ item.groups }}', each: '{{ people }}'}\n"
    state = render_state(own_role(tmp_path, text), known=KNOWN)
    assert [(spec["name"], spec["groups"]) for spec in set_up_of(state, "user")] == [("ann", ["adm"]), ("bob", [])]


def test_each_of_what_is_no_list_is_refused_with_its_place(tmp_path: Path) -> None:
    made = own_role(tmp_path, "scope: host\npackages:\n  - {name: '{{ item }}', each: '{{ app_name }}'}\n")
    with pytest.raises(UsageError, match=r"packages\[0\].each: each should be a list and is 'shop'"):
        render_state(made, known=KNOWN)


def test_the_firewall_tells_addresses_of_both_families_apart() -> None:
    state = render_provisioned(
        firewall_load_balancers=["10.0.0.5", "2001:db8::5"], firewall_ssh_from=["10.0.0.0/8"],
        firewall_rules=[{"from": "10.1.0.0/16", "ports": [5432]}, {"ports": [51820], "protocol": "udp"}],
    )  # fmt: skip
    spec = next(spec for spec in state.setup if spec.get("path") == "/etc/percore-firewall.nft")
    rules = {line.strip() for line in state.files[spec["sha256"]].decode().splitlines()}
    assert {
        "ip saddr 10.0.0.0/8 tcp dport { 22 } accept", "tcp dport { 80, 443 } accept",
        "ip saddr 10.0.0.5 tcp dport { 5000 } accept", "ip6 saddr 2001:db8::5 tcp dport { 5000 } accept",
        "ip saddr 10.1.0.0/16 tcp dport { 5432 } accept", "udp dport { 51820 } accept",
    } <= rules  # fmt: skip


def test_the_app_s_nginx_serves_https_and_believes_its_load_balancers_alone() -> None:
    made = render_provisioned(nginx_certificate="{{ tls_path }}", load_balancers=["10.0.0.5"])
    site = content_of(made, "/etc/nginx/sites-available/shop")
    for line in (
        "listen 443 ssl http2 default_server;", "ssl_certificate_key /etc/percore/tls/shop.pem;", "10.0.0.5 1;",
        "set_real_ip_from 10.0.0.5;", "proxy_set_header X-Forwarded-Proto $app_shop_proto;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ):  # fmt: skip
        assert line in site
    firewall = content_of(made, "/etc/percore-firewall.nft")
    assert "ip saddr 10.0.0.5 tcp dport { 5000 } accept" in firewall


def test_a_site_without_certificate_and_load_balancers_believes_nobody() -> None:
    site = content_of(render_provisioned(), "/etc/nginx/sites-available/shop")
    for word in ("ssl_certificate", "geo", "real_ip_header", "308", "http2"):
        assert word not in site
    assert "X-Forwarded-For $remote_addr;" in site
    assert "X-Forwarded-Proto $scheme;" in site


def test_the_password_of_redis_is_in_a_file_of_its_own_that_no_diff_shows() -> None:
    state = render_provisioned(redis_password='a"b\\c')
    spec = next(spec for spec in state.setup if spec.get("path") == "/etc/redis/percore-password.conf")
    assert (spec["secret"], spec["mode"]) == ("all", "0640")
    assert state.files[spec["sha256"]] == b'requirepass "a\\"b\\\\c"\n'
    assert "requirepass" not in content_of(state, "/etc/redis/redis.conf")

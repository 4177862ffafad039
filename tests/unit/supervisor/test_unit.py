"""The one unit of both: what a deploy writes and what `percore startup` writes, judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from percore.deploy.build.host_package import make_package
from percore.errors import UsageError
from percore.supervisor.base.systemd_unit import FILTERS, command_line, make_unit, template_path, unit_text
from tests.unit.deploy.test_render import content_of, render

ROOT = Path(__file__).resolve().parents[3]
MOST_EXPOSURE = 3.5


def startup_unit(user: str, home: str = "/var/lib/percore") -> str:
    command = command_line(["/usr/local/bin/percore", "daemon"])
    return make_unit({"percore_user": user, "percore_home": home, "daemon_command": command, "unit_options": ""})


def deploy_unit(**variables: object) -> str:
    return content_of(render(variables), "/etc/systemd/system/percore.service")


def exposure(text: str, folder: Path) -> float:
    path = folder / "percore.service"
    path.write_text(text)
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot judge a file: {done.stderr.strip()[:100]}")
    return float(found[1])


needs_judge = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


@needs_judge
@pytest.mark.parametrize("user", ["percore", "root"])
def test_the_unit_of_a_deploy_exposes_little(tmp_path: Path, user: str) -> None:
    assert exposure(deploy_unit(percore_user=user), tmp_path) <= MOST_EXPOSURE


@needs_judge
@pytest.mark.parametrize("user", ["deployer", "root"])
def test_the_unit_of_startup_exposes_little(tmp_path: Path, user: str) -> None:
    assert exposure(startup_unit(user), tmp_path) <= MOST_EXPOSURE


def web_unit(**variables: object) -> str:
    state = render({"roles": ["app", "monitoring"], **variables})
    return content_of(state, "/etc/systemd/system/percore-web.service")


@needs_judge
@pytest.mark.parametrize("user", ["percore", "root"])
def test_the_unit_of_percore_web_exposes_little(tmp_path: Path, user: str) -> None:
    assert exposure(web_unit(percore_user=user), tmp_path) <= MOST_EXPOSURE


def test_percore_web_gets_its_token_in_a_file_and_its_names_as_words() -> None:
    unit = web_unit(web_token="t" * 24, web_host="10.0.0.1", web_names=["a b"], web_with_apps=True)
    [command] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert command == (
        "ExecStart=/usr/local/bin/percore web --host 10.0.0.1 --port 9615 --scrape-interval 5"
        ' --token-file /etc/percore/web-token --with-apps --allow-host "a b"'
    )
    assert "t" * 24 not in unit
    state = render({"roles": ["app", "monitoring"], "web_token": "t" * 24, "web_allow_actions": True})
    assert content_of(state, "/etc/percore/web-token") == f"{'t' * 24} actions\n"


@pytest.mark.parametrize("user", ["percore", "root"])
def test_a_deploy_and_startup_write_the_same_unit(user: str) -> None:
    assert deploy_unit(percore_user=user) == startup_unit(user)


def test_a_user_who_is_not_root_has_no_capability_and_root_those_that_its_apps_users_need() -> None:
    assert "\nCapabilityBoundingSet= \nAmbientCapabilities= \n" in startup_unit("percore")
    assert "\nCapabilityBoundingSet=CAP_SETUID CAP_SETGID " in startup_unit("root")


LOOSENED = {
    "unit_capabilities": ("CAP_NET_BIND_SERVICE", "AmbientCapabilities= CAP_NET_BIND_SERVICE"),
    "unit_no_new_privileges": (False, "NoNewPrivileges=False"),
    "unit_protect_system": (False, "ProtectSystem=False"),
    "unit_writable_paths": ("/etc/mine", "ReadWritePaths=/etc/mine"),
    "unit_private_devices": ("no", "PrivateDevices=no"),
    "unit_restrict_namespaces": ("no", "RestrictNamespaces=no"),
    "unit_address_families": ("AF_PACKET", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET"),
    "unit_system_calls": ("@mount", "SystemCallFilter=@system-service @mount"),
    "unit_options": ("CPUQuota=50%", "CPUQuota=50%"),
}


@pytest.mark.parametrize("name", LOOSENED)
def test_what_an_app_needs_back_is_one_variable_that_the_page_of_roles_explains(name: str) -> None:
    value, line = LOOSENED[name]
    assert f"\n{line}\n" in deploy_unit(**{name: value})
    assert re.search(rf"`{name}[:`]", (ROOT / "docs" / "reference" / "roles.md").read_text())


def test_every_variable_of_the_template_is_one_of_the_role() -> None:
    used = set(re.findall(r"\{\{ (\w+)", Path(template_path()).read_text()))
    assert used == {"percore_user", "percore_home", "daemon_command", *LOOSENED}
    role = (ROOT / "roles" / "percore" / "role.yml").read_text()
    assert all(f"\n  {name}:" in role for name in used)


@pytest.mark.parametrize("path", ["/a b", '/a"b', "/100%n", "/a\\x", "/a\nExecStartPre=/bin/sh", "/a\tb", "/$HOME"])
def test_a_home_of_any_name_is_one_value_of_one_line(path: str) -> None:
    unit = startup_unit("percore", path)
    [line] = [line for line in unit.splitlines() if line.startswith("Environment=")]
    assert line == f'Environment="PERCORE_HOME={unit_text(path)}"'
    assert _as_systemd_reads_it(line) == f"PERCORE_HOME={path}"
    assert "\nExecStartPre" not in unit
    with pytest.raises(UsageError, match="'percore_home' should be an absolute path"):
        deploy_unit(percore_home=path)


def _as_systemd_reads_it(line: str) -> str:
    quoted = re.fullmatch(r'Environment="((?:[^"\\]|\\.)*)"', line)
    assert quoted
    text = re.sub(r"%(.)", lambda match: {"%": "%"}[match[1]], quoted[1])  # any other would be a specifier
    return re.sub(r"\\(x[0-9a-f]{2}|.)", lambda match: chr(int(match[1][1:], 16)) if match[1][1:] else match[1], text)


def test_the_words_of_a_command_stay_words() -> None:
    assert command_line(["/a/b-c", "x y", 'q"', "50%", "$HOME"]) == '/a/b-c "x y" "q\\"" "50%%" "$$HOME"'


def test_the_template_lies_among_the_templates_and_travels_in_every_package(tmp_path: Path) -> None:
    assert Path(template_path()) == ROOT / "templates" / "percore.service.j2"
    assert not list((ROOT / "percore").rglob("*.j2"))
    import platform
    import tarfile

    package = make_package(ROOT, system="Linux", machine=platform.machine())
    with tarfile.open(package.path) as archive:
        packed = archive.extractfile("percore/supervisor/percore.service.j2")
        assert packed
        assert packed.read().decode() == Path(template_path()).read_text()
    assert set(FILTERS) >= set(re.findall(r" \| (unit_\w+) \}\}", Path(template_path()).read_text()))

"""No diff shows a secret, nor what it was before it was changed: plan, deploy --diff, drift and rollback, on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.deploy import operations
from percore.deploy.masking import REDACTOR
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import known_release, preview, rollout
from percore.deploy.vault import passwords
from percore.deploy.vault.envelope import seal
from tests.deploy.project import SOURCE, Project

VAULT = "the-vault-password"
FIRST, SECOND = "first-hunter2 &'quoted'", "second-hunter2/%$x"
PEM = "-----BEGIN KEY-----\n{0}AAAAAAAAAAAAAAAAAAA\n{0}BBBBBBBBBBBBBBBB\n{0}==\n-----END KEY-----\n"
TEMPLATE = """mode = {{ mode }}
password = {{ password }}
again = {{ password | b64encode }} {{ password | to_json }} {{ password | quote }} {{ password | urlencode }}
basic = {{ ('user:' ~ password) | b64encode }}
pin = {{ pin }}
{{ pem }}
end = 1
"""
ROLE = """
requires: []
files:
  - {path: "{{ deploy_to }}/etc/app.conf", template: app.conf.j2}
  - {path: "{{ deploy_to }}/etc/sealed.conf", copy: sealed.conf}
  - {path: "{{ deploy_to }}/etc/{{ token }}.txt", content: "x"}
commands:
  - {run: "true {{ token }}"}
"""


EXAMPLE = ("app_", "port:", "health_path:")
"""Variables of the checkout's own example."""


class Secrets:
    """The project, with secrets that can be changed."""

    def __init__(self, project: Project) -> None:
        self.project = project
        roles = project.folder / "roles"
        roles.unlink()
        roles.mkdir()
        for name in ("app", "percore", "nginx"):
            (roles / name).symlink_to(SOURCE / "roles" / name)
        self.role = roles / "own"
        for name in ("files", "templates"):
            (self.role / name).mkdir(parents=True)
        (self.role / "role.yml").write_text(ROLE)
        (self.role / "templates" / "app.conf.j2").write_text(TEMPLATE)
        self.shown: list[str] = []

    def set(self, password: str, letter: str, *, mode: str = "a", pin: str = "") -> None:
        """All secrets that these stand for, and remembers them."""
        values = {
            "password": password,
            "pem": PEM.format(letter),
            "pin": pin or f"{letter}7",
            "token": f"token-{letter}-token",
        }
        lines = [
            "all:",
            "  hosts:",
            "    localhost: {ansible_connection: local}",
            "  vars:",
            "    roles: [percore, app, own]",
        ]
        base = (SOURCE / "inventories" / "local.yml").read_text().split("  vars:\n")[1]
        lines += [line for line in base.splitlines() if not line.strip().startswith(EXAMPLE)]
        lines += ["    app_name: web", "    app_path: app", f"    port: {self.project.port}", f"    mode: {mode}"]
        for name, value in values.items():
            lines.append(f"    {name}: !vault |")
            lines += [f"      {line}" for line in seal(value.encode(), VAULT.encode()).splitlines()]
        (self.project.folder / "inventories" / "local.yml").write_text("\n".join(lines) + "\n")
        content = f"name = app\npassword = sealed-{letter}-{letter}\nport = 80\n"
        (self.role / "files" / "sealed.conf").write_text(seal(content.encode(), VAULT.encode()))
        self.shown += [password, json.dumps(password)[1:-1], base64.b64encode(password.encode()).decode()]
        self.shown += [base64.b64encode(f"user:{password}".encode()).decode()[8:-6], f"pin = {values['pin']}"]
        self.shown += [values["token"], f"sealed-{letter}-{letter}", f"{letter}AAAAAAAA", f"{letter}BBBBBBBB"]
        forget()

    @property
    def conf(self) -> Path:
        return self.project.folder / ".percore" / "etc" / "app.conf"


def forget() -> None:
    """As a run of its own, which knows the secrets it opens and no others."""
    REDACTOR._secrets.clear()
    REDACTOR._short.clear()
    passwords.keyring.cache_clear()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secrets]:
    monkeypatch.setenv("PERCORE_VAULT_PASSWORD", VAULT)
    made = Secrets(Project(tmp_path))
    made.set(FIRST, "q")
    made.project.deploy()
    yield made
    if (tmp_path / ".percore" / "bin").exists():
        operations.stop(Scope("local", tmp_path), Report(quiet=True))
    forget()


def said(capsys: pytest.CaptureFixture[str], secrets: Secrets) -> str:
    captured = capsys.readouterr()
    text = captured.out + captured.err
    found = [secret for secret in secrets.shown if secret in text]
    assert not found, text
    return text


def test_no_diff_shows_a_secret_or_what_it_was_before(secrets: Secrets, capsys: pytest.CaptureFixture[str]) -> None:
    secrets.set(SECOND, "z", mode="b")
    with pytest.raises(ChangesPending):
        preview.preview(secrets.project.scope, Report(), diff=True)
    text = said(capsys, secrets)
    assert "-mode = a" in text
    assert "+mode = b" in text
    assert text.count("password = ********") == 2
    assert "sealed.conf: it is encrypted, so its lines are not shown" in text
    forget()
    with pytest.raises(ChangesPending):
        preview.preview(secrets.project.scope, Report(quiet=True), diff=True, as_json=True)
    said(capsys, secrets)
    forget()
    rollout.deploy(secrets.project.scope, Report(), diff=True)
    said(capsys, secrets)


def test_a_rollback_shows_neither_the_secrets_it_brings_back_nor_those_that_go(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.set(SECOND, "z", mode="b")
    secrets.project.deploy()
    secrets.set("third-hunter2", "w", mode="c")
    capsys.readouterr()
    known_release.rollback(secrets.project.scope, Report())
    text = said(capsys, secrets)
    assert "+mode = a" in text
    assert "it is encrypted, so its lines are not shown" in text


def test_drift_shows_neither_the_secrets_of_a_release_nor_those_that_somebody_wrote(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.conf.write_text(
        secrets.conf.read_text().replace(FIRST, "by-hand-hunter2", 1).replace("mode = a", "mode = x")
    )
    sealed = secrets.conf.with_name("sealed.conf")
    sealed.write_text(sealed.read_text() + "by-hand-sealed\n")
    secrets.conf.with_name("token-q-token.txt").unlink()
    secrets.shown += ["by-hand-hunter2", "by-hand-sealed"]
    forget()
    capsys.readouterr()
    with pytest.raises(ChangesPending):
        operations.drift(secrets.project.scope, Report(), as_json=False)
    text = said(capsys, secrets)
    assert "-mode = a" in text
    assert "edited by hand: create" in text


def test_a_file_that_was_edited_by_hand_is_not_shown_where_it_may_hold_a_secret(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.conf.write_text("old = by-hand-hunter2\nend = 1\n")
    secrets.shown.append("by-hand-hunter2")
    secrets.set(SECOND, "z")
    with pytest.raises(ChangesPending):
        preview.preview(secrets.project.scope, Report(), diff=True)
    text = said(capsys, secrets)
    assert "-********" in text
    assert "+mode = a" in text


def test_a_secret_that_a_template_no_longer_holds_is_not_shown_as_it_goes(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    (secrets.role / "templates" / "app.conf.j2").write_text("mode = {{ mode }}\nend = 1\n")
    (secrets.role / "role.yml").write_text(ROLE.split('  - {path: "{{ deploy_to }}/etc/{{ token')[0])
    forget()
    with pytest.raises(ChangesPending):
        preview.preview(secrets.project.scope, Report(), diff=True)
    assert "-password = ********" in said(capsys, secrets)

"""Our vault texts beside ansible-vault's: each opens what the other sealed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from percore.deploy.vault import edit
from percore.deploy.vault.envelope import seal
from percore.deploy.vault.passwords import Keyring
from tests.oracle.asking import Ansible

PASSWORD = "correct horse\tbattery é"
ORACLE = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def ring(password_file: Path, vault_id: str = "default") -> Keyring:
    return Keyring([(vault_id, str(password_file))])


def test_a_file_that_ansible_encrypted_is_opened(ansible: Ansible, tmp_path: Path, password_file: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text("password: sécret\n")
    assert ansible.ask("ansible-vault", "encrypt", "--vault-password-file", str(password_file), str(path)).code == 0
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    assert edit.view(path, ring(password_file)).decode() == "password: sécret\n"


def test_a_file_that_ansible_encrypted_under_an_id_is_opened(
    ansible: Ansible, tmp_path: Path, password_file: Path
) -> None:
    path = tmp_path / "vars.yml"
    path.write_text("password: x\n")
    named = ["--vault-id", f"prod@{password_file}", "--encrypt-vault-id", "prod"]
    assert ansible.ask("ansible-vault", "encrypt", *named, str(path)).code == 0
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")
    assert edit.view(path, ring(password_file, "prod")) == b"password: x\n"


@pytest.mark.parametrize("vault_id", ["default", "prod"])
def test_ansible_opens_a_file_that_we_encrypted(
    vault_id: str, ansible: Ansible, tmp_path: Path, password_file: Path
) -> None:
    path = tmp_path / "vars.yml"
    path.write_text("password: sécret\n")
    edit.encrypt(path, ring(password_file, vault_id), vault_id)
    answer = ansible.ask("ansible-vault", "view", "--vault-id", f"{vault_id}@{password_file}", str(path))
    assert answer.output.strip() == "password: sécret", answer


@ORACLE
@given(plain=strategies.text(min_size=1, max_size=200).filter(lambda text: "\r" not in text and text.strip() == text))
def test_ansible_opens_every_value_that_we_sealed(ansible: Ansible, tmp_path: Path, plain: str) -> None:
    password_file = tmp_path / "password"
    password_file.write_text(PASSWORD)
    path = tmp_path / "sealed"
    path.write_text(seal(plain.encode(), PASSWORD.encode()))
    answer = ansible.ask(
        "ansible-vault", "decrypt", "--vault-password-file", str(password_file), "--output", "-", str(path)
    )
    assert answer.output == plain, answer


def test_ansible_reads_inline_values_that_we_edited(ansible: Ansible, tmp_path: Path, password_file: Path) -> None:
    path = tmp_path / "hosts.yml"
    sealed = edit.encrypt_string("first", ring(password_file), name="      a")
    path.write_text(f"all:\n  hosts:\n    h:\n{sealed}\n      b: 1\n")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/b: 1/b: !vault second/' \"$1\"\n")
    editor.chmod(0o755)
    assert edit.edit(path, ring(password_file), editor=str(editor))
    assert sealed in path.read_text()
    words = ["-m", "debug", "-a", "msg={{ a }}-{{ b }}", "--vault-password-file", str(password_file)]
    assert "first-second" in ansible.ask("ansible", "-i", str(path), "h", *words).output

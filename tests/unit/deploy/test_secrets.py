"""Encrypted files and values: passwords, what is kept, what never lies about. The format is judged in tests/oracle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from percore.deploy.inventory import load_inventory
from percore.deploy.masking import MASK, REDACTOR
from percore.deploy.vault import edit, passwords
from percore.deploy.vault.envelope import parse_envelope, seal
from percore.deploy.vault.passwords import Keyring, keyring_from
from percore.deploy.vault.values import find_values
from percore.deploy.yaml_files import read_document
from percore.errors import UsageError
from tests.waiting import wait_for

OLD = Keyring([("default", "old")], {"old": b"old"})
NEW = Keyring([("default", "new")], {"new": b"new"})


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def sealed(name: str, plain: str, ring: Keyring = OLD, vault_id: str = "default") -> str:
    return f"{edit.encrypt_string(plain, ring, vault_id, name=name)}\n"


def test_a_password_comes_from_a_file_a_program_or_the_environment(tmp_path: Path) -> None:
    text = seal(b"plain", b"pass word")
    (tmp_path / "file").write_text("pass word\n")
    for environment in (
        {"PERCORE_VAULT_PASSWORD": "pass word"},
        {"ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "file")},
        {"ANSIBLE_VAULT_PASSWORD_FILE": program(tmp_path / "program", "echo 'pass word'")},
        {"ANSIBLE_VAULT_IDENTITY_LIST": f"x@{program(tmp_path / 'the-client', 'echo wrong')}, y@{tmp_path / 'file'}"},
    ):
        assert keyring_from(environment).open(text, "here") == "plain"


def test_a_client_program_is_told_the_vault_id(tmp_path: Path) -> None:
    path = program(tmp_path / "the-client", 'test "$1" = --vault-id && echo "$2-password"')
    text = seal(b"plain", b"prod-password", "prod")
    assert keyring_from({}, f"prod@{path}").open(text, "here") == "plain"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"PERCORE_VAULT_PASSWORD": "other"}, "no password opens this vault text of id 'default' (tried: default)"),
        ({"ANSIBLE_VAULT_PASSWORD_FILE": "/missing"}, "/missing: the vault password file does not exist"),
        ({"ANSIBLE_VAULT_PASSWORD_FILE": "/dev/null"}, "/dev/null: the vault password file does not exist"),
    ],
)
def test_a_password_that_is_missing_or_wrong_is_told(environment: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        keyring_from(environment).open(seal(b"plain", b"right"), "file.yml:3")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$ANSIBLE_VAULT;1.1;AES256\n6162", "the vault text is damaged"),
        ("$ANSIBLE_VAULT;1.1;AES256\nxyz", "the vault text is damaged"),
        ("$ANSIBLE_VAULT;1.0;AES\n6162", "vault version 1.0 with cipher AES is not supported"),
        ("hello", "this is not a vault text"),
    ],
)
def test_a_text_that_is_no_vault_text_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        OLD.open(text, "file.yml:3")


def test_a_changed_ciphertext_is_not_opened() -> None:
    text = seal(b"plain", b"old")
    last = "0" if text[-1] != "0" else "1"
    with pytest.raises(UsageError):
        OLD.open(text[:-1] + last, "file.yml:3")


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_goes_there_and_back_and_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_bytes(b"\x00\xffbinary\n")
    path.chmod(mode)
    edit.encrypt(path, OLD)
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    with pytest.raises(UsageError, match="it is encrypted already"):
        edit.encrypt(path, OLD)
    edit.rekey(path, OLD, NEW, "default")
    edit.decrypt(path, NEW)
    assert path.read_bytes() == b"\x00\xffbinary\n"
    assert path.stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["vars.yml"]


INLINE = "# top\na: {a}list:\n  - b: {b}    # behind\n  - plain\nflow: {{c: {c}, d: 1}}\nend: 1\n"


def inline_file(folder: Path) -> Path:
    path = folder / "vars.yml"
    flow = edit.encrypt_string("in flow", OLD).replace("!vault |\n", "").replace(" ", "").split("\n")
    block = sealed("b", "line one\nline two\n").removeprefix("b: ")
    path.write_text(
        INLINE.format(a=sealed("a", "first").removeprefix("a: "), b=block, c='!vault "' + "\\n".join(flow) + '"')
    )
    return path


def test_the_values_inside_a_file_are_shown_in_place(tmp_path: Path) -> None:
    shown = edit.view(inline_file(tmp_path), OLD).decode()
    block = "|\n      line one\n      line two\n"
    assert shown == INLINE.format(a='!vault "first"\n', b=f"!vault {block}", c='!vault "in flow"')


def test_an_edit_changes_only_the_ciphertexts_of_changed_values(tmp_path: Path) -> None:
    path = inline_file(tmp_path)
    before = path.read_text()
    former = {value.path: value.text for value in find_values(before, path)}
    editor = program(
        tmp_path / "editor", """sed -i 's/line two/line 2/; s/end: 1/end: !vault new/; s/# top/# head/' "$1" """
    )
    assert edit.edit(path, OLD, editor=editor)
    after = path.read_text()
    values = {value.path: value.text for value in find_values(after, path)}
    assert {key for key in values if values[key] != former.get(key)} == {("list", "0", "b"), ("end",)}
    opened = {key: OLD.open(text, "") for key, text in values.items()}
    assert opened[("list", "0", "b")] == "line one\nline 2\n"
    assert opened[("end",)] == "new"
    assert after.startswith("# head\n")
    assert "    # behind\n" in after
    assert not edit.edit(path, OLD, editor="true")
    assert path.read_text() == after


def test_a_rekey_of_one_vault_id_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    prod = Keyring([("prod", "p"), ("default", "old")], {"p": b"p", "old": b"old"})
    path.write_text(sealed("a", "one") + sealed("b", "two", prod, "prod"))
    kept = path.read_text().split("b:")[0]
    edit.rekey(path, prod, NEW, "default", only="prod")
    assert path.read_text().startswith(kept)
    values = {value.path[0]: value.text for value in find_values(path.read_text(), path)}
    assert OLD.open(values["a"], "") == "one"
    assert NEW.open(values["b"], "") == "two"


def test_an_editor_that_fails_or_writes_nonsense_changes_nothing(tmp_path: Path) -> None:
    path = inline_file(tmp_path)
    before = path.read_text()
    for editor in ("false", program(tmp_path / "editor", "echo 'a: {' > \"$1\""), "no-such-editor"):
        with pytest.raises(UsageError):
            edit.edit(path, OLD, editor=editor)
        assert path.read_text() == before


EDITING = """
import sys
from pathlib import Path
from percore.deploy.vault import edit
from percore.deploy.vault.passwords import Keyring
edit.edit(Path(sys.argv[1]), Keyring([("default", "old")], {"old": b"old"}), editor=sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_plain_copy_is_private_and_goes_when_the_edit_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "new.yml"
    memory = tmp_path / "memory"
    memory.mkdir()
    editor = program(tmp_path / "editor", f'ls -ld "$(dirname "$1")" "$1" > {tmp_path}/seen.new; '
                     f'mv {tmp_path}/seen.new {tmp_path}/seen; exec sleep 60')  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-c", EDITING, str(path), editor], env={**os.environ, "XDG_RUNTIME_DIR": str(memory)}
    )
    try:
        wait_for(lambda: (tmp_path / "seen").exists(), "the editor runs")
        folder, file = (tmp_path / "seen").read_text().splitlines()
        assert folder.startswith("drwx------")
        assert file.startswith("-rw-------")
        assert list(memory.iterdir())
    finally:
        child.send_signal(number)
    assert child.wait() == 128 + number
    assert not list(memory.iterdir())
    assert not path.exists()


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCORE_VAULT_PASSWORD", "old")
    passwords.keyring.cache_clear()
    monkeypatch.setattr(passwords.REDACTOR, "_secrets", set())


@pytest.mark.usefixtures("password")
def test_a_file_that_is_encrypted_as_a_whole_is_read_and_its_texts_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text("token: abc-def\nport: 5000\nmore: [{pin: 123456}]\n")
    edit.encrypt(path, OLD)
    document = read_document(path)
    assert document.root is not None
    origins = document.origins(document.root)
    assert (origins["token"].value, origins["token"].place) == ("abc-def", f"{path}:1")
    assert REDACTOR.text("abc-def on port 5000, pin 123456") == f"{MASK} on port 5000, pin {MASK}"


@pytest.mark.usefixtures("password")
def test_an_encrypted_value_that_is_empty_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text(sealed("a", ""))
    document = read_document(path)
    assert document.root is not None
    with pytest.raises(UsageError, match=r"vars\.yml:1: the encrypted value is empty"):
        passwords.open_sealed(document.origins(document.root)["a"].value)


def test_the_vault_id_is_written_only_where_it_is_not_the_default() -> None:
    assert seal(b"x", b"p").startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    assert seal(b"x", b"p", "prod").startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")
    assert parse_envelope(seal(b"x", b"p", "prod"), "").vault_id == "prod"


def test_a_password_file_may_be_encrypted_with_another_password(tmp_path: Path) -> None:
    (tmp_path / "outer").write_text("outer\n")
    (tmp_path / "inner").write_text(seal(b"inner\n", b"outer") + "\n")
    words = f"two@{tmp_path / 'inner'}"
    ring = keyring_from({"ANSIBLE_VAULT_IDENTITY_LIST": f"default@{tmp_path / 'outer'}"}, words)
    path = tmp_path / "vars.yml"
    path.write_text("a: 1\n")
    edit.encrypt(path, ring, "two")
    assert Keyring([("two", "x")], {"x": b"inner"}).open(path.read_text(), "here") == "a: 1\n"
    for alone in (words, f"{words},two@{tmp_path / 'inner'}"):
        with pytest.raises(UsageError, match="the vault password file is encrypted itself"):
            keyring_from({}, alone).password("two")


def test_a_source_that_is_missing_is_passed_over_where_another_password_opens_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    ring = keyring_from({"ANSIBLE_VAULT_IDENTITY_LIST": f"default@{tmp_path / 'theirs'},default@{tmp_path / 'mine'}"})
    assert ring.open(seal(b"plain", b"mine"), "here") == "plain"
    with pytest.raises(UsageError, match="theirs: the vault password file does not exist"):
        ring.open(seal(b"plain", b"theirs"), "here")


def test_with_id_match_only_the_password_of_its_own_id_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("right")
    environment = {"ANSIBLE_VAULT_IDENTITY_LIST": f"other@{tmp_path / 'file'}"}
    assert keyring_from(environment).open(seal(b"plain", b"right"), "here") == "plain"
    with pytest.raises(UsageError, match="no password opens this vault text of id 'default'"):
        keyring_from({**environment, "ANSIBLE_VAULT_ID_MATCH": "True"}).open(seal(b"plain", b"right"), "here")


@pytest.mark.parametrize("name", ["a;b", "a b", "é\n"])
def test_a_vault_id_that_a_header_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a vault id"):
        keyring_from({}, f"{name}@/a/file")


@pytest.mark.parametrize("before", ["\ufeff", "\n", "---\n", "# a comment\n", "x: 1\n"])
def test_a_vault_text_behind_something_else_is_told_and_not_shown_as_plain(before: str, tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text(before + seal(b"a: 1\n", b"old"))
    for verb in (edit.view, edit.decrypt):
        with pytest.raises(UsageError, match="the vault text does not begin with the first byte of the file"):
            verb(path, OLD)
    assert path.read_text() == before + seal_of(path)


def seal_of(path: Path) -> str:
    text = path.read_text()
    return text[text.index("$ANSIBLE_VAULT") :]


def test_a_file_in_which_nothing_is_encrypted_is_told(tmp_path: Path) -> None:
    for text in ("", "a: 1\n"):
        (tmp_path / "vars.yml").write_text(text)
        for verb in (edit.view, edit.decrypt):
            with pytest.raises(UsageError, match="nothing in it is encrypted"):
                verb(tmp_path / "vars.yml", OLD)


def test_an_encrypted_inventory_in_ini_form_shows_its_hosts_and_none_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCORE_VAULT_PASSWORD", "old")
    passwords.keyring.cache_clear()
    text = "[web]\nweb1.example.com\nhost-one db_pin=topsecret-1 port=5000 'two words=a b c d'\n[web:vars]\nlong = topsecret 2\n"
    for name in ("hosts", "hosts.ini"):
        (tmp_path / name).write_text(seal(text.encode(), b"old"))
        shown = REDACTOR.text(str(load_inventory(tmp_path / name).variables("host-one")))
        assert "topsecret" not in shown
        assert "a b c d" not in shown
        assert "5000" in shown
    assert REDACTOR.text("web1.example.com [web]") == "web1.example.com [web]"
    (tmp_path / "hosts").write_text(seal(b"[web]\nh db_pin=topsecret-3 oops\n", b"old"))
    with pytest.raises(UsageError) as refused:
        load_inventory(tmp_path / "hosts")
    assert "topsecret" not in REDACTOR.text(str(refused.value))
    passwords.keyring.cache_clear()

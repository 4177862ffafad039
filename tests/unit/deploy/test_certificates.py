"""A certificate and its key are judged before any host is touched; an ACME client obtains them once for all hosts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from percore.deploy.plan.certificates import ends_within, tls_pair
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs.renewal import renew_certificates
from percore.deploy.vault import passwords
from percore.deploy.vault.envelope import seal
from percore.errors import PercoreError, UsageError
from tests.nginx import make_pair
from tests.unit.deploy.test_render import DEBIAN, plan, render_provisioned, render_state

OWN = {"tls_self_signed": False}


def refused(certificate: str, key: str, days: int = 7) -> str:
    with pytest.raises(UsageError) as caught:
        tls_pair(certificate, key, days, "/nowhere")
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value).replace("-----BEGIN PRIVATE KEY-----", "")
    return str(caught.value)


def test_a_pair_becomes_one_text_that_begins_with_the_certificate_and_ends_with_the_key() -> None:
    certificate, key = make_pair()
    assert tls_pair(f"subject: x\n{certificate}", f"\n{key}\n\n", 7, "/nowhere") == certificate + key


def test_what_is_no_pair_is_refused_with_what_is_wrong() -> None:
    certificate, key = make_pair()
    other_certificate, other_key = make_pair(name="other.example.com")
    locked = load_pem_private_key(key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    for pair, said in (
        (("", key), "tls_certificate is not set -> set tls_certificate and tls_key"),
        ((certificate, ""), "tls_key is not set"),
        ((certificate, other_key), "tls_key is not the key of tls_certificate"),
        ((key, certificate), "tls_certificate holds a key"),
        ((certificate, certificate), "tls_key is a certificate"),
        ((certificate, locked.decode()), "tls_key has a passphrase"),
        ((other_certificate + certificate, key), "tls_certificate begins with a certificate of its chain -> put the host's own"),
        ((certificate + other_certificate, key), "'CN=other.example.com' did not issue the certificate before it"),
        (("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", key), "tls_certificate holds no certificate as PEM"),
        (("certs/none.pem", key), "tls_certificate: file 'certs/none.pem' cannot be read: No such file"),
    ):  # fmt: skip
        assert said in refused(*pair)


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (-9, -1, "tls_certificate ended on 20"),
        (-1, 5, "within 7 days -> renew it, or lower tls_valid_days"),
        (1, 90, "begins on 20"),
    ],
)
def test_a_certificate_that_is_not_valid_long_enough_is_refused(begins: int, ends: int, said: str) -> None:
    assert said in refused(*make_pair(begins_in_days=begins, ends_in_days=ends))


def test_both_may_be_files_of_the_project_and_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_pair()
    password = tmp_path / "password"
    password.write_text("secret")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    passwords.keyring.cache_clear()
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "shop.crt").write_text(certificate)
    (tmp_path / "certs" / "shop.key").write_text(seal(key.encode(), b"secret"))
    try:
        assert tls_pair("certs/shop.crt", str(tmp_path / "certs" / "shop.key"), 7, tmp_path) == certificate + key
    finally:
        passwords.keyring.cache_clear()


def test_the_role_refuses_such_a_pair_while_it_is_rendered_and_shows_no_line_of_a_good_one() -> None:
    certificate, key = make_pair()
    made = render_provisioned(tls_self_signed=False, tls_certificate=certificate, tls_key=key)
    spec = next(spec for spec in made.setup if spec.get("path") == "/etc/percore/tls/shop.pem")
    assert (spec["secret"], spec["mode"]) == ("all", "0600")
    assert made.files[spec["sha256"]].decode() == certificate + key
    with pytest.raises(UsageError, match="tls_key is not the key of tls_certificate"):
        render_provisioned(tls_self_signed=False, tls_certificate=certificate, tls_key=make_pair()[1])
    with pytest.raises(UsageError, match="tls_certificate is not set"):
        render_provisioned(tls_self_signed=False)


# -- obtained once ---------------------------------------------------------------------------------------------------------


def hosts_of(project: Path, count: int = 3, **variables: Any) -> list[Any]:
    made = plan({"roles": ["tls"], **variables})
    scope = Scope("production", project)
    return [SimpleNamespace(plan=made, variables=resolve_variables(made), scope=scope) for _ in range(count)]


CLIENT = "echo once >>log; cp new/shop.* ."
FILES = {"tls_certificate": "shop.crt", "tls_key": "shop.key"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Where an ACME client has a new pair at hand."""
    (tmp_path / "new").mkdir()
    certificate, key = make_pair()
    (tmp_path / "new" / "shop.crt").write_text(certificate)
    (tmp_path / "new" / "shop.key").write_text(key)
    return tmp_path


def runs(project: Path) -> int:
    log = project / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_certificate_that_is_missing_or_ends_soon_is_obtained_once_for_all_hosts(project: Path) -> None:
    hosts = hosts_of(project, tls_renew_command=CLIENT, **FILES)
    renew_certificates(hosts, Report())
    assert runs(project) == 1
    renew_certificates(hosts, Report())
    assert runs(project) == 1
    (project / "shop.crt").write_text(make_pair(ends_in_days=20)[0])
    renew_certificates(hosts, Report())
    assert runs(project) == 2
    assert not ends_within(project / "shop.crt", 30)
    state = render_state(
        plan(
            {
                "roles": ["tls", "app"],
                **FILES,
                "tls_certificate": f"{project}/shop.crt",
                "tls_key": f"{project}/shop.key",
            }
        ),
        known=DEBIAN,
    )
    assert any(spec.get("path") == "/etc/percore/tls/shop.pem" for spec in state.setup)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"tls_renew_command": "echo the server is away; exit 3", **FILES}, "tls_renew ended with exit code 3"),
        ({"tls_renew_command": "true", **FILES}, "ended well, and .*shop.crt is no certificate that ends later"),
        ({"tls_renew_command": "true", "tls_key": "shop.key"}, "tls_renew_command needs a file that it writes"),
        (
            {"tls_renew_command": "true", **FILES, "tls_renew_days": 0},
            "variable 'tls_renew_days' should be a whole number",
        ),
    ],
)
def test_a_client_that_obtains_nothing_stops_the_run_before_any_host(
    project: Path, variables: dict[str, Any], said: str
) -> None:
    with pytest.raises(PercoreError, match=said):
        renew_certificates(hosts_of(project, **variables), Report())


def test_hosts_without_the_role_and_without_a_command_ask_for_nothing(project: Path) -> None:
    renew_certificates(hosts_of(project, roles=["base"], tls_renew_command=CLIENT), Report())
    renew_certificates(hosts_of(project), Report())
    assert runs(project) == 0

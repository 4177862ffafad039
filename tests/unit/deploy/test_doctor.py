"""What `invoke doctor` says of certificates, of the control machine, and of several hosts at once."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from percore.common.finding import ERROR, NOTE, WARNING, Finding
from percore.deploy.fleet import control_machine
from percore.deploy.fleet.certificates import about_certificates
from percore.deploy.fleet.doctor import HERE, Findings, _show
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def pem(names: list[str], *, left: int, lifetime: int = 90) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common")])
    ends = NOW + left * DAY
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends - lifetime * DAY).not_valid_after(ends)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, names)]), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def told(names: list[str], of_server: list[str], **times: int) -> list[tuple[str, str]]:
    shown: Any = {"path": "/c.pem", "pem": pem(names, **times), "names": of_server}
    return [(found.severity, found.what) for found in about_certificates([shown], NOW.timestamp())]


def test_a_certificate_that_ended_or_soon_ends_is_told() -> None:
    assert told(["a.org"], ["a.org"], left=60) == []
    assert told(["a.org"], ["a.org"], left=5) == [(WARNING, "the certificate /c.pem ends on 2026-05-06, in 5 days")]
    assert told(["a.org"], ["a.org"], left=-1) == [(ERROR, "the certificate /c.pem ended on 2026-04-30")]
    assert told(["a.org"], ["a.org"], left=200, lifetime=90) == [(ERROR, "the certificate /c.pem begins on 2026-08-19")]
    assert told(["a.org"], ["a.org"], left=5, lifetime=6) == [], "it is made for a few days, and renewed each time"


@pytest.mark.parametrize(
    ("names", "of_server", "missing"),
    [
        (["a.org", "*.a.org"], ["a.org", "www.a.org", "_", "~^x", "", "localhost"], ""),
        (["A.org"], ["a.ORG"], ""),
        ([], ["common"], ""),
        (["*.a.org"], ["x.y.a.org"], "x.y.a.org"),
        (["a.org"], ["b.org", "a.org"], "b.org"),
        ([], ["b.org"], "b.org"),
    ],
)
def test_a_certificate_for_other_names_is_told(names: list[str], of_server: list[str], missing: str) -> None:
    found = told(names, of_server, left=60)
    assert bool(found) == bool(missing)
    assert all(f"is not for {missing} (but for " in what for _, what in found)


def test_a_finding_of_several_hosts_is_one_line_and_the_gravest_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = Findings({HERE: [], "web1": [Finding("full", "rm", "disk", ERROR)], "web2": []})
    for host in ("web1", "web2"):
        found.add(host, [Finding("slow", "wait", "x", NOTE), Finding("late", "run")])
    _show(found, Report())
    assert capsys.readouterr().out.splitlines() == [
        "error    web1: full -> rm",
        "warning  all 2 hosts: late -> run",
        "note     all 2 hosts: slow -> wait",
    ]


def test_of_the_control_machine_old_libraries_little_disk_and_a_missing_ssh_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scope = Scope("local", tmp_path)
    versions = {"paramiko": "1.14.0"}
    monkeypatch.setattr(control_machine.importlib.metadata, "version", lambda name: versions.get(name, "99.0"))
    monkeypatch.setattr(control_machine.shutil, "which", lambda _: None)
    monkeypatch.setattr(
        control_machine.shutil, "disk_usage", lambda _: type("U", (), {"free": 5 << 20, "total": 1 << 40})
    )
    old, ssh, disk = control_machine.about_machine(scope)
    assert old.what == "paramiko 1.14.0 is here, and percore needs paramiko>=3.2"
    assert (ssh.severity, ssh.topic) == (NOTE, "ssh")
    assert disk.what.startswith("only 5 MB are free")

"""Hosts are reached as OpenSSH's own client reaches them: with a real sshd at the other end, and with `ssh` as the judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.errors import PercoreError, PreflightError, UnreachableError
from tests.deploy import ssh_server
from tests.deploy.ssh_server import SshServer, make_key, public_key, running_agent, sign

pytestmark = pytest.mark.skipif(not ssh_server.is_installed(), reason="openssh-server is not installed")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server.running_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: SshServer) -> SshServer:
    running.reset()
    return running


# -- known_hosts -----------------------------------------------------------------------------------------------------

KNOWN = {
    "its own line": ["{name} {key}"],
    "a stale key before it": ["{name} {other}", "{name} {key}"],
    "a stale key of its kind alone": ["{name} {other}"],
    "a key of another kind": ["{name} {rsa}"],
    "a pattern": ["[127.0.0.*]:{port} {key}"],
    "a pattern of question marks": ["[127.0.0.?]:{port} {key}"],
    "a pattern that excludes it": ["[127.0.0.*]:{port},!{name} {key}"],
    "a list of names": ["a,b,{name},c {key} comment"],
    "blanks and tabs": ["  {name}\t{key}"],
    "its name without a port": ["127.0.0.1 {key}"],
    "another port": ["[127.0.0.1]:1 {key}"],
    "lines that cannot be read": [
        "garbage",
        "@cert-authority",
        "{name} ssh-rsa !!!",
        "@odd {name} {key}",
        "{name} {key}",
    ],
    "nothing but lines that cannot be read": ["garbage", "{name}", "{name} ssh-ed25519"],
    "nothing": [],
    "a revoked key": ["{name} {key}", "@revoked * {key}"],
    "another revoked key": ["@revoked * {other}", "{name} {key}"],
    "its authority": ["@cert-authority 127.0.0.* {ca}"],
    "its authority with the port": ["@cert-authority {name} {ca}"],
    "another authority": ["@cert-authority * {other}"],
    "another authority, and its own line": ["@cert-authority * {other}", "{name} {key}"],
    "an authority of other hosts": ["@cert-authority *.example.com {ca}"],
    "a revoked authority": ["@cert-authority * {ca}", "@revoked * {ca}"],
    "an authority as a plain key": ["{name} {ca}"],
}


@pytest.mark.parametrize("case", KNOWN)
def test_known_hosts_mean_what_they_mean_to_ssh(case: str, server: SshServer) -> None:
    words = {
        "name": server.name, "port": server.port, "key": server.host_key(), "rsa": server.host_key("rsa"),
        "ca": public_key(server.hosts_ca), "other": public_key(server.users_ca),
    }  # fmt: skip
    server.know(*(line.format(**words) for line in KNOWN[case]))
    assert lets_us_in(server) == server.lets_ssh_in()


def lets_us_in(server: SshServer, *options: str, key: Path | None = None) -> bool:
    try:
        server.log_in(*options, key=key)
    except PercoreError:
        return False
    return True


def test_hashed_names_are_known(server: SshServer) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
    assert server.name not in server.known_hosts.read_text()
    server.log_in()


CERTIFICATES = {
    "for it": (["-n", "127.0.0.1"], ""),
    "for some": (["-n", "web1,127.0.0.1"], ""),
    "for a pattern": (["-n", "127.0.0.*"], r"its certificate is for 127\.0\.0\.\*"),
    "for everyone": ([], ""),
    "for another": (["-n", "web2.example.com"], "its certificate is for web2.example.com"),
    "of the past": (["-n", "127.0.0.1", "-V", "-2w:-1w"], "its certificate has expired"),
    "of the future": (["-n", "127.0.0.1", "-V", "+1w:+2w"], "its certificate is not valid yet"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_of_a_host_counts_as_for_ssh(case: str, server: SshServer) -> None:
    words, fault = CERTIFICATES[case]
    server.certify_host(*words)
    server.know(f"@cert-authority * {public_key(server.hosts_ca)}")
    try:
        assert server.lets_ssh_in() == (fault == "")
        if fault:
            with pytest.raises(PreflightError, match=f"web1: the host key of .* is not known; {fault}"):
                server.log_in()
        else:
            server.log_in()
        server.know(f"@cert-authority * {public_key(server.hosts_ca)}", f"{server.name} {server.host_key()}")
        server.log_in()  # of one that proves nothing, the key counts
    finally:
        server.certify_host("-n", "127.0.0.1")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_authorities_and_keys_of_all_kinds_make_certificates(kind: str, server: SshServer, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority", kind)
    server.certify_host("-n", "127.0.0.1", by=authority)
    server.know(f"@cert-authority * {public_key(authority)}")
    try:
        server.log_in()
    finally:
        server.certify_host("-n", "127.0.0.1")


def test_a_host_without_a_certificate_is_told_apart(server: SshServer) -> None:
    certificate = server.folder / "host_ed25519-cert.pub"
    kept = certificate.read_text()
    certificate.unlink()
    server.know(f"@cert-authority * {public_key(server.hosts_ca)}")
    try:
        with pytest.raises(PreflightError, match="a certificate authority is, but the host shows no certificate"):
            server.log_in()
    finally:
        certificate.write_text(kept)


def test_revoked_host_keys_are_refused_in_both_forms_of_the_list(server: SshServer, tmp_path: Path) -> None:
    listed, binary = tmp_path / "revoked", tmp_path / "krl"
    listed.write_text(f"{server.host_key()}\n")
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", binary, server.folder / "host_ed25519.pub"], check=True)
    for path in (listed, binary):
        with pytest.raises(PreflightError, match=f"is revoked in {path}; this may be an attack"):
            server.log_in(f"RevokedHostKeys {path}")
    listed.write_text(f"{public_key(server.users_ca)}\n")
    server.log_in(f"RevokedHostKeys {listed}")
    with pytest.raises(PreflightError, match="gone: the revoked host keys cannot be read"):
        server.log_in(f"RevokedHostKeys {tmp_path}/gone")


def test_names_of_known_hosts_files_have_percent_signs_and_blanks(server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "of 127.0.0.1").write_text(f"{server.name} {server.host_key()}\n")
    server.know()
    server.log_in(f'UserKnownHostsFile "/no/file" "{tmp_path}/of %h"')


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_public_key_file_names_a_key_of_the_agent(server: SshServer, tmp_path: Path) -> None:
    key, more = make_key(tmp_path / "web"), [make_key(tmp_path / f"other{number}") for number in range(8)]
    server.let_in(key)
    with running_agent(tmp_path, *more, key) as agent:
        key.unlink()  # as with 1Password: it is in the agent alone
        for named in (key, tmp_path / "web.pub"):
            assert server.lets_ssh_in(f"IdentityAgent {agent}", key=named)
            server.log_in(f"IdentityAgent {agent}", key=named)
        server.log_in(f"IdentityAgent {agent}", ansible_ssh_private_key_file=f"{key}.pub")
    with pytest.raises(UnreachableError, match="there is no key to try"):
        server.log_in(key=f"{key}.pub")


def test_a_locked_key_is_named_by_the_public_part_in_it(server: SshServer, tmp_path: Path) -> None:
    key, more = make_key(tmp_path / "web"), [make_key(tmp_path / f"other{number}") for number in range(8)]
    server.let_in(key)
    with running_agent(tmp_path, *more, key) as agent:
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "geheim", "-f", key], check=True, capture_output=True)
        (tmp_path / "web.pub").unlink()
        server.log_in(f"IdentityAgent {agent}", key=key)
    with pytest.raises(UnreachableError, match=f"the key {key} has a passphrase -> ssh-add {key}"):
        server.log_in(key=key)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_certificate_logs_in_with_its_key_from_wherever_that_comes(
    kind: str, server: SshServer, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "web", kind)
    beside = sign(server.users_ca, tmp_path / "web.pub", "-n", server.user)
    server.let_in(server.hosts_ca)  # no plain key of ours
    server.log_in(key=key)
    with running_agent(tmp_path, key) as agent:  # has both, the key and the certificate
        elsewhere = beside.rename(tmp_path / "signed.pub")
        server.log_in(f"IdentityAgent {agent}", key=f"{key}.pub")
        server.log_in(f"CertificateFile {elsewhere}", key=key)
    with running_agent(tmp_path, key) as agent:  # has the key alone
        away = key.rename(tmp_path / "away")
        for named in (f"{key}.pub", key):
            assert server.lets_ssh_in(f"IdentityAgent {agent}", f"CertificateFile {elsewhere}", key=named)
            server.log_in(f"IdentityAgent {agent}", f"CertificateFile {elsewhere}", key=named)
        with pytest.raises(UnreachableError, match="does not let us log in"):
            server.log_in(f"IdentityAgent {agent}", key=away)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("form", ["PEM", "PKCS8", "RFC4716"])
def test_private_keys_are_read_in_all_their_forms(kind: str, form: str, server: SshServer, tmp_path: Path) -> None:
    key = make_key(tmp_path / "web", kind, "-m", form)
    server.let_in(key)
    (tmp_path / "web.pub").unlink()
    server.log_in(key=key)
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "geheim", "-m", form, "-f", key]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(UnreachableError, match="has a passphrase"):
        server.log_in(key=key)


def test_a_file_that_is_no_key_is_named(server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("this is no key\n")
    with pytest.raises(UnreachableError, match=f"no key to try; {tmp_path}/junk is no key that can be used"):
        server.log_in(key=tmp_path / "junk")


def test_too_many_keys_of_an_agent_are_told_with_the_way_out(server: SshServer, tmp_path: Path) -> None:
    with (
        running_agent(tmp_path, *(make_key(tmp_path / f"key{number}") for number in range(8))) as agent,
        pytest.raises(UnreachableError, match="a host ends after some tries: name the key, and set IdentitiesOnly"),
    ):
        server.log_in(f"IdentityAgent {agent}", "IdentitiesOnly no")


# -- what the login shell does ---------------------------------------------------------------------------------------

ASKED = 'eval "$SSH_ORIGINAL_COMMAND"'
SHELLS = {
    "words without an end of line": f"printf 'loading nvm... '; {ASKED}",
    "bytes that are no text": f"printf '\\000\\377\\033[2J\\r'; {ASKED}",
    "megabytes, and words on both streams": f"head -c 3000000 /dev/zero; echo; echo hi >&2; printf oops >&2; {ASKED}",
    "a greeting like ours": f"printf 'percore agent'; {ASKED}",
    "something at the end": f"{ASKED}; echo bye",
    "fish": "fish -C 'echo -n hello' -c \"$SSH_ORIGINAL_COMMAND\"",
    "tcsh": 'tcsh -c "$SSH_ORIGINAL_COMMAND"',
}


@pytest.mark.parametrize("case", SHELLS)
def test_a_login_shell_may_say_what_it_likes(case: str, server: SshServer) -> None:
    server.let_in(server.key, command=SHELLS[case])
    assert server.facts()["uid"] >= 0


ENDS = {
    "an account that is closed": ("/usr/sbin/nologin", "web1: This account is currently not available"),
    "words and an end": ("echo 'Change your password.'; exit 1", r"web1: Change your password\. -> look at the host"),
    "a question": (
        "printf 'Continue? '; sleep 100",
        r"web1: the login shell did not start .*: it said 'Continue\?' -> try 'ssh HOST true'",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_login_shell_that_starts_nothing_is_told_with_its_own_words(case: str, server: SshServer) -> None:
    command, sentence = ENDS[case]
    server.let_in(server.key, command=command)
    with pytest.raises(UnreachableError, match=sentence):
        server.facts("ServerAliveInterval 2")  # a silence of six seconds is enough


@pytest.mark.parametrize("shell", ["bash", "dash", "fish", "tcsh", "zsh"])
def test_an_interpreter_that_is_missing_is_told_by_every_shell(shell: str, server: SshServer) -> None:
    server.let_in(server.key, command=f'{shell} -c "$SSH_ORIGINAL_COMMAND"')
    with pytest.raises(PreflightError, match=r"no-python.* -> install python3 there"):
        server.facts(ansible_python_interpreter="no-python")


@pytest.mark.parametrize("shell", ["dash", "fish", "tcsh"])
def test_auto_finds_an_interpreter_that_is_new_enough(shell: str, server: SshServer, tmp_path: Path) -> None:
    write_program(tmp_path / "python3", "exit 1")  # as an older one answers to the question for its version
    write_program(tmp_path / "python3.13", f'echo asked >>{tmp_path}/log; exec {sys.executable} "$@"')
    server.let_in(server.key, command=f'PATH={tmp_path}:$PATH; {shell} -c "$SSH_ORIGINAL_COMMAND"')
    assert server.facts(ansible_python_interpreter="auto_silent")["uid"] >= 0
    assert (tmp_path / "log").read_text() == "asked\nasked\n"  # for its version, and to start the agent
    server.let_in(server.key, command='PATH=/nowhere; eval "$SSH_ORIGINAL_COMMAND"')
    with pytest.raises(PreflightError, match=r"no Python 3\.9 or newer was found there"):
        server.facts(ansible_python_interpreter="auto")


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_an_interpreter_may_have_arguments(server: SshServer) -> None:
    assert server.facts(ansible_python_interpreter=f"/usr/bin/env LC_ALL=C {sys.executable} -X utf8")["uid"] >= 0

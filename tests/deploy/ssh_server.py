"""OpenSSH's own server on this machine, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from percore.deploy.connection.address import HostAddress, read_address
from percore.deploy.connection.agent import Remote, connect
from percore.deploy.connection.ssh import SshChannel
from tests.waiting import free_port, wait_for

PRIVILEGE_SEPARATION = Path("/run/sshd")

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_ed25519
HostKey {folder}/host_rsa
HostCertificate {folder}/host_ed25519-cert.pub
AuthorizedKeysFile {folder}/authorized_keys
TrustedUserCAKeys {folder}/users_ca.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
MaxStartups {max_startups}
LogLevel VERBOSE
"""


class SshServer:
    """A server that is known, and a key that it lets in; tests then change one of the two, or what a login runs."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.name = f"[127.0.0.1]:{port}"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "user"
        self.hosts_ca = folder / "hosts_ca"
        self.users_ca = folder / "users_ca"
        self.user = getpass.getuser()

    def make_keys(self) -> None:
        for name in ("host_ed25519", "hosts_ca", "users_ca", "user"):
            make_key(self.folder / name)
        make_key(self.folder / "host_rsa", "rsa")
        self.certify_host("-n", "127.0.0.1")
        self.reset()

    def reset(self) -> None:
        self.let_in(self.key)
        self.know(f"{self.name} {self.host_key()}")

    def host_key(self, kind: str = "ed25519") -> str:
        return public_key(self.folder / f"host_{kind}")

    def certify_host(self, *words: str, kind: str = "ed25519", by: Path | None = None) -> None:
        """The server reads it again when it takes the next connection: it is a child of the one that listens."""
        sign(by or self.hosts_ca, self.folder / f"host_{kind}.pub", "-h", *words)

    def know(self, *lines: str) -> None:
        self.known_hosts.write_text("".join(f"{line}\n" for line in lines))

    def let_in(self, key: Path, *, command: str = "") -> None:
        """`command` takes the place of the login shell; what was asked for is in SSH_ORIGINAL_COMMAND."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        options = f'command="{quoted}" ' if command else ""
        (self.folder / "authorized_keys").write_text(f"{options}{public_key(key)}\n")

    def address(self, *options: str, key: Path | str | None = None, **more: Any) -> HostAddress:
        """`options` are lines of an ssh_config."""
        config = self.folder / "config"
        lines = [*options, f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile none"]
        lines += ["IdentityAgent none", "IdentitiesOnly yes", f"IdentityFile {key or self.key}"]
        config.write_text("".join(f"{line}\n" for line in lines))
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_ssh_common_args": f"-F {config}",
            "ansible_python_interpreter": sys.executable,
        }
        return read_address("web1", {**variables, **more})

    def log_in(self, *options: str, key: Path | str | None = None, **more: Any) -> None:
        """Raises what an operator would read."""
        SshChannel(self.address(*options, key=key, **more), ["true"]).finish(wait=True)

    def lets_ssh_in(self, *options: str, key: Path | str | None = None) -> bool:
        """OpenSSH's own client, with the same configuration: the judge."""
        address = self.address(*options, "BatchMode yes", "StrictHostKeyChecking yes", key=key)
        words = ["ssh", *address.ssh.arguments, "-p", str(self.port), "127.0.0.1", "true"]
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def connect(self, *options: str, **more: Any) -> Remote:
        return connect(self.address(*options, **more), project=self.folder)

    def facts(self, *options: str, **more: Any) -> dict[str, Any]:
        """What a host says of itself: the proof that the connection stands."""
        remote = self.connect(*options, **more)
        try:
            return remote.facts
        finally:
            remote.close(wait=True)


def is_installed() -> bool:
    return all(shutil.which(program) for program in ("sshd", "ssh", "ssh-agent"))


def make_key(path: Path, kind: str = "ed25519", *words: str) -> Path:
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            kind,
            *(["-b", "2048"] if kind == "rsa" else []),
            "-N",
            "",
            "-C",
            path.name,
            "-f",
            path,
            *words,
        ],
        check=True,
    )
    return path


def sign(authority: Path, public: Path, *words: str) -> Path:
    """The certificate lies beside the key: NAME-cert.pub."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *words, public], check=True)
    return public.with_name(f"{public.stem}-cert.pub")


def public_key(path: Path) -> str:
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


@contextlib.contextmanager
def running_server(folder: Path, *, max_startups: str = "100") -> Iterator[SshServer]:
    server = SshServer(folder, free_port())
    server.make_keys()
    config = folder / "sshd_config"
    config.write_text(CONFIGURATION.format(folder=folder, port=server.port, max_startups=max_startups))
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(exist_ok=True)  # the distribution's own; it stays, another run may use it
    with (folder / "log").open("wb") as log:
        words = [str(shutil.which("sshd")), "-D", "-e", "-f", str(config)]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(server.port), "sshd")
        yield server
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as link:
        return link.recv(4).startswith(b"SSH-")
    return False


@contextlib.contextmanager
def running_agent(folder: Path, *keys: Path) -> Iterator[str]:
    """The socket of an agent that holds these keys."""
    address = str(folder / f"agent-{os.urandom(3).hex()}.sock")  # one that ends removes its own, maybe late
    started = subprocess.run(["ssh-agent", "-s", "-a", address], capture_output=True, text=True, check=True).stdout
    pid = int(started.split("SSH_AGENT_PID=")[1].split(";")[0])
    try:
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": address}, check=True)
        yield address
    finally:
        os.kill(pid, signal.SIGTERM)
        Path(address).unlink(missing_ok=True)

"""One lab host: a root file system over the image, a systemd of its own, an address in the lab's network."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from percore.common.procfs import children_of
from percore.errors import PercoreError
from percore.lab.container import STOP_SECONDS, Container, call

BOOT_SECONDS = 60.0


@dataclass(frozen=True)
class LabHost:
    name: str
    address: str
    directory: Path  # upper, work, root; keeper and its pid
    namespace: str
    key: Path
    known_hosts: Path
    proxy: str

    # -- making and ending ---------------------------------------------------------------------------------------------

    def make(self, layers: list[Path], public_key: str) -> None:
        """Lays the root over the image and writes what makes it this host."""
        _lay_over(layers, self.directory)
        _give_name(self.root, self.name, self.address)
        make_key(self.root / "etc/ssh/ssh_host_ed25519_key", self.name)
        _let_in(self.root, public_key)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def container(self) -> Container:
        return Container(self.name, self.root, self.directory, self.namespace)

    def host_key(self) -> str:
        return (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().rsplit(" ", 1)[0]

    def start(self) -> None:
        """Boots the host; returns when it answers."""
        if not self.is_on:
            self.container.boot()
        self.wait_until_answers()

    def wait_until_answers(self) -> None:
        self.container.wait(lambda: self._ssh("true").returncode == 0, BOOT_SECONDS, "it does not answer over SSH")

    @property
    def is_on(self) -> bool:
        return self.container.is_on

    def power_off(self) -> None:
        """As if the plug was pulled: nothing inside gets to say goodbye."""
        self.container.power_off()

    def destroy(self) -> None:
        self.power_off()
        self.container.wait(lambda: _unmount(self.root), STOP_SECONDS, "its file system stays in use")
        self.container.wait(self.container.group.remove, STOP_SECONDS, "its control group stays in use")
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- using ---------------------------------------------------------------------------------------------------------

    def run(self, command: str, *, user: str = "root", check: bool = True) -> str:
        """Standard output of a shell command on the host; raises PercoreError when it fails."""
        done = self._ssh(command, user)
        if check and done.returncode != 0:
            raise PercoreError(f"'{command}' ended with {done.returncode}", where=self.name, detail=done.stderr.strip())
        return done.stdout

    def ssh_command(self, user: str = "root") -> list[str]:
        options = {
            "IdentityFile": str(self.key), "IdentitiesOnly": "yes", "UserKnownHostsFile": str(self.known_hosts),
            "StrictHostKeyChecking": "yes", "BatchMode": "yes", "ConnectTimeout": "5", "ProxyCommand": self.proxy,
            "LogLevel": "ERROR",
        }  # fmt: skip
        written = [f"-o{name}={value}" for name, value in options.items()]
        return ["ssh", "-F", "none", *written, f"{user}@{self.address}"]

    def _ssh(self, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ssh_command(user), command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def reboot(self) -> None:
        """Restarts the host through its own systemd; returns when the new one answers."""
        keeper = self.container.keeper
        before = children_of(keeper)
        self._ssh("systemctl reboot")
        self.container.wait(
            lambda: bool(children_of(keeper)) and children_of(keeper) != before, BOOT_SECONDS, "it does not reboot"
        )
        self.wait_until_answers()

    def cut(self) -> None:
        """Takes the host off the network."""
        self.container.set_link("down")

    def join(self) -> None:
        self.container.set_link("up")
        self.wait_until_answers()


def make_key(path: Path, comment: str) -> None:
    """A new pair of SSH keys, in the place of what is there."""
    for old in (path, path.with_name(f"{path.name}.pub")):
        old.unlink(missing_ok=True)
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def _lay_over(layers: list[Path], directory: Path) -> None:
    root = directory / "root"
    for name in ("upper", "work", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(root):
        lower = ":".join(map(str, layers))
        # volatile: nothing waits for the machine's disk, which would write all of a host only to throw it away.
        options = f"volatile,lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work"
        call(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])


def _unmount(root: Path) -> bool:
    if not os.path.ismount(root):
        return True
    return subprocess.run(["umount", str(root)], capture_output=True, check=False).returncode == 0


def _give_name(root: Path, name: str, address: str) -> None:
    network = root / "etc/systemd/network/10-host0.network"
    network.parent.mkdir(parents=True, exist_ok=True)
    network.write_text(f"[Match]\nName=host0\n\n[Network]\nAddress={address}/24\n")
    for service in ("systemd-networkd", "ssh"):
        link = root / f"etc/systemd/system/multi-user.target.wants/{service}.service"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/lib/systemd/system/{service}.service")
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n::1 localhost\n")
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()


def _let_in(root: Path, public_key: str) -> None:
    """Root, and a user with sudo."""
    call(["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "deployer"])
    sudoers = root / "etc/sudoers.d/deployer"
    sudoers.write_text("deployer ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    for home, owner in (("root", 0), ("home/deployer", (root / "home/deployer").stat().st_uid)):
        directory = root / home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / "authorized_keys").write_text(public_key)
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, owner, owner)

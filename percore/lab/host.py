"""One lab host: a root file system over the image, a systemd of its own, an address in the lab's network."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from percore.common.procfs import children_of, start_time_of, state_of, tree_of
from percore.errors import PercoreError
from percore.lab.cgroup import ControlGroup

BOOT_SECONDS = 60.0
_STOP_SECONDS = 60.0
_REBOOT_EXIT_CODE = 133  # systemd-nspawn's word for "the host asked for a reboot"


@dataclass(frozen=True)
class Host:
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
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.root):
            lower = ":".join(map(str, layers))
            options = f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work"
            _call(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)])
        root = self.root
        network = root / "etc/systemd/network/10-host0.network"
        network.parent.mkdir(parents=True, exist_ok=True)
        network.write_text(f"[Match]\nName=host0\n\n[Network]\nAddress={self.address}/24\n")
        _symlink(
            root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "/lib/systemd/system/systemd-networkd.service",
        )
        _symlink(root / "etc/systemd/system/multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service")
        (root / "etc/hostname").write_text(f"{self.name}\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n::1 localhost\n")
        for old in (root / "etc/ssh").glob("ssh_host_*"):
            old.unlink()
        _call(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                self.name,
                "-f",
                str(root / "etc/ssh/ssh_host_ed25519_key"),
            ]
        )
        _call(["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "deployer"])
        sudoers = root / "etc/sudoers.d/deployer"
        sudoers.write_text("deployer ALL=(ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
        for home, owner in (("root", 0), ("home/deployer", (root / "home/deployer").stat().st_uid)):
            directory = root / home / ".ssh"
            directory.mkdir(mode=0o700, exist_ok=True)
            (directory / "authorized_keys").write_text(public_key)
            for path in (directory, directory / "authorized_keys"):
                os.chown(path, owner, owner)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def group(self) -> ControlGroup:
        return ControlGroup(f"{self.namespace}-{self.name}")

    @property
    def _link(self) -> str:
        return f"vb-{self.name}"

    def host_key(self) -> str:
        return (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().rsplit(" ", 1)[0]

    def start(self) -> None:
        """Boots the host; returns when it answers. A reboot inside boots it again, a power-off ends it."""
        if not self.is_on:
            command = [
                "systemd-nspawn", "-q", "-D", str(self.root), "-M", self.name, "--boot", "--network-bridge=br0",
                "--console=pipe", "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+4",
            ]  # fmt: skip
            self.group.make()
            enter = "; ".join(f"echo 0 >{shlex.quote(str(entry))}" for entry in self.group.entries)
            loop = f'while :; do ({enter}; exec "$@"); [ $? = {_REBOOT_EXIT_CODE} ] || exit; done'
            # nsenter, not `ip netns exec`: that one mounts a new /sys, and systemd-nspawn then finds no cgroups.
            keeper = ["nsenter", f"--net=/run/netns/{self.namespace}", "sh", "-c", loop, "sh", *command]
            started = subprocess.run(
                ["sh", "-c", 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!', "sh",
                 str(self.directory / "console.log"), *keeper],
                capture_output=True, text=True, check=True,
                # systemd 256 and newer boots on the unified hierarchy only; the others do as well.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
            pid = int(started.stdout)
            (self.directory / "keeper").write_text(f"{pid} {start_time_of(pid)}")
        self.wait_until_answers()

    def wait_until_answers(self) -> None:
        self._wait(lambda: self._ssh("true").returncode == 0, BOOT_SECONDS, "it does not answer over SSH")

    @property
    def keeper(self) -> int:
        """Pid of the loop around systemd-nspawn; 0 when the host is off."""
        try:
            pid, start_time = map(int, (self.directory / "keeper").read_text().split())
        except (OSError, ValueError):
            return 0
        return pid if start_time and start_time_of(pid) == start_time and state_of(pid) != "Z" else 0

    @property
    def is_on(self) -> bool:
        return self.keeper != 0

    def power_off(self) -> None:
        """As if the plug was pulled: nothing inside gets to say goodbye."""
        if keeper := self.keeper:
            _kill(keeper)  # first, so that nothing starts again
        self._wait(self._has_stopped, _STOP_SECONDS, "it does not stop")

    def _has_stopped(self) -> bool:
        processes = self.group.processes().union(*map(tree_of, self._nspawns()))
        for pid in processes:
            _kill(pid)
        return not processes and not self.is_on and not self._link_is_there()

    def _link_is_there(self) -> bool:
        """The kernel takes a moment to clear away the link of a host that ended; the next start would trip over it."""
        shown = subprocess.run(
            ["ip", "-n", self.namespace, "link", "show", self._link], capture_output=True, check=False
        )
        return shown.returncode == 0

    def _nspawns(self) -> list[int]:
        """The systemd-nspawn processes of this root, with or without a keeper."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"systemd-nspawn") and str(self.root).encode() in words:
                found.append(int(entry.parent.name))
        return found

    def destroy(self) -> None:
        self.power_off()
        self._wait(self._unmounted, _STOP_SECONDS, "its file system stays in use")
        self._wait(self.group.remove, _STOP_SECONDS, "its control group stays in use")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _unmounted(self) -> bool:
        return (
            not os.path.ismount(self.root)
            or subprocess.run(["umount", str(self.root)], capture_output=True, check=False).returncode == 0
        )

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
        return [
            "ssh",
            "-F",
            "none",
            *(f"-o{name}={value}" for name, value in options.items()),
            f"{user}@{self.address}",
        ]

    def _ssh(self, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ssh_command(user), command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def boot_id(self) -> str:
        return self.run(
            "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestampMonotonic 2>/dev/null; stat -c %Y /proc/1"
        ).strip()

    def reboot(self) -> None:
        """Restarts the host through its own systemd; returns when the new one answers."""
        keeper = self.keeper
        before = children_of(keeper)
        self._ssh("systemctl reboot")
        self._wait(
            lambda: bool(children_of(keeper)) and children_of(keeper) != before, BOOT_SECONDS, "it does not reboot"
        )
        self.wait_until_answers()

    def cut(self) -> None:
        """Takes the host off the network."""
        self._set_link("down")

    def join(self) -> None:
        self._set_link("up")
        self.wait_until_answers()

    def _set_link(self, state: str) -> None:
        _call(["ip", "-n", self.namespace, "link", "set", self._link, state])

    def _wait(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise PercoreError(
                    f"{failure} after {seconds:g} s", where=self.name, next=f"see {self.directory / 'console.log'}"
                )
            time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _symlink(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PercoreError(f"'{' '.join(command)}' failed", detail=done.stderr.strip())

"""The systemd-nspawn of one lab host: what boots it, again after each reboot, and takes its power away."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from percore.common.procfs import start_time_of, state_of, tree_of
from percore.errors import PercoreError
from percore.lab.cgroup import ControlGroup

STOP_SECONDS = 60.0
_REBOOT_EXIT_CODE = 133  # systemd-nspawn's word for "the host asked for a reboot"


@dataclass(frozen=True)
class Container:
    name: str
    root: Path
    directory: Path  # its console's log; keeper and its pid
    namespace: str

    @property
    def group(self) -> ControlGroup:
        return ControlGroup(f"{self.namespace}-{self.name}")

    def boot(self) -> None:
        """A reboot inside boots it again, a power-off ends it."""
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
        self.wait(self._has_stopped, STOP_SECONDS, "it does not stop")

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
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"systemd-nspawn") and str(self.root).encode() in words:
                found.append(int(entry))
        return found

    def set_link(self, state: str) -> None:
        call(["ip", "-n", self.namespace, "link", "set", self._link, state])

    @property
    def _link(self) -> str:
        return f"vb-{self.name}"

    def wait(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
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


def call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PercoreError(f"'{' '.join(command)}' failed", detail=done.stderr.strip())

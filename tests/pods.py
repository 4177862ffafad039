"""Containers as a cluster runs them: an image unpacked by other people's tools, started by runc with limits and no rights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for

TOOLS = ("skopeo", "umoci", "runc", "mmdebstrap")
needs_containers = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, TOOLS)), reason=f"needs root and {', '.join(TOOLS)}"
)
_WRITABLE = ("/run/percore", "/tmp")
_MOUNTS = [
    ("/proc", "proc", []),
    ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
    ("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"]),
    *((place, "tmpfs", ["nosuid", "nodev", "mode=0777"]) for place in _WRITABLE),  # as an emptyDir: root's
]


def unpack(archive: Path, place: Path) -> Path:
    """The image's bundle, by skopeo and umoci, which refuse what is not as the OCI has it."""
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{archive}", f"oci:{place}/oci:it"], check=True)
    subprocess.run(
        ["umoci", "unpack", "--image", f"{place}/oci:it", f"{place}/bundle"], check=True, capture_output=True
    )
    return place / "bundle"


class Pod:
    """One container with a network that it shares with the test. `cpus` and `memory` (bytes) are the limits of its group."""

    def __init__(self, bundle: Path, folder: Path, *arguments: str, port: int, cpus: float, memory: int, **env: str):
        self.port, self.name, self._folder = port, f"percore-test-{os.getpid()}-{port}", folder / str(port)
        self._folder.mkdir()
        made = json.loads((bundle / "config.json").read_text())["process"]
        process = _process(made, arguments, {"PORT": str(port), **env})
        (self._folder / "config.json").write_text(
            json.dumps(_config(self.name, bundle / "rootfs", process, cpus, memory))
        )
        self.log = self._folder / "log"
        with self.log.open("wb") as log:
            words = [*self._runc, "run", "--bundle", str(self._folder), self.name]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._folder / "runc")]

    def exec(self, *words: str) -> str:
        return subprocess.run(
            [*self._runc, "exec", self.name, *words], capture_output=True, text=True, timeout=60
        ).stdout

    def workers(self, app: str) -> list[dict[str, Any]]:
        """Those that are online."""
        said = self.exec("percore", "jlist")
        found = json.loads(said) if said.startswith("[") else []
        return [each for each in found if each["name"] == app and each["pm2_env"]["status"] == "online"]

    @property
    def init(self) -> int:
        said = subprocess.run([*self._runc, "state", self.name], capture_output=True, text=True).stdout
        return int(json.loads(said)["pid"])

    def terminate(self) -> None:
        subprocess.run([*self._runc, "kill", self.name, "TERM"], check=True)

    def end(self, seconds: float) -> int:
        return self._process.wait(timeout=seconds)

    def kills_for_memory(self) -> int:
        """By the kernel, in its group."""
        for line in Path(f"/proc/{self.init}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if controllers == "memory":
                return _counted(Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"))
            if number == "0" and Path(f"/sys/fs/cgroup{path}/memory.events").exists():
                return _counted(Path(f"/sys/fs/cgroup{path}/memory.events"))
        raise AssertionError("its memory is in no group")

    def remove(self) -> None:
        """Whatever is left of it."""
        if self._process.poll() is None:
            subprocess.run([*self._runc, "kill", self.name, "KILL"], capture_output=True)
            wait_for(lambda: self._process.poll() is not None, "the container to end")
        subprocess.run([*self._runc, "delete", "--force", self.name], capture_output=True)


def _counted(path: Path) -> int:
    return int(dict(line.split() for line in path.read_text().splitlines())["oom_kill"])


def _process(made: Mapping[str, Any], arguments: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """As the image says, with nothing that it does not need."""
    own = [entry for entry in made["env"] if entry.split("=")[0] not in {*env, "TERM"}]
    return {
        "user": made["user"],
        "args": [*made["args"], *arguments],
        "env": [*own, *(f"{name}={value}" for name, value in env.items())],
        "cwd": made["cwd"],
        "capabilities": {name: [] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        "noNewPrivileges": True,
    }


def _config(name: str, root: Path, process: Mapping[str, Any], cpus: float, memory: int) -> dict[str, Any]:
    mounts = [{"destination": at, "type": kind, "source": kind, "options": options} for at, kind, options in _MOUNTS]
    limits = {"cpu": {"quota": int(cpus * 100_000), "period": 100_000}, "memory": {"limit": memory}}
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    linux = {"namespaces": namespaces, "cgroupsPath": f"/{name}", "resources": limits}
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "hostname": "pod",
        "mounts": mounts,
        "linux": linux,
    }

"""Root file systems of Debian's generations, made once by mmdebstrap and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from percore.errors import PercoreError, UsageError

SUITES = ("bullseye", "bookworm", "trixie")
_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "sudo", "nginx-light", "iproute2", "procps",
    "ca-certificates",
)  # fmt: skip
_TOOLS = {
    "systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
}  # fmt: skip


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "percore" / "lab"


def need_tools() -> None:
    """Installs what is missing (we are root); raises PercoreError where there is no apt."""
    missing = sorted({package for tool, package in _TOOLS.items() if not shutil.which(tool)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise PercoreError(f"the lab needs {', '.join(missing)}", next="install these packages")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing],
    ):
        _run(command, "the lab's tools could not be installed", environment)


def make_image(suite: str) -> Path:
    """The unpacked root of `suite`; takes half a minute the first time."""
    if suite not in SUITES:
        raise UsageError(f"there is no suite '{suite}'", next=f"one of {', '.join(SUITES)}")
    name = hashlib.sha256(" ".join((suite, *_PACKAGES)).encode()).hexdigest()[:10]
    image = cache_folder() / "images" / f"{suite}-{name}"
    if image.is_dir():
        return image
    unfinished = image.with_name(f"{image.name}.{os.getpid()}")
    image.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(_PACKAGES)}",
                suite,
                str(unfinished),
                mirror(),
            ],
            f"the image of {suite} could not be made",
        )
        unfinished.rename(image)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return image


def mirror() -> str:
    """Where this machine's own packages come from."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages", "Origin: Debian"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in targets.stdout.splitlines():
        uri, _, component = line.partition(" ")
        if component == "main" and "security" not in uri:
            return uri
    raise PercoreError("this machine's apt names no Debian mirror", next="apt-get update")


def node_layer() -> Path:
    """A folder that holds this machine's `node` as /usr/bin/node, to be laid under a host's root."""
    found = shutil.which("node")
    if not found:
        raise PercoreError("Node.js is not installed on this machine", next="apt install nodejs")
    node = Path(found).resolve()
    stat = node.stat()
    layer = cache_folder() / "layers" / f"node-{stat.st_size}-{int(stat.st_mtime)}"
    if not layer.is_dir():
        unfinished = layer.with_name(f"{layer.name}.{os.getpid()}")
        (unfinished / "usr" / "bin").mkdir(parents=True)
        shutil.copy2(node, unfinished / "usr" / "bin" / "node")
        unfinished.rename(layer)
    return layer


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise PercoreError(
            failure, detail=done.stderr.strip() or done.stdout.strip(), next=f"try it by hand: {' '.join(command)}"
        )

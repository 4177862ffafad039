"""Builds the bind shim from its C source for this machine, and for aarch64 where a cross compiler is at hand.

No binary is committed. A machine without any compiler still gets a package: the supervisor then says that apps cannot
share a port until one was built. The unit's template goes into the package as well.
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

SOURCE = Path(__file__).parent / "percore" / "supervisor" / "sockets" / "bindshim.c"
UNIT = Path(__file__).parent / "templates" / "percore.service.j2"
"""`percore startup` fills it in on hosts, where there are no other templates."""

FLAGS = ["-shared", "-fPIC", "-nostdlib", "-O2", "-Wall", "-fno-builtin", "-fno-stack-protector", "-fvisibility=hidden"]
ARCHITECTURES = ("x86_64", "aarch64")


def find_compiler(architecture: str) -> Optional[list[str]]:
    """The command that compiles C for `architecture`, or None."""
    candidates = [f"{architecture}-linux-gnu-gcc"]
    if architecture == platform.machine():
        candidates = ["cc", "gcc", "clang", *candidates]
    for name in candidates:
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-none"]
    return None


def build_shims(folder: Path) -> None:
    """Writes `folder`/bindshim-<architecture>.so for each architecture that can be compiled here and is out of date."""
    if not sys.platform.startswith("linux"):
        return
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
        if not self.editable_mode:  # a checkout has it among its templates
            self.copy_file(str(UNIT), str(Path(self.build_lib, "percore", "supervisor", UNIT.name)))


class EditableWithShims(editable_wheel):
    def run(self) -> None:
        build_shims(SOURCE.parent)
        super().run()


setup(cmdclass={"build_py": BuildWithShims, "editable_wheel": EditableWithShims})

"""The servers and tools that tests use on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from percore.errors import PreflightError
from percore.lab.image import missing_packages
from percore.packages import install_packages

PACKAGES = {
    "redis-server": "redis-server",
    "pg_ctlcluster": "postgresql",
    "curl": "curl",
    "ping": "iputils-ping",
    "node": "nodejs",
    "npm": "npm",
    "faketime": "faketime",
    "zsh": "zsh",
    "fish": "fish",
    "tcsh": "tcsh",
    "man": "man-db",
    "mandoc": "mandoc",
    "sshd": "openssh-server",
    "gcc": "gcc",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64-static": "qemu-user-static",
    "patchelf": "patchelf",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "openssl": "openssl",
    "chromium": "chromium",
    "pebble": "pebble",
    "lego": "lego",
    "promtool": "prometheus",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "runc": "runc",
    "kubectl": "kubernetes-client",
}


def prepare(say: Callable[[str], None]) -> None:
    """Installs what is missing, where that is allowed. Otherwise the tests that need it say so."""
    missing = {package for tool, packages in PACKAGES.items() if not shutil.which(tool) for package in packages.split()}
    missing |= set() if Path("/usr/include/stdio.h").exists() else {"libc6-dev"}
    missing |= set(missing_packages())
    if not missing:
        return
    try:
        install_packages(sorted(missing), "test")
    except PreflightError as refused:
        say(f"test: {refused}; tests that need them fail, or are skipped")

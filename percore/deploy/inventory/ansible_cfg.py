"""`ansible.cfg`: percore does not read it, and says so where that makes a difference."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

from percore.common.bounds import read_file

NAME = "ansible.cfg"


def inventory_in(project: Path) -> str:
    """The inventory that it names, which `--env PATH` takes; empty where it names none."""
    written = _defaults(project).get("inventory", "").split(",")[0].strip()
    if not written or not (project / written).exists():
        return ""
    return written if "/" in written else f"./{written}"


def differences(project: Path) -> Iterator[str]:
    """What would reach other hosts, or give other values, if Ansible read the same inventory."""
    found = _defaults(project)
    if found.get("hash_behaviour", "").strip() == "merge":
        yield f"{project / NAME}: hash_behaviour is not respected: mappings are replaced, never merged"
    for name in ("remote_user", "remote_port", "private_key_file"):
        if found.get(name, "").strip():
            variable = {"remote_user": "ansible_user", "remote_port": "ansible_port"}.get(name, f"ansible_ssh_{name}")
            yield f"{project / NAME}: {name} is not respected -> set {variable} in the inventory"


def _defaults(project: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    try:
        parser.read_string(read_file(str(project / NAME)).decode(errors="replace"))
    except (OSError, configparser.Error):
        return {}
    return dict(parser["defaults"]) if parser.has_section("defaults") else {}

"""What a run is about."""

from __future__ import annotations

import functools
import shlex
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from percore.deploy.command_line import relative, to_type
from percore.deploy.inventory import Inventory, find_inventory, load_inventory
from percore.deploy.plan.roles import RELEASE_TAG
from percore.host.tags import Selection

FORKS = 32
"""Hosts worked on at the same time."""


@dataclass(frozen=True)
class Scope:
    """What a run is about: the environment, a pattern of its hosts, what of them; how many at once. `run` names it."""

    env: str
    project: Path
    limit: str = "all"
    forks: int = FORKS
    selection: Selection = field(default_factory=Selection)
    yes: bool = False  # no question is asked
    inventory: str = ""  # its path, where it is not in the project's inventories/
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def command(self, verb: str, options: str = "") -> str:
        """What the operator types to run another task on the same environment."""
        return to_type(f"{verb} --env {shlex.quote(self.inventory or self.env)} {options}".rstrip())

    @property
    def inventory_path(self) -> Path:
        return (
            Path(self.inventory) if self.inventory else find_inventory(self.env, relative(self.project / "inventories"))
        )

    @property
    def everyone(self) -> Scope:
        """All hosts of the environment, whatever the run is limited to."""
        return replace(self, limit="all")

    def load_inventory(self) -> Inventory:
        """Read once in a run, and so are the programs that print it."""
        return _load(self.inventory_path, self.run)

    @property
    def brings_the_app(self) -> bool:
        """A release is made and switched to; otherwise the one that runs gets other files and units."""
        return self.selection.covers([RELEASE_TAG])


@functools.lru_cache(maxsize=1)
def _load(path: Path, run: str) -> Inventory:
    return load_inventory(path)

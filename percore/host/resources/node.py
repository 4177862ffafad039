"""Official builds of Node.js, side by side."""

from __future__ import annotations

import os
from typing import Optional

from percore.errors import RolloutError
from percore.host.files import replace_link
from percore.host.paths import make_parents, remove_tree
from percore.host.resources.command import run
from percore.host.resources.resource import Resource


class Node(Resource):
    """`version` of Node.js below `path`: a link to an official build of it. `unpacked` is one, and `exact` its version."""

    def difference(self) -> Optional[str]:
        program = os.path.join(self.path, str(self.spec["version"]), "bin", "node")
        return None if os.access(program, os.X_OK) else f"install Node.js {self.spec['version']} in {self.path}"

    def apply(self) -> None:
        exact, unpacked = self.spec["exact"], self.spec["unpacked"]
        place = os.path.join(self.path, exact)
        if _version_of(place) != f"v{exact}":
            if (said := _version_of(unpacked)) != f"v{exact}":
                raise RolloutError(f"the build of Node.js {exact} does not run here: {said}")
            make_parents(place)
            remove_tree(place)
            os.rename(unpacked, place)
        if str(self.spec["version"]) != exact:
            replace_link(os.path.join(self.path, str(self.spec["version"])), exact)


def _version_of(build: str) -> str:
    """`v22.11.0`, or what is wrong with it."""
    try:
        return run([os.path.join(build, "bin", "node"), "--version"]).strip()
    except RolloutError as error:
        return error.what

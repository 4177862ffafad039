"""What the set-up of a host put where. A diff must not show the secret lines of a file that lies there."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Optional

from percore.host.files import read_file
from percore.host.messages import Spec
from percore.host.release.releases import Releases

_KEPT = ("path", "sha256", "secret")


def read_placed(releases: Releases) -> Optional[dict[str, Spec]]:
    """By path, what was put there last; empty where releases are, whose plans tell it. None where nobody knows."""
    try:
        placed = json.loads(read_file(releases.placed_path))
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return placed if isinstance(placed, dict) else None


def placed_file(releases: Releases, specs: Iterable[Spec]) -> Spec:
    """The file that says so from now on."""
    placed = {**(read_placed(releases) or {}), **{spec["path"]: _kept(spec) for spec in specs if "sha256" in spec}}
    content = base64.b64encode(json.dumps(placed, indent=1).encode()).decode()
    return {"kind": "file", "path": releases.placed_path, "content": content, "mode": "0600"}


def _kept(spec: Mapping[str, object]) -> Spec:
    return {name: spec[name] for name in _KEPT if name in spec}

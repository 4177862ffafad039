"""Passwords that percore gets for vaults and for becoming root. No program that it starts receives them.

Every program on the control side is given the environment that `for_programs` makes; a test finds calls that do not use it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_OURS = re.compile(r"(PERCORE|ANSIBLE)_(VAULT|BECOME)_\w*|ANSIBLE_\w*PASS\w*", re.IGNORECASE)


def without_passwords(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not _OURS.fullmatch(name)}


def for_programs(**more: str) -> dict[str, str]:
    """Our own environment for the programs that we start: builds, hooks, process files, ssh, editors..."""
    return {**without_passwords(os.environ), **more}

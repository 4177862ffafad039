"""Commands on the host: those that must succeed, those that are asked, and the resource that runs one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Optional

from percore.errors import RolloutError
from percore.host.resources.resource import Resource

COMMAND_SECONDS = 120.0


def run(argv: list[str], *, seconds: float = COMMAND_SECONDS, env: Optional[Mapping[str, str]] = None) -> str:
    """Output of a command that must succeed; otherwise one line with its last words."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=env,
            check=False,
        )
    except FileNotFoundError:
        raise RolloutError(f"command '{argv[0]}' does not exist here") from None
    except subprocess.TimeoutExpired:
        raise RolloutError(f"'{_in_one_line(argv)}' did not end within {seconds:g} s") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        lines = [line for line in output.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "no output"
        raise RolloutError(
            f"'{_in_one_line(argv)}' failed with exit code {done.returncode}: {last}",
            detail="\n".join(lines[-20:]),
        )
    return output


def _in_one_line(argv: list[str]) -> str:
    return " ".join("..." if "\n" in word else word for word in argv)


def succeeds(argv: list[str]) -> bool:
    try:
        return (
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


class Command(Resource):
    """`run` (a list of words), which a `name` tells better; skipped when `creates` exists or the command `unless` succeeds."""

    def difference(self) -> Optional[str]:
        if self.spec.get("creates") and os.path.lexists(self.spec["creates"]):
            return None
        if self.spec.get("unless") and succeeds(list(self.spec["unless"])):
            return None
        return str(self.spec.get("name") or f"run {' '.join(self.spec['run'])}")

    def apply(self) -> None:
        run(list(self.spec["run"]), seconds=float(self.spec.get("seconds", COMMAND_SECONDS)))

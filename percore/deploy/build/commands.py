"""The commands of a build: what they see, how long they may take, and what is shown of one that fails."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from percore.common.passwords import for_programs
from percore.deploy.build.source_tree import BuildError
from percore.deploy.masking import REDACTOR

Say = Callable[[str], None]

BUILD_SECONDS = 1800
OUTPUT_LINES = 15
CAUSE_LINES = 6
_CAUSE = re.compile(r"(?:error|failed|cannot|missing)\b\W*\w{3,}", re.IGNORECASE)
"""What npm and others say first, before a page about their options or a long trace."""
_LONGEST_LINE = 4096
_ADVICE = {127: "install what it calls, or change the command"}  # what a shell says of a command that it does not find

_LEAKS = re.compile(
    r"NODE_ENV|NODE_OPTIONS|NODE_PATH|YARN_PRODUCTION|INIT_CWD|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|GIT_(DIR|WORK_TREE|INDEX_FILE)"
    r"|npm_(package|lifecycle)_.*|npm_config_(production|omit|only|include|local_prefix|workspace|workspaces)",
    re.IGNORECASE,
)
"""What the caller's shell, or the npm that runs percore, says about another program than the app's build."""


@dataclass(frozen=True)
class Commands:
    """Runs the commands of one build in its directory, with its environment."""

    directory: Path
    env: Mapping[str, str]
    say: Say

    def at(self, directory: Path) -> Commands:
        return replace(self, directory=directory)

    def knowing(self, **env: str) -> Commands:
        return replace(self, env={**self.env, **env})

    def without(self, *names: str) -> Commands:
        return replace(self, env={name: value for name, value in self.env.items() if name not in names})

    def find(self, program: str) -> str | None:
        return shutil.which(program, path=self.env.get("PATH"))

    def run(self, words: Sequence[str], *, next: str = "", shown: str = "") -> None:
        """One program, named before it starts."""
        shown = shown or shlex.join(words)
        self.say(shown)
        self._run(words, what=f"'{shown}'", next=next)

    def shell(self, line: str) -> None:
        """A command line as the operator wrote it: `&&`, quotes and variables are the shell's."""
        self.say(line)
        words = ["sh", "-c", line] if self.find("sh") else ["cmd", "/c", line]
        self._run(words, what=f"'{line}'")

    def output(self, words: Sequence[str]) -> str | None:
        """What a question to a program prints; None when it fails. Not shown."""
        try:
            done = subprocess.run(
                list(words), cwd=self.directory, env=dict(self.env), capture_output=True, timeout=120, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return os.fsdecode(done.stdout) if done.returncode == 0 else None

    def _run(self, words: Sequence[str], *, what: str, next: str = "") -> None:
        code, lines = self._start(words, what)
        if code == 0:
            return
        if code < 0:
            ended, advice = f"was killed by signal {-code}", "see whether memory ran out (dmesg), and deploy again"
        else:
            ended, advice = f"ended with exit code {code}", next or _ADVICE.get(code, "fix it and deploy again")
        raise BuildError(
            f"build failed: {REDACTOR.text(what)} {ended}; nothing was deployed",
            next=advice,
            detail=REDACTOR.text("\n".join(lines)),
        )

    def _start(self, words: Sequence[str], what: str) -> tuple[int, Sequence[str]]:
        """Its exit code and the lines to show. A program that takes too long ends with all that it started."""
        try:
            process = subprocess.Popen(
                list(words), cwd=self.directory, env=dict(self.env), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise BuildError(
                f"{what}: the command '{words[0]}' does not exist", next="install it, or change the command"
            ) from None
        with process, _ending(process, what):
            assert process.stdout is not None
            lines = _LinesToShow()
            for line in process.stdout:
                lines.add(line[:_LONGEST_LINE].decode(errors="replace").rstrip())
            return process.wait(), lines.shown


class _LinesToShow:
    """Of an output without end: the first lines that name a cause, and the last ones."""

    def __init__(self) -> None:
        self._causes: list[str] = []
        self._last: deque[str] = deque(maxlen=OUTPUT_LINES)

    def add(self, line: str) -> None:
        if not line:
            return
        if len(self._last) == OUTPUT_LINES and len(self._causes) < CAUSE_LINES and _CAUSE.search(self._last[0]):
            self._causes.append(self._last[0])
        self._last.append(line)

    @property
    def shown(self) -> list[str]:
        return [*self._causes, *(["..."] if self._causes else []), *self._last]


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes], what: str) -> Iterator[None]:
    """Ends the program and its children when the time is over or the build is interrupted."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(BUILD_SECONDS, stop)
    timer.start()
    try:
        yield
    except BaseException:
        _kill(process)
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise BuildError(f"{what} did not end within {BUILD_SECONDS} s; nothing was deployed")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.Signals["SIGKILL"])
        else:
            process.kill()


def build_environment(build_env: Mapping[str, str], ceiling: Path) -> dict[str, str]:
    """The caller's environment without what would change the build, then the variables of the app's environment.

    git does not look above the build: a repository around it is another one.
    """
    caller = {name: value for name, value in for_programs().items() if not _LEAKS.fullmatch(name)}
    REDACTOR.hide_environment({name: value for name, value in caller.items() if "TOKEN" in name.upper()})
    REDACTOR.hide_environment(build_env)
    own = {"GIT_CEILING_DIRECTORIES": str(ceiling), "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0"}
    return {**caller, **own, **build_env}

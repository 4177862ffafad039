"""The exit codes of `percore` and `invoke`. Errors carry them (`errors`); this says what each means."""

from __future__ import annotations

from percore.common.typing import NamedTuple


class ExitCode(NamedTuple):
    number: int
    meaning: str
    state: str  # of the hosts, or of what was asked for


EXIT_CODES = (
    ExitCode(0, "done, or nothing to do", "as requested"),
    ExitCode(
        1,
        "an internal error of percore, or a check that failed; `doctor` found a problem",
        "unknown: read the message; `doctor` changes nothing",
    ),
    ExitCode(2, "the command line, or a file you wrote, is wrong", "not touched"),
    ExitCode(
        3,
        "refused before anything changed: failed build, too little disk space, unknown host key, missing program, "
        "or the answer to the question was no",
        "not touched",
    ),
    ExitCode(4, "failed and rolled back", "every host serves what it served before"),
    ExitCode(
        5,
        "failed, and it is not certain that every host is rolled back",
        "the message names the hosts: `invoke status`, then deploy again",
    ),
    ExitCode(
        5,
        "`patch`: a host did not come back, or does not serve",
        "the message says which hosts are patched, failed, and not touched",
    ),
    ExitCode(6, "another rollout holds the lock", "not touched by this run"),
    ExitCode(7, "a host did not answer, or gave an invalid answer; the line says which", "not touched"),
    ExitCode(
        8,
        "`percore apply --check`, `deploy --check`, `plan`, `drift`: something would change, or differs",
        "not touched",
    ),
    ExitCode(9, "`status`: something that should run does not", "as shown"),
    ExitCode(130, "interrupted (Ctrl-C)", "what was not confirmed is rolled back"),
    ExitCode(129, "the terminal was closed", "what was not confirmed is rolled back"),
    ExitCode(141, "the reader of the output ended, as `head` does", "as requested so far"),
    ExitCode(143, "SIGTERM", "what was not confirmed is rolled back"),
)

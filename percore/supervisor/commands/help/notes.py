"""What a command's one line does not say, and its exit codes beside 0: for `--help`, man pages and docs/reference/commands.md.

Only a command that shows its help reads this; the supervisor never does.
"""

from __future__ import annotations

from percore.common.typing import NamedTuple


class Note(NamedTuple):
    more: str = ""  # sentences
    codes: str = ""  # `1: what failed`, separated by semicolons


NOTHING = Note()
_NO_TARGET = "2: no such target"
_NO_WORKER = "1: a worker failed"

NOTES = {
    "start": Note(
        "Takes a script (app.js -- --flag), a program in PATH (npm -- start), a command line in quotes, or a process file. "
        "An app selected by name is started where it is down; if none of it is down, it is restarted. A process file gives "
        "known apps its configuration and new workers: with a reload if they share a port, else with a restart. Without a "
        "target, the process file of the current directory is used.",
        "1: a worker failed, or the script runs already. A program that ends with 0 has not failed",
    ),
    "stop": Note("The apps stay in the list. A job in progress is cancelled.", _NO_TARGET),
    "restart": Note(
        "With a process file: with the configuration of the file, missing apps included. Options change the app.",
        _NO_WORKER,
    ),
    "reload": Note(
        "The new worker is ready before the old one stops. Without a shared port it is a restart. Options change the app.",
        "1: the new worker failed, the old ones stay",
    ),
    "delete": Note("A single worker of several cannot be deleted: use percore scale.", _NO_TARGET),
    "startOrRestart": Note(
        "The apps of the file get its configuration, the variables of this shell and new workers.", _NO_WORKER
    ),
    "startOrReload": Note(
        "The apps of the file get its configuration, the variables of this shell and new workers.", _NO_WORKER
    ),
    "scale": Note("", "2: fewer than one worker"),
    "reset": Note("", _NO_TARGET),
    "sendSignal": Note("", "1: none of them runs"),
    "send": Note("", "1: the worker does not run, or belongs to a cluster"),
    "attach": Note("Ctrl-C ends the command, not the worker.", "1: the worker does not run, or belongs to a cluster"),
    "apply": Note(
        "Prints the changes first. Apps that came from the file and are no longer in it are removed.",
        "4: it failed and was rolled back; 8: with --check, something would change",
    ),
    "update": Note("No worker is touched.", "1: the new version cannot start; the old one continues"),
    "kill": Note("Under systemd, an empty supervisor starts at once."),
    "runtime": Note("Logs go to standard output and standard error."),
    "save": Note(
        "Writes dump.json and, for the variables, dump.env.json, both readable only by their owner. The supervisor itself "
        "remembers which apps run: save is not needed to survive a reboot.",
        "1: no supervisor runs",
    ),
    "resurrect": Note("In their saved state: stopped apps stay stopped.", "1: nothing was saved"),
    "startup": Note(
        "As root: writes, enables and starts a unit, percore.service for root and percore-USER.service for others.",
        "1: not root; the line to type with sudo is printed",
    ),
    "unstartup": Note("The running supervisor continues.", "1: not root; the line to type with sudo is printed"),
    "list": Note("A full table, one with fewer columns, or plain text: the first that fits the terminal."),
    "status": Note("As list. With --json: the supervisor's own data."),
    "jobs": Note(
        "Also how long its last run took, and the last lines of a job that failed or is named.",
        "2: no such job",
    ),
    "describe": Note("", "1: no such app"),
    "env": Note("Also those of the shell that started the app."),
    "pid": Note("0 for a worker that does not run."),
    "id": Note("As a list; [] if there is no such app."),
    "heap": Note("Python programs have no heap that can be read from outside."),
    "profile": Note("Python programs need py-spy (pip install py-spy)."),
    "doctor": Note("Changes nothing.", "1: there is an error or a warning"),
    "report": Note("Read it before you send it: only what looks like a secret is hidden."),
    "init": Note("An existing file is never overwritten."),
    "set": Note(
        "Takes effect when an app is started or applied. A process file wins over it.", "2: there is no such setting"
    ),
    "unset": Note("", "2: there is no such setting"),
    "get": Note("", "2: it is not set"),
    "import-pm2": Note("Says what it will do and asks.", "1: an app could not be taken over; PM2 runs it again"),
}


def note_of(name: str) -> Note:
    return NOTES.get(name, NOTHING)

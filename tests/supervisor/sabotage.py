"""Runs a command on a kernel that refuses what it is told to: python sabotage.py REFUSED[,REFUSED] COMMAND...

Each REFUSED is the number of a socket option (SOL_SOCKET) that setsockopt() fails to set, as in a sandbox that lacks it. A
seccomp filter sees to that, for the command and all that it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

SETSOCKOPT = {"x86_64": 54, "aarch64": 208}[platform.machine()]
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.ENOPROTOOPT
LOAD, EQUAL, GIVE = 0x20, 0x15, 0x06


def step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def refuse(options: list[int]) -> None:
    # struct seccomp_data: the call's number at 0, its arguments from 16 on, 8 bytes each.
    steps = [step(LOAD, 0), step(EQUAL, SETSOCKOPT, 1, 0), step(GIVE, ALLOW)]
    steps += [step(LOAD, 16 + 8), step(EQUAL, 1, 1, 0), step(GIVE, ALLOW), step(LOAD, 16 + 16)]
    for option in options:
        steps += [step(EQUAL, option, 0, 1), step(GIVE, FAIL)]
    program = b"".join([*steps, step(GIVE, ALLOW)])
    code = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, header, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse([int(option) for option in sys.argv[1].split(",")])
    os.execvp(sys.argv[2], sys.argv[2:])

"""What holds for all tests."""

from __future__ import annotations

import os
import signal

# Hints name what the operator typed.
os.environ["PERCORE_RUN"] = "invoke"

# Background commands of a shell, and `nohup`, leave these ignored, and what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

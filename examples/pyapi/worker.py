"""A service that must run only once. Each second it writes a line with its pid."""

import os
import signal
import sys
import threading


def main():
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(1.0):
        print(f"tick pid={os.getpid()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

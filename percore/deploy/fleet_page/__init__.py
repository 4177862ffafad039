"""The dashboard of all hosts of an environment: served on this machine, or written into one file."""

DEFAULT_PORT = 9616

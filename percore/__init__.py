"""percore: run a Node.js or Python backend on every core of one to two hundred machines."""

__version__ = "0.1.0"

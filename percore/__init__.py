"""percore: run a Node.js or Python backend on every core of one to two hundred machines."""

__version__ = "1.0.0"

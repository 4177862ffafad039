"""Sent to a target over SSH: wanted state -> difference -> apply -> result. Standard library only."""

"""Stays on the target: config -> slots -> process events -> state -> control replies."""

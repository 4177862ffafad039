"""Real Linux hosts on one machine: systemd, sshd and NGINX in containers that reboot, on a network with no way out."""

from percore.lab.lab import Lab

__all__ = ["Lab"]

"""Real hosts on one Linux machine: systemd, sshd and NGINX in nspawn containers, for tests and for trying things."""

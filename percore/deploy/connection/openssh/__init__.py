"""What OpenSSH's client would do: its configuration, its keys, its known hosts. Nothing is connected here."""

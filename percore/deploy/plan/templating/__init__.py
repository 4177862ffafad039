"""Jinja2 with Ansible's filters, tests and lookups: from a text to a value, knowing no host."""

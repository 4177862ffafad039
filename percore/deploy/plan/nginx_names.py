"""The names that percore's sites have in NGINX's configuration."""

from __future__ import annotations

import hashlib
import re

MOST_ID = 16
"""Characters: what begins with it stays short, as NGINX's table of variables has little room for long names."""


def nginx_id(name: str) -> str:
    """Of an app, for its upstream and its variables: another one for each name, and the beginning of none of NGINX's own."""
    found = "app_" + re.sub(r"[^A-Za-z0-9]", lambda match: "_" if match[0] == "-" else f"_{ord(match[0]):x}_", name)
    if len(found) <= MOST_ID and found == found.lower():  # NGINX's variables know no capital letters
        return found
    return f"{found[: MOST_ID - 9].lower()}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"

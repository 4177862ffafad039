"""The keys of `role.yml`, in the order of the tables in `roles`, each with what it means and its default."""

from __future__ import annotations

from typing import NamedTuple


class KeyHelp(NamedTuple):
    help: str
    default: str = ""  # in words; empty where the key may be left out without any effect


ROLE_KEY_HELP: dict[str, KeyHelp] = {
    "description": KeyHelp("what the role is for; shown by nothing but the file"),
    "scope": KeyHelp("`release`: its items belong to a release; `host`: to the host, whatever release runs", "release"),
    "requires": KeyHelp("roles that are applied first"),
    "defaults": KeyHelp("variables of the lowest precedence: everything in the inventory overrides them"),
    "when": KeyHelp("the role is applied only if this expression is true; not together with `env`"),
    "tags": KeyHelp("tags of all its items"),
    "env": KeyHelp("variables for the app; its env file and the variable `env` override them"),
    "packages": KeyHelp("Debian packages; installed if they are missing, never removed"),
    "users": KeyHelp("users with a group of their own; created, never removed"),
    "directories": KeyHelp("directories"),
    "nodes": KeyHelp("official builds of Node.js; only with `scope: host`"),
    "files": KeyHelp("files, each with exactly one of `template`, `copy` and `content`"),
    "links": KeyHelp("symbolic links, or paths that should not exist"),
    "units": KeyHelp("systemd units: their files and their state"),
    "sites": KeyHelp("NGINX sites; checked with `nginx -t` on a copy, then enabled, then NGINX is reloaded"),
    "commands": KeyHelp("commands; with `scope: host` each needs `creates` or `unless`"),
    "handlers": KeyHelp("run once if an item notified them, after all changes, in this order"),
}

EVERYWHERE_HELP: dict[str, KeyHelp] = {
    "each": KeyHelp("a list: the item is there once for each entry, which its templates call `item`"),
    "notify": KeyHelp("the name of a handler, or a list of names"),
    "tags": KeyHelp("tags in addition to those of the role"),
    "when": KeyHelp("the item is there only if this expression is true"),
}

_MODE = "0644"
_OWNER = KeyHelp("owner; empty: the user that deploys", "the user that deploys")
_GROUP = KeyHelp("group; the name of a user means the login group of that user", "that of the owner")
ITEM_KEY_HELP: dict[str, dict[str, KeyHelp]] = {
    "packages": {
        "name": KeyHelp("name of the package", "required"),
        "program": KeyHelp("the package is not installed if this program exists already"),
    },
    "users": {
        "name": KeyHelp("name of the user", "required"),
        "home": KeyHelp("home directory", "as `useradd` chooses it"),
        "shell": KeyHelp("login shell", "/usr/sbin/nologin"),
        "system": KeyHelp("a system user", "true"),
        "groups": KeyHelp("supplementary groups; added, never removed"),
    },
    "directories": {
        "path": KeyHelp("the directory", "required"),
        "mode": KeyHelp("permissions", "0755"),
        "owner": _OWNER,
        "group": _GROUP,
    },
    "nodes": {
        "version": KeyHelp("the version", "required"),
        "path": KeyHelp("directory that gets a directory for each version", "required"),
    },
    "files": {
        "path": KeyHelp("the file", "required"),
        "template": KeyHelp("a Jinja2 template in `templates/` of the role, then of the project"),
        "copy": KeyHelp("a file in `files/` of the role"),
        "content": KeyHelp("the text itself"),
        "mode": KeyHelp("permissions", _MODE),
        "owner": _OWNER,
        "group": _GROUP,
        "validate": KeyHelp("a command that checks a copy, whose path stands for `%s`, before anything changes"),
        "secret": KeyHelp("no diff shows its lines", "false"),
    },
    "links": {
        "path": KeyHelp("the link", "required"),
        "to": KeyHelp("where it leads"),
        "state": KeyHelp("`absent`: nothing should be at the path", "present"),
    },
    "units": {
        "name": KeyHelp("name of the unit, with its ending", "required"),
        "path": KeyHelp("its file", "/etc/systemd/system/NAME"),
        "template": KeyHelp("template of its file; checked with `systemd-analyze verify`", "the file is not managed"),
        "active": KeyHelp("true: it runs; false: it is stopped", "left as it is"),
        "enabled": KeyHelp("true: it starts at boot; false: it does not", "left as it is"),
        "mode": KeyHelp("permissions of its file", _MODE),
        "on_change": KeyHelp(
            "what a changed unit file asks for: `restart`, `reload`, `none`; `handover` is for percore's own unit",
            "restart if `active` is true, else none",
        ),
    },
    "sites": {
        "name": KeyHelp("name of the site", "required"),
        "template": KeyHelp("template of its file", "required"),
        "path": KeyHelp("its file", "/etc/nginx/sites-available/NAME"),
        "link": KeyHelp("the link by which `nginx.conf` finds it", "/etc/nginx/sites-enabled/NAME"),
        "replaces": KeyHelp("links of other sites that are removed when it is enabled"),
    },
    "commands": {
        "run": KeyHelp("the command, or a list of its words", "required"),
        "name": KeyHelp("shown instead of the command", "the command"),
        "creates": KeyHelp("not run if this path exists"),
        "unless": KeyHelp("not run if this command succeeds; it must not change anything"),
        "seconds": KeyHelp("time limit", "120"),
    },
    "handlers": {
        "name": KeyHelp("its name, which `notify` uses", "required"),
        "restart": KeyHelp("restart this unit"),
        "reload": KeyHelp("reload this unit"),
        "run": KeyHelp("run this command"),
        "seconds": KeyHelp("time limit of `run`", "120"),
        "when": KeyHelp("the handler is there only if this expression is true"),
    },
}

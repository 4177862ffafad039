"""Commands of PM2 that are not here, and what does the same."""

from __future__ import annotations

_REGISTRY = "there are no modules; logs rotate by themselves (log_max_size, log_keep), figures are in 'percore monit'"
_SERVICE = "percore sends nothing to any service; figures are in 'percore monit', 'percore jlist' and 'percore doctor'"
_GIT = "the deploy side brings releases and takes them back: ./run deploy --env NAME, ./run rollback --env NAME"

ELSEWHERE = {
    "deepUpdate": "install the newer percore (pip install -U percore), then: percore update",
    "pull": _GIT, "forward": _GIT, "backward": _GIT, "deploy": _GIT,
    "create": "percore init, then: percore start",
    "install": _REGISTRY, "uninstall": _REGISTRY, "publish": _REGISTRY, "module": _REGISTRY,
    "module:install": _REGISTRY, "module:update": _REGISTRY, "module:uninstall": _REGISTRY, "module:generate": _REGISTRY,
    "module:publish": _REGISTRY, "package": _REGISTRY,
    "link": _SERVICE, "unlink": _SERVICE, "plus": _SERVICE, "register": _SERVICE, "login": _SERVICE, "logout": _SERVICE,
    "monitor": _SERVICE, "unmonitor": _SERVICE, "open": _SERVICE, "trigger": _SERVICE,
    "web": "percore monit, or percore jlist for programs",
    "multiset": "percore set NAME VALUE, for each",
    "autoinstall": "pip install percore",
    "examples": "see docs/reference/process-file.md",
    "profile:cpu": "node_args: --cpu-prof, then: percore reload",
    "profile:mem": "node_args: --heap-prof, then: percore reload",
}  # fmt: skip

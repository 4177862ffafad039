"""Workers as PM2's `jlist` shows them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from percore.supervisor.commands import take_none
from percore.supervisor.commands.asking import select_workers

PM2_STATES = {"running": "online", "starting": "launching", "stopping": "stopping", "stopped": "stopped",
               "backoff": "waiting restart", "exited": "stopped", "fatal": "errored"}  # fmt: skip


def shown_state(worker: Mapping[str, Any]) -> str:
    """As people see it; scripts that know PM2's words read those in `jlist`."""
    return "crash-looping" if worker["crash_looping"] else PM2_STATES[worker["state"]]


def print_jlist(arguments: list[str]) -> int:
    take_none("jlist", arguments)
    sys.stdout.write(json.dumps([pm2_fields(worker) for worker in select_workers()]))
    return 0


def pm2_fields(worker: Mapping[str, Any]) -> dict[str, Any]:
    """One worker as PM2's `jlist` shows it; values of the environment stay where they are."""
    config = worker["config"]
    instance_var = config.get("instance_var", "NODE_APP_INSTANCE")
    return {
        "pid": worker["pid"],
        "name": worker["name"],
        "pm_id": worker["id"],
        "monit": {"memory": worker["memory_bytes"], "cpu": worker["cpu_percent"]},
        "pm2_env": {
            "name": worker["name"], "namespace": worker["namespace"], "pm_id": worker["id"],
            "status": PM2_STATES[worker["state"]], "restart_time": worker["restarts"],
            "unstable_restarts": worker["unstable_restarts"],
            "exec_mode": f"{worker['mode']}_mode", "exec_interpreter": config.get("interpreter", "none"),
            "pm_exec_path": os.path.join(worker["cwd"], config["script"]), "pm_cwd": worker["cwd"],
            "args": config.get("args", []), "node_args": config.get("interpreter_args", []),
            "instances": worker["instances"], instance_var: worker["slot"],
            "pm_out_log_path": worker["out_file"], "pm_err_log_path": worker["error_file"],
            "pm_uptime": int(worker["started_time"] * 1000), "created_at": int(worker["started_time"] * 1000),
            "watch": bool(config.get("watch")), "autorestart": config.get("autorestart", True),
            "exit_code": worker["exit_code"], "env": {}, "axm_monitor": {}, "axm_actions": [], "axm_options": {},
        },
    }  # fmt: skip

"""`percore describe`: everything about a worker."""

from __future__ import annotations

from percore.supervisor.commands.asking import select_workers
from percore.supervisor.commands.parsing import make_parser
from percore.supervisor.commands.pm2json import shown_state
from percore.supervisor.commands.tables import duration, size, table


def describe_workers(arguments: list[str]) -> int:
    parser = make_parser("describe")
    parser.add_argument("selector", help="name, id, namespace, /regex/ or all")
    options = parser.parse_args(arguments)
    for worker in select_workers(options.selector):
        config = worker["config"]
        rows = [
            ("status", shown_state(worker) + (f" ({worker['failure']})" if worker["failure"] else "")),
            ("name", worker["name"]), ("namespace", worker["namespace"]), ("mode", worker["mode"]),
            ("pid", str(worker["pid"] or "-")), ("release", worker["release"] or "-"), ("restarts", str(worker["restarts"])),
            ("last end", worker["last_end"] or "-"), ("uptime", duration(worker["uptime_seconds"])),
            ("script", config["script"]), ("args", " ".join(config.get("args", [])) or "-"),
            ("interpreter", " ".join([config.get("interpreter", "none"), *config.get("interpreter_args", [])])),
            ("cwd", worker["cwd"]), ("listens on", ", ".join(worker["addresses"]) or "-"),
            ("port sharing", worker["sharing"]), ("out log", worker["out_file"]), ("error log", worker["error_file"]),
            ("memory", size(worker["memory_bytes"])), ("cpu", f"{worker['cpu_percent']:.1f}%"),
            ("environment", ", ".join(config["env"]) or "-"),
        ]  # fmt: skip
        print(f"worker {worker['id']} of {worker['name']}, slot {worker['slot']}")
        print(table(["key", "value"], rows))
    return 0

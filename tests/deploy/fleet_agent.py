"""The agent of a simulated host: a program in the place of its Python, that remembers what was done to it. It needs no package.

python3 -I -S fleet_agent.py FOLDER HOST
"""

import json
import os
import sys
import time

FACTS = {
    "hostname": "web", "system": "Linux", "machine": os.uname().machine, "kernel": "6.1.0", "os": "debian", "os_version": "12",
    "os_codename": "bookworm", "python": "3.11.2", "python_path": "/usr/bin/python3", "uid": 0, "user": "root", "cores": 2,
    "memory_bytes": 10**9, "systemd": True, "nginx": None, "node": "/usr/bin/node", "disk_free_bytes": 10**11,
}  # fmt: skip
PHASE = {"asked": 10, "failed": 0, "faults": [], "p50": 0.1, "p99": 0.1}
CHANGES = {"changes": [{"text": "write /etc/x", "diff": "-a\n+b\n"}], "reasons": ["app web is new"], "handlers": []}
FEW = {"changed": ["create /etc/x", "check health"]}


class Host:
    """What is known of the host between two connections."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name + ".json")
        self.state = {"current": None, "former": None, "marks": {}, "package": None}
        if os.path.exists(self.path):
            with open(self.path) as file:
                self.state = json.load(file)

    def save(self):
        with open(self.path + ".new", "w") as file:
            json.dump(self.state, file)
        os.replace(self.path + ".new", self.path)

    def status(self):
        current = self.state["current"]
        worker = {
            "slot": 0, "pid": 41, "state": "running", "release": current or "", "port": 5000, "memory_bytes": 1000,
            "cpu_percent": 0.5, "uptime_seconds": 1.0, "restarts": 0, "config_hash": "0a", "env_hash": "0b",
        }  # fmt: skip
        apps = [{"name": "web", "mode": "cluster", "wanted": 1, "workers": [worker]}]
        return {"release": current, "daemon": True, "apps": apps if current else []}

    def told(self, op):
        """What a test wants it to answer, after the time that it wants it to take."""
        path = os.path.splitext(self.path)[0] + "." + op
        if not os.path.exists(path):
            return ""
        with open(path) as file:
            asked = json.load(file)
        time.sleep(asked["seconds"])
        return asked["answer"]

    # -- operations ----------------------------------------------------------------------------------------------------

    def inspect(self, message):
        current = self.state["current"]
        known = any(mark["fingerprint"] == message.get("fingerprint") for mark in self.state["marks"].values())
        return {
            "current": current, "marks": self.state["marks"], "changes": [] if known else ["write /etc/x"], "owed": [],
            "unfinished": False, "status": self.status(), "workers": [], "disk_free_bytes": 10**11, "inodes_free": None,
            "memory_free_bytes": 10**10, "versions": {"node": "20.1.0"},
        }  # fmt: skip

    def stage(self, message):
        """Asks for what a host that has the same percore lacks: the app."""
        package = message["package"]
        wanted = [(message["artifact"]["sha256"], message["artifact"]["bytes"])]
        if package["sha256"] != self.state["package"]:
            wanted.append((package["sha256"], package["bytes"]))
        say({"event": "need", "parts": [sha256 for sha256, _ in wanted]})
        left = sum(size for _, size in wanted)
        while left:
            left -= len(sys.stdin.buffer.read(min(left, 1 << 16)))
        self.state["package"] = package["sha256"]
        marks = {"mark": "staged", "fingerprint": message["fingerprint"], "digest": message["digest"]}
        self.state["marks"][message["release"]] = marks
        say({"event": "progress", "text": "unpacked"})
        return FEW

    def activate(self, message):
        if message["release"] != self.state["current"]:
            self.state.update(former=self.state["current"], current=message["release"])
        say({"event": "worker", "app": "web", "slot": 0, "state": "running", "pid": 41})
        return {"former": self.state["former"], "status": self.status()}

    def confirm(self, message):
        self.state["marks"][message["release"]]["mark"] = "good"
        return {"pruned": []}

    def revert(self, message):
        self.state["current"] = self.state["former"]
        return {"status": self.status()}

    def find(self, message):
        good = [name for name, mark in sorted(self.state["marks"].items()) if mark["mark"] == "good"]
        others = [name for name in good if name != self.state["current"]]
        return {"release": others[-1], "current": self.state["current"]}

    def answer(self, message):
        op = message["op"]
        told = self.told(op)
        if told:
            return json.loads(told)
        work = getattr(self, op, None) if op in ("inspect", "stage", "activate", "confirm", "revert", "find") else None
        if work:
            answer = work(message)
            self.save()
            return answer
        return {
            "status": {"current": self.state["current"], "status": self.status(), "missing": []},
            "health": {"status": self.status()}, "attach": {"status": self.status()}, "ports": {"strangers": {}},
            "compare": CHANGES, "compare_release": CHANGES, "prepare": FEW, "probe": {"probe": None},
            "history": {"entries": []}, "jobs": {"jobs": []}, "diagnose": {"findings": [], "certificates": []},
            "drift": {"current": self.state["current"], "status": self.status(), "workers": [], "files": [], "owed": []},
        }.get(op, {})  # fmt: skip


def say(event):
    sys.stdout.buffer.write(json.dumps(event).encode() + b"\n")
    sys.stdout.buffer.flush()


def main():
    host = Host(sys.argv[1], sys.argv[2])
    host.told("start")
    sys.stdout.buffer.write(b"percore agent is here\n")
    sys.stdout.buffer.flush()
    sys.stdin.buffer.readline()
    say({"event": "facts", "facts": {**FACTS, "time": time.time()}})
    for line in sys.stdin.buffer:
        if line.strip():
            message = json.loads(line)
            if message["op"] == "bye":
                return
            say({"event": "result", "ok": True, **host.answer(message)})


if __name__ == "__main__":
    main()

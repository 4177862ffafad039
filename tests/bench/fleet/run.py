"""`./run bench.fleet`: what 1 to 200 hosts cost the control machine, simulated, and on lab hosts beside Ansible and pyinfra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from percore.errors import PercoreError, UsageError
from tests.bench.deploy.run import describe_machine, lab
from tests.bench.deploy.tools import Ansible, Percore, Place, Pyinfra, Tool, Work, inside, install
from tests.bench.fleet.figures import FleetCurve, Sample, draw, render
from tests.deploy.simulated_fleet import ENV, SimulatedFleet, simulated_fleet

SIMULATED = (1, 10, 50, 100, 200)
ROUNDS = 3
WORK = Work(files=10, service=False)


class AnsibleInRust(Ansible):
    """ansible-core-rs reads Ansible's files, but only the variables of hosts. Its one program has subcommands."""

    name = "ansible-core-rs"

    def inventory(self, **variables: Any) -> str:
        read = yaml.safe_load(super().inventory(**variables))
        common = read["all"].pop("vars")
        for host in read["all"]["children"]["app"]["hosts"].values():
            host.update(common)
        return str(yaml.safe_dump(read, width=1000))

    def command(self, *words: str) -> list[str]:
        program, forks = install("ansible-core-rs") / "ansible", str(len(self.places))
        return [str(program), "playbook", "-i", "inventory.yml", "-f", forks, "playbook.yml"]


def run(hosts: str = "", lab_hosts: str = "", json_path: str = "", *, quick: bool = False) -> None:
    """Prints the table; with a path also writes every sample, and the plot beside it as SVG."""
    counts, of_lab = _counts(hosts, SIMULATED), _counts(lab_hosts, ())
    machine = describe_machine(quick=quick)
    print(json.dumps(machine), flush=True)
    rounds = 1 if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="percore-fleet-") as directory:
        curves = [*simulated(Path(directory), counts, rounds), *on_lab(Path(directory), of_lab, rounds)]
    print(render(curves))
    if json_path:
        record = {"machine": machine, "curves": [curve._asdict() for curve in curves]}
        Path(json_path).write_text(json.dumps(record, indent=1) + "\n")
        Path(json_path).with_suffix(".svg").write_text(draw(curves))


def _counts(written: str, default: Sequence[int]) -> list[int]:
    words = written.split(",") if written else [*map(str, default)]
    if not all(word.strip().isdecimal() and 1 <= int(word) <= 200 for word in words):
        raise UsageError(f"'{written}' is no list of numbers from 1 to 200", next="such as 1,10,50")
    return sorted(map(int, words))


# -- simulated hosts ---------------------------------------------------------------------------------------------------


def simulated(folder: Path, counts: Sequence[int], rounds: int) -> list[FleetCurve]:
    """One sshd answers for all: real connections, and agents that remember what was done."""
    verbs = ("status", "no-change deploy", "rolling deploy")
    samples: dict[str, dict[int, list[Sample]]] = {verb: {count: [] for count in counts} for verb in verbs}
    with simulated_fleet(folder) as fleet:
        for count in counts:
            fleet.have(count, serial="25%")
            fleet.forget()
            _invoke(fleet, "deploy")
            for number in range(rounds):
                for verb in verbs:
                    if verb == "rolling deploy":
                        fleet.write(f"{count} {number}")
                    samples[verb][count].append(_invoke(fleet, verb.split()[-1]))
                    _tell("percore", verb, count, samples[verb][count][-1])
    return [FleetCurve("percore", verb, "simulated", found) for verb, found in samples.items()]


def _invoke(fleet: SimulatedFleet, verb: str) -> Sample:
    return measure([sys.executable, "-m", "invoke", verb, "--env", ENV], fleet.project, _environment())


def _environment() -> dict[str, str]:
    """Compiled modules are kept, as everywhere but in some containers: else each start compiles percore anew."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


# -- lab hosts ---------------------------------------------------------------------------------------------------------


def on_lab(folder: Path, counts: Sequence[int], rounds: int) -> Iterator[FleetCurve]:
    """Ten config files and an unchanged run, by each tool on the same hosts."""
    kinds: tuple[type[Tool], ...] = (Percore, Ansible, AnsibleInRust, Pyinfra)
    samples: dict[str, dict[int, list[Sample]]] = {kind.name: {} for kind in kinds}
    for count in counts:
        with lab(folder / f"lab{count}", count) as hosts:
            places = [Place(host, host.address, 22) for host in hosts]
            for kind in kinds:
                tool = kind(folder / f"tools{count}", places, WORK)
                runner = _runner(tool)
                runner()  # the first time, which changes something
                samples[kind.name][count] = [runner() for _ in range(rounds)]
                _tell(kind.name, "ten files", count, samples[kind.name][count][-1])
    for name, found in samples.items():
        if found:
            yield FleetCurve(name, "ten files, no change", "lab", found)


def _runner(tool: Tool) -> Callable[[], Sample]:
    words = inside(tool.places[0].host, tool.command())
    return lambda: measure(words, tool.folder, tool.environment())


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(words: Sequence[str], folder: Path, environment: dict[str, str]) -> Sample:
    """A command with all that it waits for; memory is that of its largest process."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        _, state, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(state)
        seconds = time.perf_counter() - began
        if child.returncode:
            said.seek(0)
            raise PercoreError(f"'{words[-3]}' ended with {child.returncode}", detail=said.read().decode()[-3000:])
    return Sample(round(seconds, 3), round(used.ru_utime + used.ru_stime, 3), round(used.ru_maxrss / 1000, 1))


def _tell(tool: str, verb: str, count: int, found: Sample) -> None:
    print(f"  {tool} {verb}, {count} hosts: {found.wall_seconds:.2f} s, CPU {found.cpu_seconds:.2f} s", flush=True)

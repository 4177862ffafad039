"""`invoke doctor`: what is wrong with the control machine and with each host, and what to type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from percore.common.finding import ERROR, NOTE, WARNING, Finding, are_well
from percore.deploy.connection.care_messages import Diagnosis
from percore.deploy.fleet.control_machine import about_machine, about_secrets
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, connect_all, load_hosts
from percore.deploy.rollout.parallel import count_hosts, on_all
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError

HERE = "this machine"
CLOCK_SECONDS = 2.0
"""More than the line takes; log lines and certificates are compared by it."""
_ORDER = (ERROR, WARNING, NOTE)


class ProblemsFound(PercoreError):
    """Something is wrong; exit code 1."""


@dataclass
class Findings:
    """By place: this machine, or a host."""

    by_place: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, place: str, findings: Sequence[Finding] | Iterator[Finding]) -> None:
        self.by_place.setdefault(place, []).extend(findings)

    def alike(self) -> dict[Finding, list[str]]:
        """The places of each finding, the gravest first."""
        found: dict[Finding, list[str]] = {}
        for place, findings in self.by_place.items():
            for finding in dict.fromkeys(findings):
                found.setdefault(finding, []).append(place)
        return dict(sorted(found.items(), key=lambda pair: _ORDER.index(pair[0].severity)))


def doctor(scope: Scope, report: Report, *, as_json: bool) -> None:
    """Raises ProblemsFound for what is more than a note."""
    found = Findings()
    found.add(HERE, about_machine(scope))
    hosts = _hosts_of(scope, found)
    with closing_hosts(hosts):
        _look_at_hosts(hosts, found)
    if as_json:
        places = found.by_place.items()
        report.json([{"place": place, "findings": [each._asdict() for each in own]} for place, own in places])
    else:
        _show(found, report)
    wrong = {place: own for place, own in found.by_place.items() if not are_well(own)}
    if wrong:
        raise ProblemsFound(f"problems found: {', '.join(wrong)}")
    if not as_json:
        report.finish(f"no problems found on {count_hosts(hosts)}")


def _hosts_of(scope: Scope, found: Findings) -> list[Host]:
    """None where the inventory itself is wrong, which is a finding."""
    try:
        hosts = load_hosts(scope, also_without_app=True)
    except PercoreError as fault:
        found.add(HERE, [of_fault(fault, "inventory")])
        return []
    found.add(HERE, about_secrets(hosts))
    return hosts


def of_fault(fault: PercoreError, topic: str) -> Finding:
    return Finding(f"{fault.where}: {fault.what}" if fault.where else fault.what, fault.next or "-", topic, ERROR)


def _look_at_hosts(hosts: Sequence[Host], found: Findings) -> None:
    unreachable = connect_all(hosts)
    reached = [host for host in hosts if host.name not in unreachable]
    answers, faults = on_all(reached, ask_diagnosis)
    for host in hosts:
        found.add(host.name, [])
        if fault := unreachable.get(host.name) or faults.get(host.name):
            found.add(host.name, [Finding(fault.what, fault.next or "-", "connection", ERROR)])
        else:
            found.add(host.name, findings_of(host, answers[host.name]))


def ask_diagnosis(host: Host) -> Diagnosis:
    answer: Diagnosis = host.ask("diagnose", ports=client_ports(host))
    return answer


def client_ports(host: Host) -> list[int]:
    """Where clients connect: to NGINX, or to the app itself where there is none."""
    if host.app is None:
        return []
    if host.app.site:
        return list(host.app.site.ports)
    return [host.app.port] if host.app.port else []


def findings_of(host: Host, answer: Diagnosis) -> Iterator[Finding]:
    from percore.deploy.fleet.certificates import about_certificates  # loads cryptography

    for said in answer["findings"]:
        on_host = said["next"].startswith("percore ")
        advice = f"there: {said['next']}" if on_host else said["next"]
        yield Finding(said["what"], advice, said["topic"], said["severity"])
    skew = host.agent.clock_skew
    if abs(skew) > CLOCK_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        what = f"its clock is {abs(skew):.0f} s {way} that of this machine"
        yield Finding(what, "systemd-timesyncd or chrony there, and here", "clock")
    yield from about_certificates(answer["certificates"])


def _show(found: Findings, report: Report) -> None:
    everywhere: Mapping[str, list[Finding]] = found.by_place
    for finding, places in found.alike().items():
        where = f"all {len(places)} hosts" if len(places) == len(everywhere) - 1 > 1 else ", ".join(places)
        report.line(f"{finding.severity:<8} {where}: {finding.what} -> {finding.next}")

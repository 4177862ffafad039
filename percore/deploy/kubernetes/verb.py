"""`invoke kube`: the manifests of an environment, written to build/kubernetes/ENV, and what changed in them by its meaning."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from percore.deploy.command_line import relative
from percore.deploy.hand_off.files import Files
from percore.deploy.hand_off.write import Written, bring_files, compare_files
from percore.deploy.kubernetes import compare
from percore.deploy.kubernetes.apps import make_workloads
from percore.deploy.kubernetes.left import what_is_left
from percore.deploy.kubernetes.manifests import Manifests, make_files, make_manifests
from percore.deploy.kubernetes.measured import Uses, with_use
from percore.deploy.kubernetes.objects.configuration import secret
from percore.deploy.kubernetes.reading.project import ReadProject
from percore.deploy.kubernetes.reading.projects import read_projects
from percore.deploy.kubernetes.yaml_text import yaml_text
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError


def write_manifests(scope: Scope, report: Report, *, check: bool, with_secrets: bool, uses: Uses | None = None) -> None:
    """With `check` only shows what would change, and ends with ChangesPending when anything would."""
    read = read_projects(scope, report)
    found = [_manifests_of(each, report, with_secrets=with_secrets, uses=uses or {}) for each in read]
    options = " ".join(["--with-secrets"] * with_secrets)
    files = make_files(found, scope.env, scope.command("kube", options), scope.project / "templates")
    directory = directory_of(scope)
    advice: list[str] = []
    written = compare_files(directory, files, lambda old, new, _: _meaning(old, new, advice))
    _show(written, directory, files, report)
    for text in advice:
        report.warn(text)
    if check and written.files:
        raise ChangesPending(f"{relative(directory)} would change; nothing was written", next=scope.command("kube"))
    if not check:
        private = {each.secret_file for each in found if each.secret_file}
        bring_files(directory, files, written, private)
    state = ("would change" if check else "changed") if written.files else "unchanged"
    report.finish(
        f"{relative(directory)}/ {state}: kubectl apply -k {relative(directory)}, after the steps of its README.md"
    )


def print_secrets(scope: Scope) -> None:
    """The Secrets of an environment, for a pipe: on a terminal they would be read by others."""
    if sys.stdout.isatty():
        advice = scope.command("kube", "--print-secret | kubectl apply -f -")
        raise UsageError("secrets are not printed on a terminal", next=advice)
    texts = [
        yaml_text(secret(each.project)) for each in read_projects(scope, Report(quiet=True)) if each.project.secrets
    ]
    sys.stdout.write("---\n".join(texts))


def directory_of(scope: Scope) -> Path:
    return scope.project / "build" / "kubernetes" / scope.env


def _manifests_of(read: ReadProject, report: Report, *, with_secrets: bool, uses: Uses) -> Manifests:
    workloads = with_use(make_workloads(read.project, read.apps, read.environments), uses)
    made = make_manifests(read.project, workloads, with_secrets=with_secrets)
    report.phase("manifests", f"{read.project.settings.name}, release {read.project.release}")
    for text in what_is_left(read.project, read.apps, workloads, read.variables, read.roles):
        report.step(f"not the same: {text}")
    return made


def _show(written: Written, directory: Path, files: Files, report: Report) -> None:
    for name in written.edited:
        report.warn(f"{relative(directory / name)} was changed by hand, and is written anew")
    for text in written.meaning or [f"~ {name}" for name in written.files]:
        report.change(text)
    for name in strangers_in(directory, files, written):
        report.step(f"left as it is: {name}, which percore did not write")


def _meaning(old: Files, new: Files, advice: list[str]) -> list[str]:
    """The changes; advice is about what `kubectl apply` does not do."""
    advice += compare.refused(old, new)
    advice += compare.left_in_cluster(old, new)
    return compare.changes(old, new)


def strangers_in(directory: Path, files: Files, written: Written) -> Sequence[str]:
    """Files that somebody else put there; Kustomize reads what `kustomization.yaml` names alone."""
    if not directory.is_dir():
        return []
    ours = {*files, *written.files, ".gitignore"}
    return sorted(entry.name for entry in directory.iterdir() if entry.name not in ours)

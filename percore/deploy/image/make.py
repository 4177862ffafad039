"""The story of `invoke image`: a base, the artifact that a deploy would send, what they need, and one file of all that."""

from __future__ import annotations

from pathlib import Path

from percore.deploy.build.app import build, needs_target
from percore.deploy.build.artifact import Artifact
from percore.deploy.image.base import Base, machine
from percore.deploy.image.choose_base import can_copy, can_have, choose_base, unread
from percore.deploy.image.compose import compose
from percore.deploy.image.config import make_config, make_labels
from percore.deploy.image.layer import Layers
from percore.deploy.image.layout import Image
from percore.deploy.image.reference import image_reference, image_release, moment_of, require_repository
from percore.deploy.image.write import CONTAINERFILE, ImageWish, as_json, push, push_command, rows_of, write_image
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError


def make_images(scope: Scope, report: Report, wish: ImageWish, *, json: bool) -> None:
    """One of each app of the environment. Asks no host."""
    wish.require_known()
    hosts = {host.settings.name: host for host in reversed(load_hosts(scope))}
    if wish.output and len(hosts) > 1:
        raise UsageError(
            f"--output names one file, and there are several apps: {', '.join(sorted(hosts))}", next="leave it out"
        )
    for host in hosts.values():
        require_repository(host.settings)
    layers = Layers(scope.project / ".percore" / "build" / "image" / scope.env)
    made = [_make(host, layers, report, wish) for _, host in sorted(hosts.items())]
    layers.forget_others()
    if json:
        report.json(made)


def _make(host: Host, layers: Layers, report: Report, wish: ImageWish) -> object:
    settings, project = host.settings, host.scope.project
    as_context = wish.format == CONTAINERFILE or (not wish.format and not can_have(settings))
    report.phase("base", settings.image_base or "Debian")
    base = _base(host, layers, wish, as_context=as_context)
    report.phase("build", settings.name)
    target = base.files.target(machine()) if needs_target(settings) and base.files.python else None
    artifact = build(settings, project, report.step, target)
    if not artifact.was_built:
        report.step(f"unchanged, {artifact.size_text} from the cache")
    image = _image(host, artifact, base, layers)
    report.table(("layer", "unpacked", "compressed"), rows_of(image.layers))
    path = _path(host, wish, as_context=as_context)
    write_image(image, base, path, report, as_context=as_context)
    if wish.push:
        push(image, path, report)
    elif not as_context:
        report.line(f"to a registry: {' '.join(push_command(image, path))}")
    return as_json(image, path)


def _base(host: Host, layers: Layers, wish: ImageWish, *, as_context: bool) -> Base:
    """A Containerfile names an image of a registry, and the engine fetches it."""
    if as_context and not can_copy(host.settings):
        return unread(host.settings)
    return choose_base(host.settings, host.scope.project, layers, anew=wish.new_base)


def _image(host: Host, artifact: Artifact, base: Base, layers: Layers) -> Image:
    settings = host.settings
    release, moment = image_release(settings, artifact), moment_of(settings, artifact)
    reference = image_reference(settings, release)
    found = compose(settings, host.variables, artifact, base, host.scope.project, layers)
    labels = make_labels(settings, artifact, base, release, moment)
    return Image(reference, found, make_config(settings, artifact, base, found, labels), labels)


def _path(host: Host, wish: ImageWish, *, as_context: bool) -> Path:
    if wish.output:
        return Path(wish.output).absolute()
    return (
        host.scope.project / "build" / "image" / host.scope.env / f"{host.settings.name}{'' if as_context else '.tar'}"
    )

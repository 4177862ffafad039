"""Everything a host should have, ready to send: what `render` makes of a plan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from percore.deploy.plan.settings import AppSettings
from percore.deploy.plan.site import SiteSettings
from percore.host.tags import Selection


@dataclass(frozen=True)
class HostState:
    """Everything a host should have, ready to send. Specs are those of percore/host/resources/registry.py.

    `prepare` is made while staging and stays (packages, users, directories); `before` and `after` are done when the
    apps are switched, and rolled back when that fails; `handlers` run after all that, those that were notified. `setup` is
    what the host has whatever release runs. `files` are contents by SHA-256.
    """

    host: str
    settings: AppSettings | None  # None where the host has no app
    prepare: tuple[dict[str, Any], ...]
    before: tuple[dict[str, Any], ...]
    after: tuple[dict[str, Any], ...]
    handlers: tuple[dict[str, Any], ...] = ()
    setup: tuple[dict[str, Any], ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def select(self, selection: Selection) -> HostState:
        """Only what a run is about."""
        prepare, before, after = (tuple(selection.of(specs)) for specs in (self.prepare, self.before, self.after))
        return replace(self, prepare=prepare, before=before, after=after, setup=tuple(selection.of(self.setup)))

    def contents_of(self, specs: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
        wanted = {str(spec["sha256"]) for spec in specs if "sha256" in spec}
        return {sha256: content for sha256, content in self.files.items() if sha256 in wanted}

    def release_files(self) -> dict[str, bytes]:
        """Without those of the host's set-up, which are sent by themselves."""
        return self.contents_of((*self.before, *self.after))

    def health(self) -> dict[str, Any]:
        settings = self.settings
        assert settings is not None
        host = {"host": settings.asked_host} if settings.asked_host else {}
        port = {"port": settings.port} if settings.port else {}
        return {
            "path": settings.health_path,
            "seconds": settings.health_seconds,
            **host,
            **port,
            **(self._site_health(settings.site) if settings.site else {}),
        }

    def _site_health(self, site: SiteSettings) -> dict[str, Any]:
        """Only a site that answers with its token is known to serve https, too: others are the project's own."""
        token = next((spec["token"] for spec in self.after if spec.get("token")), "")
        if not token:
            return {"site_port": site.port}
        return {
            "site_port": site.port,
            "site_token": token,
            **({"tls_port": site.tls_port} if site.certificate else {}),
        }

    def activation(self) -> dict[str, Any]:
        return {
            "before": list(self.before),
            "after": list(self.after),
            "handlers": list(self.handlers),
            "health": self.health(),
        }

    def resources(self) -> list[dict[str, Any]]:
        return [*self.prepare, *self.before, *self.after]

    def set_up(self, *, with_app: bool) -> list[dict[str, Any]]:
        """What is done before a release is checked; without the app, all that is not a release's."""
        prepare = [spec for spec in self.prepare if spec["kind"] == "packages"] if with_app else self.prepare
        return [*prepare, *self.setup]

    def fingerprint(self, artifact: str, record: Mapping[str, Any]) -> str:
        """Differs when anything of the host should differ. The release's own id and path, and mere remarks, do not count."""
        wanted = json.loads(json.dumps([self.prepare, self.activation()]), object_hook=_without_remarks)
        command = self.settings.release_command if self.settings else None
        steps = [dataclasses.asdict(command)] if command else []
        text = json.dumps([artifact, record, wanted, *steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_remarks(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("tags", "secret", "shown")}

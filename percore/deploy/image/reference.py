"""What an image is called: the repository of the inventory, and the release's id as its tag."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from percore.common import names
from percore.common.passwords import for_programs
from percore.deploy import schema
from percore.deploy.build.artifact import Artifact
from percore.deploy.build.commands import Commands
from percore.deploy.build.git import find_repository
from percore.deploy.plan.settings import AppSettings
from percore.errors import UsageError


def image_reference(settings: AppSettings, release: str) -> str:
    """`REPOSITORY:RELEASE`, as a pod names the image."""
    return f"{require_repository(settings)}:{names.require_release_id(release)}"


def require_repository(settings: AppSettings) -> str:
    """Raises UsageError where the app's own name cannot be a repository, and the inventory names none."""
    try:
        return settings.image_repository or schema.IMAGE_REPOSITORY.convert(settings.name)
    except ValueError:
        raise UsageError(
            f"app_name '{settings.name}' cannot be the name of an image",
            next=f"set image_repository in the inventory, such as {settings.name.lower().strip('._-') or 'app'}",
        ) from None


def image_release(settings: AppSettings, artifact: Artifact) -> str:
    """The id of the artifact's release without a host that has one: with the time of its commit, not of the clock."""
    moment = datetime.fromtimestamp(moment_of(settings, artifact), timezone.utc)
    return f"{moment:%Y%m%d%H%M%S}-{artifact.digest[:8]}"


def moment_of(settings: AppSettings, artifact: Artifact) -> int:
    """When the artifact's commit was made, in seconds; `SOURCE_DATE_EPOCH` counts more. Without a commit 0."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isascii() and given.isdigit():
        return int(given[:10])
    if artifact.commit is None:
        return 0
    repository = find_repository(settings.path, Commands(settings.path, for_programs(), lambda _: None))
    said = repository.git("show", "-s", "--format=%ct", artifact.commit.sha) if repository else None
    return int(said) if said and said.strip().isdigit() else 0

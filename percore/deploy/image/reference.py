"""What an image is called: the repository of the inventory, and the release's id as its tag."""

from __future__ import annotations

from datetime import datetime, timezone

from percore.common import names
from percore.deploy import schema
from percore.deploy.build.artifact import Artifact
from percore.deploy.plan.settings import AppSettings
from percore.errors import UsageError


def image_reference(settings: AppSettings, release: str) -> str:
    """`REPOSITORY:RELEASE`, as a pod names the image. Raises UsageError where the app's own name cannot be a repository."""
    return f"{_repository(settings)}:{names.require_release_id(release)}"


def _repository(settings: AppSettings) -> str:
    try:
        return settings.image_repository or schema.IMAGE_REPOSITORY.convert(settings.name)
    except ValueError:
        raise UsageError(
            f"app_name '{settings.name}' cannot be the name of an image",
            next=f"set image_repository in the inventory, such as {settings.name.lower().strip('._-') or 'app'}",
        ) from None


def image_release(artifact: Artifact, moment: int) -> str:
    """The id of the artifact's release without a host that has one: the time is that of its commit, not of the clock."""
    return f"{datetime.fromtimestamp(moment, timezone.utc):%Y%m%d%H%M%S}-{artifact.digest[:8]}"

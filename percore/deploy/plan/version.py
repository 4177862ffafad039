"""The version of percore that a project asks for: `percore_version`."""

from __future__ import annotations

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from percore import __version__
from percore.deploy import schema
from percore.deploy.schema import VariableSource, read_variable
from percore.errors import PreflightError, UsageError


def require_version(variables: VariableSource) -> None:
    """Raises PreflightError when this is another one."""
    written = read_variable(variables, "percore_version", schema.optional(schema.TEXT)) or ""
    specifier = f"=={written}" if written[:1].isdigit() else written
    where = variables.where("percore_version")
    try:
        fits = SpecifierSet(specifier).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        raise UsageError(
            f"percore_version {written!r} is no version", where=where, next='write "1.0.0", "~=1.0" or ">=1.2,<3"'
        ) from None
    if not fits:
        raise PreflightError(
            f"this project asks for percore {written}, and this is {__version__}",
            where=where,
            next=f"pip install 'percore[deploy]{specifier}'{_way_up(specifier)}, or see docs/upgrading.md",
        )


def any_like(version: str) -> str:
    """Of the same major version, and not older than this minor one: what docs/upgrading.md promises to be compatible."""
    parsed = Version(version)
    return f"~={parsed.major}.{parsed.minor}"


def is_newer(version: str) -> bool:
    """Than this one; not so what a host says that is no version."""
    try:
        return Version(version) > Version(__version__)
    except InvalidVersion:
        return False


def _way_up(specifier: str) -> str:
    """Where the project asks for an older one, its hosts can also be upgraded."""
    asked = [Version(each.version.removesuffix(".*")) for each in SpecifierSet(specifier)]
    if all(Version(__version__) > each for each in asked):
        return f', or write "{any_like(__version__)}" there to upgrade the hosts'
    return ""

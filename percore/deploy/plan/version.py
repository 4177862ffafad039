"""The version of percore that a project asks for: `percore_version`."""

from __future__ import annotations

from packaging.specifiers import InvalidSpecifier, SpecifierSet

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
            f"percore_version {written!r} is no version", where=where, next='write "0.1.0", "~=0.1.0" or ">=0.1,<0.3"'
        ) from None
    if not fits:
        raise PreflightError(
            f"this project asks for percore {written}, and this is {__version__}",
            where=where,
            next=f"pip install 'percore[deploy]{specifier}', or see docs/upgrading.md",
        )

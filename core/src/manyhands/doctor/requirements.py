"""What an installed distribution requires, and whether that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from manyhands.doctor.remedies import pip
from manyhands.plugins.distributions import installable, name_and_version, version_of

CORE: Final = "manyhands-core"
"""The distribution that this belongs to."""

_LOWER: Final = (">=", ">", "==", "~=", "===")
_UPPER: Final = ("<", "<=", "==", "~=", "===")


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement that is not met.

    Attributes:
        by: the distribution that has it.
        wanted: what it requires, without the conditions.
        installed: the version that is there; None if there is none.
        remedy: the line that puts it right.
    """

    by: str
    wanted: str
    installed: str | None
    remedy: str

    def __str__(self) -> str:
        there = f"{self.installed} is installed" if self.installed else "it is not installed"
        return f"{self.by} requires {self.wanted}, {there}"


def unmet(dist: Distribution) -> Iterator[Unmet]:
    """The requirements of a distribution that are not met; those of its extras do not count."""
    name, _ = name_and_version(dist)
    for requirement in requirements(dist):
        installed = version_of(requirement.name)
        if installed is None or not _meets(installed, requirement):
            yield Unmet(name, _wanted(requirement), installed, _remedy(name, requirement, installed))


def requirements(dist: Distribution) -> Iterator[Requirement]:
    """What a distribution requires on this Python and platform, without extras."""
    for text in dist.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # pip would not have installed it
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def requirements_of_core() -> list[Requirement]:
    """What core requires; nothing where only its source is there."""
    try:
        return list(requirements(distribution(CORE)))
    except PackageNotFoundError:
        return []


def _meets(installed: str, requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(installed, prereleases=True)
    except InvalidVersion:  # of a distribution that is older than the rules for versions
        return True


def _wanted(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    source = f" @ {requirement.url}" if requirement.url else str(requirement.specifier)
    return f"{requirement.name}{extras}{source}"


def _remedy(name: str, requirement: Requirement, installed: str | None) -> str:
    if installed is None:
        return pip("install", *_from(requirement))
    if canonicalize_name(requirement.name) != CORE:
        return pip("install", "--upgrade", *_from(requirement))
    if not _is_too_low(installed, requirement):
        return pip("install", "--upgrade", *installable(name))  # never put core back for the sake of an old plugin
    # Alone, core would leave behind what is made for the one that is here.
    held = [part for other in _pinning_core() if other != name for part in installable(other)]
    return pip("install", "--upgrade", *_from(requirement), *held)


def _from(requirement: Requirement) -> tuple[str, ...]:
    """What pip can install to meet it."""
    source = installable(requirement.name)
    return (_wanted(requirement),) if requirement.url or source == (requirement.name,) else source


def _pinning_core() -> list[str]:
    """The installed distributions that allow no core newer than some version."""
    return sorted({name_and_version(dist)[0] for dist in distributions() if any(map(_pins_core, requirements(dist)))})


def _pins_core(requirement: Requirement) -> bool:
    bounded = requirement.url is not None or any(spec.operator in _UPPER for spec in requirement.specifier)
    return canonicalize_name(requirement.name) == CORE and bounded


def _is_too_low(installed: str, requirement: Requirement) -> bool:
    bounds = [spec.version.removesuffix(".*") for spec in requirement.specifier if spec.operator in _LOWER]
    return any(Version(bound) > Version(installed) for bound in bounds)

"""The languages and time zones of the people who read reports."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen_groups.ils import read_timezones, shortnames_upwards

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.language import Language
    from evergreen_groups.nightly.jobs import ReportJob
    from evergreen_groups.settings import LanguageSettings


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers' languages. A library's language is that of the nearest org unit at or above it in ``settings``.

    ``timezones`` are those of org units by id (empty: this machine's), ``org_units`` all of Evergreen's.
    """

    settings: LanguageSettings
    org_units: Collection[OrgUnit] = ()
    timezones: Mapping[int, tzinfo] = field(default_factory=dict)

    @property
    def of_all(self) -> Language:
        """The language for text about all libraries: the default, with the root's time zone."""
        roots = [unit for unit in self.org_units if unit.parent is None]
        return self.settings.language(timezone=self.timezones.get(roots[0].id) if roots else None)

    def of_library(self, shortname: str) -> Language:
        """Return the language for text about one library, or about a system with all its branches."""
        known = {name.casefold(): path for name, path in shortnames_upwards(self.org_units).items()}
        path = [name.casefold() for name in known.get(shortname.casefold(), (shortname,))]
        tags = {name.casefold(): tag for name, tag in self.settings.libraries}
        tag = next((tags[name] for name in path if name in tags), None)
        zones = [self.timezones.get(unit.id) for unit in self.org_units if unit.shortname.casefold() == path[0]]
        return self.settings.language(tag, zones[0] if zones else self.of_all.timezone)

    def of_libraries(self, shortnames: Collection[str]) -> Language:
        """Return the common language and time zone of several libraries, or the defaults where they differ."""
        languages = {self.of_library(name) for name in shortnames}
        if len(languages) == 1:
            return languages.pop()
        tags = {language.tag for language in languages}
        zones = {language.timezone for language in languages}
        fallback = self.of_all
        zone = zones.pop() if len(zones) == 1 else fallback.timezone
        return self.settings.language(tags.pop() if len(tags) == 1 else None, zone)


def timezones_for(gateway: Gateway, jobs: Iterable[ReportJob], settings: LanguageSettings) -> dict[int, tzinfo]:
    """Read the time zones of org units (by id) if people read times in the reports and no time zone is configured.

    Makes at most one call for all reports of a run. Raises the same errors as
    :func:`~evergreen_groups.ils.read_timezones`.
    """
    wanted = settings.timezone is None and any(job.mail or job.target.has_files_for_people for job in jobs)
    return read_timezones(gateway) if wanted else {}

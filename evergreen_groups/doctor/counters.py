"""The check of what several servers count together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.settings import passwords
from evergreen_groups.state import refuse_unusable_counters, where_counters_are

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject


def shared(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Where several servers count together, that can be reached and takes the password."""
    settings = subject.settings.redis
    if settings.url is None:
        yield line.ok("each process counts by itself: no [redis] url is set")
        return
    refuse_unusable_counters(settings.url, passwords.redis_password(settings, subject.environ))
    yield line.ok("{where} answers", values={"where": where_counters_are(settings.url)})

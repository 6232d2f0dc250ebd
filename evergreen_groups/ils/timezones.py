"""The time zones of libraries, which a setting of the ILS names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.language import timezone_of

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway

TIMEZONE = "lib.timezone"
"""The setting: a name in the IANA database, such as ``America/Toronto``, for an org unit and those below it."""

_FOR_ALL = "open-ils.actor.settings.value_for_all_orgs.atomic"


def read_timezones(gateway: Gateway) -> dict[int, tzinfo]:
    """The time zone of each org unit (id) that has one, of its own or from above.

    One call (``desk-006``). pcrud doesn't show settings (``aous`` is for cstore alone), and this one takes no
    permission to see (950.data.seed-values.sql). Where the
    setting has a value that is no time zone's name, an org unit isn't there.

    Raises:
        DataError: the answer isn't what the method gives.
    """
    try:
        answer = gateway.call("open-ils.actor", _FOR_ALL, TOKEN, TIMEZONE).listing()
        values = {int(entry["org_unit"]): entry["summary"]["value"] for entry in answer}
    except (TypeError, KeyError, ValueError):
        raise DataError(
            "the ILS gave no usable values of the setting {name}",
            code="ils-setting-unusable",
            values={"name": TIMEZONE},
        ) from None
    found = {org_unit: timezone_of(value) for org_unit, value in values.items() if isinstance(value, str)}
    return {org_unit: zone for org_unit, zone in found.items() if zone is not None}

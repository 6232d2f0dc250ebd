"""Where the staff client is, and how pages, mails and spreadsheets lead into it: every link to it is made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from evergreen_groups.settings import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.settings import Settings

ANGULAR, ANGULARJS = "eg2", "eg"
SERVICE = "/evergreen-groups"
"""Where the service is, below the ILS's own host."""


@dataclass(frozen=True, slots=True)
class StaffClient:
    """One of the two staff clients.

    ``path`` is its path without the slash before it (:data:`ANGULARJS`, :data:`ANGULAR`, or that with a language).
    ``url`` is where it is, without a slash at the end: empty on pages of the same host. ``groups_in_tab``: a group is
    shown in the client's own tab *Group Member Details*, not on the service's page.
    """

    path: str = ANGULARJS
    url: str = ""
    groups_in_tab: bool = False

    @classmethod
    def of(cls, settings: Settings, gateway: str) -> StaffClient:
        """The configured one; ``gateway`` is the address of the gateway, on whose host it is where nothing is said."""
        client = settings.client
        return cls(
            path=ANGULAR if client.kind == "angular" else ANGULARJS,
            url=client.url or settings.serve.origin or values.origin_of(gateway),
            groups_in_tab=client.groups == "tab" or not settings.desk.page,
        )

    def patron_page(self, patron: int, tab: str = "checkout") -> str:
        """The address of a patron (an id)."""
        return f"{self.url}/{self.path}/staff/circ/patron/{patron}/{tab}"

    def group_page(self, patron: int, select: Sequence[int] = ()) -> str:
        """The address of the page of a patron's group, from which the way back leads into this client.

        The members with the ids ``select`` are selected there; the client's own tab knows no such thing.
        """
        if self.groups_in_tab:
            return self.patron_page(patron, "group")
        selected = f"&select={','.join(map(str, select))}" if select else ""
        return f"{self.url}{SERVICE}/patrons/{patron}/group?client={self.path}{selected}"

    def cloning_page(self, patron: int) -> str:
        """Where a new patron is registered with this one's address."""
        return f"{self.url}/{self.path}/staff/circ/patron/register/clone/{patron}"

    def login_page(self, back: str = "") -> str:
        """The login page, which leads ``back`` to an address of the same host.

        Angular's router takes addresses of its own only, from ``/staff`` on (``login.component.ts``); AngularJS takes
        any.
        """
        route = "route_to" if self.path == ANGULARJS else "routeTo"
        leads_back = back and (self.path == ANGULARJS or back.startswith("/staff/"))
        return f"{self.url}/{self.path}/staff/login" + (f"?{route}={quote(back, safe='')}" if leads_back else "")

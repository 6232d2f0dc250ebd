"""Where a page of the desk stands: whose group it is about, and which client it leads back into."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import urlencode

from evergreen_groups.render import ANGULARJS, StaffClient

# The Angular client has its language in its addresses; without one it is redirected to that of the browser.
_CLIENT = re.compile(r"eg|eg2(/[a-z]{2,3}-[A-Z]{2})?")
_CLIENTS_PAGE = re.compile(r"[^/]*//[^/]+/(eg2(?:/[a-z]{2,3}-[A-Z]{2})?|eg)/staff/")


@dataclass(frozen=True, slots=True)
class DeskPlace:
    """The group of ``patron``, as it is reached from a client.

    ``root`` is where the service is (``/evergreen-groups``), ``client`` the path of the staff client that somebody
    came from, without the slash before it, and ``in_tab`` says that the page stands in a frame in that client's own
    tab.
    """

    root: str
    patron: int
    client: str = ANGULARJS
    in_tab: bool = False

    def address(self, part: str = "", **query: str) -> str:
        """The address of the page, or of a part of it such as ``/plan``; it leads back to the same client."""
        asked = f"{urlencode(query, safe='/')}&" if query else ""
        return f"{self.root}/patrons/{self.patron}/group{part}?{asked}{_way_back(self.client, in_tab=self.in_tab)}"

    def of(self, patron: int) -> DeskPlace:
        """The same for another patron."""
        return replace(self, patron=patron)

    def alone(self) -> DeskPlace:
        """The same outside of the client's tab."""
        return replace(self, in_tab=False)

    def patron_page(self, patron: int, tab: str = "checkout") -> str:
        """The address of a patron in the client."""
        return StaffClient(self.client).patron_page(patron, tab)

    @property
    def cloning(self) -> str:
        """Where the client registers a new patron with this one's address."""
        return StaffClient(self.client).cloning_page(self.patron)

    @property
    def login(self) -> str:
        """The client's login page, which leads back: to this page, or in Angular to the client's own tab."""
        own_tab = f"/staff/circ/patron/{self.patron}/group"
        return StaffClient(self.client).login_page(self.alone().address() if self.client == ANGULARJS else own_tab)


@lru_cache(64)  # a page has dozens of addresses, all with the same
def _way_back(client: str, *, in_tab: bool) -> str:
    """What leads back to the same client."""
    return urlencode({"client": client, **({"in": "tab"} if in_tab else {})}, safe="/")


def client_named(name: str | None, referrer: str | None) -> str:
    """The client that somebody comes from: as the address names it, or else by the page that they left.

    >>> client_named(None, "https://ils.example.org/eg2/fr-CA/staff/circ/patron/7/checkout")
    'eg2/fr-CA'
    """
    if name and _CLIENT.fullmatch(name):
        return name
    found = _CLIENTS_PAGE.match(referrer or "")
    # Where the menus of a stock Evergreen lead.
    return found[1] if found else ANGULARJS

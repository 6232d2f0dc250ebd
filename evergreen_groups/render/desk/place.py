"""Where a page of the desk stands: whose group it is about, and which client it leads back into."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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
        always = {"client": self.client, **({"in": "tab"} if self.in_tab else {})}
        return f"{self.root}/patrons/{self.patron}/group{part}?{urlencode({**query, **always}, safe='/')}"

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

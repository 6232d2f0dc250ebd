"""Two small pages in the manner of the staff clients' patron pages, to see and test the panel in.

They have the elements, addresses, cookie and order of events of the real ones (written for this, none of it copied);
what they show comes from the sandbox's gateway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.sandbox.demo_desk.http import ForwardedAnswer, Forwarder, Request
from evergreen_groups.sandbox.demo_desk.pages import page

if TYPE_CHECKING:
    from evergreen_groups.sandbox.demo_desk.clients import StaffClients

SERVICE = "/evergreen-groups/"
CLIENTS = {
    "Angular": "/eg2/en-US/staff/circ/patron/{}/checkout",
    "AngularJS": "/eg/staff/circ/patron/{}/checkout",
}


class DemoDesk:
    """The pages of a release's ``clients``, and the way from them to the service at ``service_url``."""

    def __init__(self, service_url: str, clients: StaffClients) -> None:
        self._service = Forwarder(service_url)
        self._clients = clients

    def answer(self, request: Request) -> ForwardedAnswer | None:
        """Answer a request for a page, or hand it on to the service; none if it's for neither."""
        if request.path.startswith(SERVICE):
            return self._service.forward(request)
        return page(request, self._clients) if request.command in ("GET", "HEAD") else None

"""The desk's pages in a browser without scripts: pages to read, and forms to send."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import lxml.html
import pytest
from flask import Flask
from support.web_caller import client_of, cookie
from werkzeug.test import TestResponse

GROUP = "/evergreen-groups/patrons/{}/group"


def as_text(node: lxml.html.HtmlElement) -> str:
    return " ".join(" ".join(node.itertext()).split()).replace(" :", ":")


class DeskPage:
    def __init__(self, clerk: DeskClerk, address: str, response: TestResponse) -> None:
        self.clerk = clerk
        self.address = address
        self.response = response
        self.status = response.status_code
        self.tree = lxml.html.document_fromstring(
            response.get_data() or b"<p></p>", parser=lxml.html.HTMLParser(encoding="utf-8")
        )

    @property
    def heading(self) -> str:
        return as_text(self.tree.find(".//h1"))

    @property
    def text(self) -> str:
        return as_text(self.tree.find("body"))

    def part(self, id: str) -> str:
        """Return the text of the element with an id, or an empty text."""
        found = self.tree.get_element_by_id(id, None)
        return "" if found is None else as_text(found)

    @property
    def members(self) -> dict[str, str]:
        """The rows of the list: each name with the rest of its row."""
        rows = self.tree.xpath("//table[@id='members']/tbody/tr")
        return {as_text(row.find(".//bdi")): as_text(row) for row in rows}

    @property
    def warnings(self) -> str:
        found = self.tree.xpath("//section[@aria-labelledby='warnings']")
        return as_text(found[0]) if found else ""

    @property
    def message(self) -> str:
        return self.part("message")

    @property
    def outcome(self) -> str:
        return self.part("outcome")

    @property
    def default(self) -> str:
        """The first button of the confirming form, which Enter in its field presses."""
        return str(self.form("/change").xpath(".//button")[0].get("value"))

    def form(self, action: str, id: str = "") -> lxml.html.FormElement:
        """Return the form with a path that ends like this, and with an id if given."""
        for form in self.tree.forms:
            if urlsplit(form.action).path.endswith(action) and form.get("id", "") == id:
                return form
        raise AssertionError(f"no form for {action}")

    def has_form(self, action: str) -> bool:
        return any(urlsplit(form.action).path.endswith(action) for form in self.tree.forms)

    def send(
        self, action: str, *pressed: tuple[str, str], id: str = "", times: int = 1, **filled: str | Iterable[str]
    ) -> DeskPage:
        """Fill in a form and send it so many times; ``pressed`` is the button's name and value."""
        form = self.form(action, id)
        fields = [pair for pair in form.form_values() if pair[0] not in filled]
        for name, value in filled.items():
            fields += [(name, one) for one in ([value] if isinstance(value, str) else value)]
        for _ in range(times):
            page = self.clerk.post(form.action, [*fields, *pressed])
        return page


class DeskClerk:
    def __init__(self, app: Flask, token: str, origin: str) -> None:
        self._client = client_of(app)
        self.headers = cookie(token)
        self.origin = origin

    def open(self, patron: int, part: str = "", query: str = "client=eg2") -> DeskPage:
        return self.get(f"{GROUP.format(patron)}{part}?{query}")

    def get(self, address: str, **headers: str) -> DeskPage:
        return DeskPage(self, address, self._client.get(address, headers={**self.headers, **headers}))

    def post(self, address: str, fields: list[tuple[str, str]], **headers: str) -> DeskPage:
        """Send a form like a page of the same origin, and follow redirects."""
        data: dict[str, list[str]] = {}
        for name, value in fields:
            data.setdefault(name, []).append(value)
        own = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
        response = self._client.post(address, data=data, headers={**self.headers, **own, **headers})
        if response.status_code == 303:
            return self.get(response.headers["Location"])
        return DeskPage(self, address, response)


ClerkNamed = Callable[[str], DeskClerk]


def with_settings(**sections: Any) -> pytest.MarkDecorator:
    """Let a test's service have these sections of settings."""
    return pytest.mark.parametrize("sections", [sections], ids=["settings"])


def card(patron: int) -> str:
    return f"2000000000{patron}"


def scanned(page: DeskPage, text: str) -> DeskPage:
    """Scan a card, or type a name."""
    return page.send("/plan", card=text)


def agreed(page: DeskPage, **filled: str) -> DeskPage:
    return page.send("/change", ("do", "apply"), **filled)


def selected(page: DeskPage, action: str, *members: int, **pressed: str) -> DeskPage:
    """Select members in the list, and press an action's button."""
    buttons = [("action", action), *pressed.items()]
    return page.send("/plan", *buttons, id="selection", member=[str(member) for member in members])

"""The templates of all pages and mails, and the links into the staff client.

All HTML is in ``templates/``. Values are escaped except in plain text templates, and an undefined name is an error.
Jinja2 is imported when the first page is rendered, so that other commands start fast.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from evergreen_groups import __version__, language
from evergreen_groups.batches import batched
from evergreen_groups.exit_status import MEANINGS
from evergreen_groups.language import gettext
from evergreen_groups.render import wording
from evergreen_groups.render.text import printable
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from evergreen_groups.settings import Settings
    from evergreen_groups.state import RunStatus

_OPEN = "\0"
"""Delimits the names of placeholders. No page contains this character."""
_PIECES = 500
"""Write this many pieces of a page at once. A write for each would cost more than rendering."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A style sheet or script embedded in a page, and its hash for the page's content security policy."""

    content: Markup
    digest: str


class RowTemplate:
    """A template macro rendered once with placeholders, for rows that are filled in thousands of times."""

    def __init__(self, macro: Any) -> None:
        rendered = macro(**{name: _markup(f"{_OPEN}{name}{_OPEN}") for name in macro.arguments})
        self._text = re.sub(f"{_OPEN}(.*?){_OPEN}", r"%(\1)s", str(rendered).replace("%", "%%"))

    def filled(self, values: Mapping[str, object]) -> str:
        """Return the text with these values, which must be escaped already."""
        return self._text % values


def write_template(name: str, stream: TextIO, **values: object) -> None:
    """Write a template piece by piece, so that a long page is never in memory as a whole."""
    pieces = environment().get_template(name).generate(values)
    for some in batched(pieces, _PIECES):
        stream.write("".join(some))


def template_text(name: str, **values: object) -> str:
    """Return a filled-in template, for short texts."""
    return environment().get_template(name).render(values)


@cache
def environment() -> Environment:
    """Return the Jinja2 environment with the shared filters and globals."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from evergreen_groups.language import install_texts

    made = Environment(
        loader=PackageLoader("evergreen_groups.render"),
        autoescape=select_autoescape(disabled_extensions=("txt",), default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    install_texts(made)
    made.filters |= {
        "css_string": _css_string,
        "clock_time": language.clock_time,
        "day": language.day,
        "minute": language.minute,
        "moment_with_zone": language.time_with_zone,
        "label": lambda text: language.gettext("{label}:", label=text),
        "number": language.number,
        "percent": "{:.2f}".format,
        "price": language.price,
        "printable": printable,
        "difference": language.describe_difference,
        "total": language.describe_total,
        "translated": language.gettext,
    }
    made.globals |= {
        "asset": _asset,
        "confidential": wording.CONFIDENTIAL,
        "differences": wording.DIFFERENCES,
        "describe_incomplete": wording.describe_incomplete,
        "information_only": wording.information_only,
        "labels_style": lambda title: _labels_style(language.current_language().tag, str(title)),
        "language": language.current_language,
        "describe_criteria": wording.describe_criteria,
        "money_form": lambda: json.dumps(language.money_form()._asdict()),
        "nothing_found": wording.NOTHING_FOUND,
        "texts_for": lambda name: _texts_for(name, language.current_language().tag),
        "version": __version__,
    }
    return made


@cache
def _asset(name: str) -> Asset:
    """Return a file from the template folder unescaped, as required inside ``style`` and ``script``."""
    return _asset_of(_text_of(name))


@lru_cache(maxsize=8)
def _labels_style(_tag: str, title: str) -> Asset:
    """Return the style sheet with the texts that CSS shows in a page's margin. ``_tag`` is a cache key."""
    return _asset_of(template_text("labels.txt", title=printable(title)))


def _asset_of(text: str) -> Asset:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Asset(_markup(text), f"sha256-{digest}")


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - a file of this package, or texts of the catalogue


def _text_of(name: str) -> str:
    return resources.files("evergreen_groups.render").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _texts_for(script: str, tag: str) -> Markup | None:
    """Return the translations that a script needs, as JSON. None if the script's own English texts are right."""
    document = json.loads(language.catalogue.texts_for_scripts(tag))
    if not document["texts"]:
        return None
    source = _text_of(script)
    document["texts"] = {key: text for key, text in document["texts"].items() if key.split("\x04")[-1] in source}
    # In a script element, HTML recognizes only the end tag and comments, and both begin with "<".
    return _markup(json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _css_string(text: str) -> str:
    """Return a text as a CSS string that is safe inside a ``style`` element."""
    escaped = re.sub(r'["\\\n<]', lambda found: f"\\{ord(found[0]):x} ", text)
    return f'"{escaped}"'


ANGULAR, ANGULARJS = "eg2", "eg"
SERVICE = "/evergreen-groups"
"""The service's path on Evergreen's host."""


@dataclass(frozen=True, slots=True)
class StaffClient:
    """Links into one of Evergreen's two staff clients.

    ``path`` is :data:`ANGULARJS` or :data:`ANGULAR`, the latter optionally with a language, without a leading slash.
    ``url`` is the origin of the links, without a trailing slash; empty for pages on the same host. With
    ``groups_in_tab``, groups open in the client's own tab *Group Member Details* instead of the service's page.
    """

    path: str = ANGULARJS
    url: str = ""
    groups_in_tab: bool = False

    @classmethod
    def of(cls, settings: Settings, gateway: str) -> StaffClient:
        """Return the configured client. Unless configured, its host is that of ``gateway`` (an address)."""
        client = settings.client
        return cls(
            path=ANGULAR if client.kind == "angular" else ANGULARJS,
            url=client.url or settings.serve.origin or values.origin_of(gateway),
            groups_in_tab=client.groups == "tab" or not settings.desk.page,
        )

    def patron_page(self, patron: int, tab: str = "checkout") -> str:
        return f"{self.url}/{self.path}/staff/circ/patron/{patron}/{tab}"

    def group_page(self, patron: int, select: Sequence[int] = ()) -> str:
        """Return the address of the group page of a patron (by id), which links back to this client.

        Members with the ids ``select`` are preselected, except in the client's own tab, which doesn't support that.
        """
        if self.groups_in_tab:
            return self.patron_page(patron, "group")
        selected = f"&select={','.join(map(str, select))}" if select else ""
        return f"{self.url}{SERVICE}/patrons/{patron}/group?client={self.path}{selected}"

    def cloning_page(self, patron: int) -> str:
        """Return the page that registers a new patron with this one's address."""
        return f"{self.url}/{self.path}/staff/circ/patron/register/clone/{patron}"

    def login_page(self, back: str = "") -> str:
        """Return the login page, which leads ``back`` to an address on the same host.

        Angular's router accepts only its own addresses, from ``/staff`` on (``login.component.ts``); AngularJS accepts
        any.
        """
        route = "route_to" if self.path == ANGULARJS else "routeTo"
        leads_back = back and (self.path == ANGULARJS or back.startswith("/staff/"))
        return f"{self.url}/{self.path}/staff/login" + (f"?{route}={quote(back, safe='')}" if leads_back else "")


def refusal_page(title: str, text: str, *, advice: str, again: str, latest: str = "", login: str = "") -> str:
    """Return a page that says why the report isn't shown, with the addresses of pages that help."""
    links = {"again": again, "latest": latest, "login": login}
    return template_text("report_problem.html", title=title, text=text, advice=advice, **links)


def failed_run_page(status: RunStatus, *, last: str, reason: str = "", advice: str = "") -> str:
    """Return a page that says why a run produced no report; ``last`` is the address of the last report, if any."""
    meaning = gettext(MEANINGS.get(status.exit_code, ""))
    return template_text(
        "run_failed.html",
        title=gettext("The report was not made"),
        status=status,
        meaning=meaning,
        reason=reason,
        advice=advice,
        last=last,
    )

"""The templates of every page and mail, and how they are filled in.

All HTML stands in ``templates/``. Whatever a template shows is escaped unless the template is plain text, and a name
that it doesn't have is an error. Jinja2 is imported when the first page is rendered: a command without one starts fast.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from evergreen_groups import __version__, language
from evergreen_groups.exit_status import MEANINGS
from evergreen_groups.language import gettext
from evergreen_groups.render import wording
from evergreen_groups.render import wording as standing_wording
from evergreen_groups.render.text import printable
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment
    from markupsafe import Markup

    from evergreen_groups.settings import Settings
    from evergreen_groups.state import RunStatus

_OPEN = "\0"
"""Stands around the name of a value that is left open; no text of a page has it."""
_PIECES = 500
"""So many pieces of a page are written at once: a write for each cell would cost more than making it."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A style sheet or script that stands in the page itself, and the source by which the page's policy allows it."""

    content: Markup
    digest: str


class Form:
    """A macro of a template, rendered once with its values left open, which is then filled in very often."""

    def __init__(self, macro: Any) -> None:
        rendered = macro(**{name: _markup(f"{_OPEN}{name}{_OPEN}") for name in macro.arguments})
        self._text = re.sub(f"{_OPEN}(.*?){_OPEN}", r"%(\1)s", str(rendered).replace("%", "%%"))

    def filled(self, values: Mapping[str, object]) -> str:
        """The text with its values, which are put in as they are: they have been escaped before."""
        return self._text % values


def write_template(name: str, stream: TextIO, **values: object) -> None:
    """Write a template filled in with ``values``, piece by piece: a long page is never in memory as a whole."""
    pieces = environment().get_template(name).generate(values)
    while some := list(islice(pieces, _PIECES)):
        stream.write("".join(some))


def template_text(name: str, **values: object) -> str:
    """A template filled in with ``values``, for what is short."""
    return environment().get_template(name).render(values)


@cache
def environment() -> Environment:
    """The environment of the templates, with what they have in common."""
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
        "long_day": language.long_day,
        "long_minute": language.long_minute,
        "minute": language.minute,
        "moment_with_zone": language.time_with_zone,
        "number": language.number,
        "percent": _percent,
        "price": language.price,
        "printable": printable,
        "difference": language.describe_difference,
        "total": language.describe_total,
        "translated": language.gettext,
    }
    made.globals |= {
        "asset": _asset,
        "confidential": wording.CONFIDENTIAL,
        "differences": standing_wording.DIFFERENCES,
        "describe_incomplete": wording.describe_incomplete,
        "information_only": wording.information_only,
        "labels_style": lambda title: _labels_style(language.current_language().tag, str(title)),
        "language": language.current_language,
        "listed": wording.listed,
        "nothing_found": wording.NOTHING_FOUND,
        "texts_for": lambda name: _texts_for(name, language.current_language().tag),
        "version": __version__,
        "yet_together": wording.yet_together,
    }
    return made


@cache
def _asset(name: str) -> Asset:
    """A file beside the templates, as it stands: inside these elements HTML knows no escapes."""
    return _asset_of(_text_of(name))


@lru_cache(maxsize=8)
def _labels_style(_tag: str, title: str) -> Asset:
    """The style sheet of what a page says by it, with its title, in the language that is written now (its tag)."""
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
    """The texts of a page's script, for a block of JSON beside it; None where the script's own are the right ones."""
    document = json.loads(language.texts_for_scripts(tag))
    if not document["texts"]:
        return None
    source = _text_of(script)
    document["texts"] = {key: text for key, text in document["texts"].items() if key.split("\x04")[-1] in source}
    # Inside such an element only its end tag, and a comment, mean anything.
    return _markup(json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _css_string(text: str) -> str:
    """A text as a string of a style sheet that stands in a page."""
    escaped = re.sub(r'["\\\n<]', lambda found: f"\\{ord(found[0]):x} ", text)
    return f'"{escaped}"'


def _percent(value: Decimal) -> str:
    return f"{value:.2f}"


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


def refusal_page(title: str, text: str, *, advice: str, again: str, login: str = "") -> str:
    """Say why the report isn't shown; ``again`` is its address, ``login`` that of the login where that would help."""
    return template_text("report_problem.html", title=title, text=text, advice=advice, again=again, login=login)


def failed_run_page(status: RunStatus, *, last: str, reason: str = "", advice: str = "") -> str:
    """Say that a run ended without a report, and why; ``last`` is the address of the last one, where there is one."""
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

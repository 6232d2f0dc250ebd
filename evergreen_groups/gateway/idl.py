"""The IDL: Evergreen's classes, with their fields in wire order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urlencode

from lxml import etree

from evergreen_groups.errors import DataError, HTTPStatusError, unreadable
from evergreen_groups.gateway.call import IDL_CALL, held

FLAGS = ("isnew", "ischanged", "isdeleted")
"""The flags after the fields of every object in a request; answers omit them."""

_CHECK_PROXY = "check the address, and any proxy in between"
_BASE = "{http://opensrf.org/spec/IDL/base/v1}"
_PERSIST = "{http://open-ils.org/spec/opensrf/IDL/persistence/v1}"
_OBJECT = "{http://open-ils.org/spec/opensrf/IDL/objects/v1}"
_REPORTER = "{http://open-ils.org/spec/opensrf/IDL/reporter/v1}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a class. ``virtual`` fields aren't columns; only fleshing fills them. Links lead to another class.

    A ``translated`` field is returned in the language of the call, but searched in the original.
    """

    name: str
    datatype: str
    position: int
    virtual: bool
    is_link: bool = False
    translated: bool = False


@dataclass(frozen=True)
class Class:
    """One class: ``id`` is its short name (``au``), and ``primary`` the name of its key, or empty."""

    id: str
    primary: str
    fields: tuple[Field, ...]

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each field, and then of each flag, in an object's values."""
        # Always read from the server's own IDL: a release that adds a field shifts the fields after it, as
        # au.guardian_email did in 3.16 (pcrud-007 and 3.12/pcrud-007 show the same patrons).
        return {name: field.position for name, field in self._by_name.items()}

    @cached_property
    def columns(self) -> frozenset[str]:
        """The names of the fields that are columns; a virtual field is only sent if it is fleshed."""
        return frozenset(field.name for field in self.fields if not field.virtual)

    def field(self, name: str) -> Field:
        """Return a field or a flag. Raises AttributeError for an unknown name."""
        try:
            return self._by_name[name]
        except KeyError:
            raise AttributeError(f"class {self.id} has no field {name}") from None

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        found = {field.name: field for field in self.fields}
        for flag in FLAGS:
            found.setdefault(flag, Field(flag, "bool", len(found), virtual=True))
        return found


class Idl(dict[str, Class]):
    """The classes known so far, by their short names. Safe to share between threads.

    >>> idl = Idl.parse(b'''<IDL xmlns="http://opensrf.org/spec/IDL/base/v1"><class id="ac"><fields>
    ... <field name="active"/><field name="barcode"/></fields></class></IDL>''')
    >>> idl["ac"].positions["barcode"]
    1
    """

    @classmethod
    def parse(cls, document: bytes) -> Idl:
        """Parse an IDL file. Raises DataError for other documents and for a document type declaration."""
        # The file comes from the network, perhaps from a wrong address, so it must not lead to local files or other
        # servers.
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(document, parser)
        except etree.XMLSyntaxError as error:
            raise unreadable(
                "idl-not-xml", f"IDL is not XML (line {error.lineno})", advice=_CHECK_PROXY, setting="gateway.url"
            ) from None
        if root.getroottree().docinfo.internalDTD is not None:
            raise unreadable("idl-with-document-type", "IDL with a document type declaration, refused for security")
        if root.tag != _BASE + "IDL":
            raise unreadable("not-an-idl", "XML, but not an IDL", advice=_CHECK_PROXY, setting="gateway.url")
        classes = map(_read_class, root.iterchildren(_BASE + "class"))
        return cls({known.id: known for known in classes if known is not None})

    def __missing__(self, class_id: str) -> Class:
        raise unreadable("no-such-class", f"the IDL has no class {class_id}")

    def __repr__(self) -> str:
        return f"Idl({len(self)} classes)"


def _read_class(element: etree._Element) -> Class | None:
    """Read a class; None if its fields have no unambiguous positions, as those of ``auml`` in August 2026."""
    class_id = element.get("id", "")
    links = {link.get("field") for link in element.iterfind(f"{_BASE}links/{_BASE}link")}
    described = list(element.iterfind(f"{_BASE}fields/{_BASE}field"))
    names = [field.get("name", "") for field in described]
    if not class_id or "" in names or len(set(names)) != len(names):
        return None
    fields = element.find(_BASE + "fields")
    return Class(
        id=class_id,
        primary="" if fields is None else fields.get(_PERSIST + "primary", ""),
        fields=tuple(
            Field(
                name=name,
                datatype=field.get(_REPORTER + "datatype", "text"),
                position=position,
                virtual=field.get(_PERSIST + "virtual") == "true",
                is_link=name in links,
                translated=field.get(_PERSIST + "i18n") == "true",
            )
            for position, (name, field) in enumerate(zip(names, described, strict=True))
        ),
    )


log = logging.getLogger("evergreen_groups.gateway")

# Long enough for a run to ask once or twice. Short, because after a change of the order, every value would be read into
# the neighboring field.
SECONDS = 300.0
"""How long classes stay cached. An upgrade of Evergreen may reorder fields at any time."""


class IdlSource:
    """Fetches and caches the classes that are needed. Safe to share between threads.

    Asks for single classes (Apache's idlchunk module), and for the whole IDL if the server refuses or omits them.
    ``on_change`` is called when the fields of a class have changed.
    """

    def __init__(self, url: str, on_change: Callable[[], None]) -> None:
        self._url = url
        self._on_change = on_change
        self._idl = Idl()
        self._expires = time.monotonic() + SECONDS
        self._lock = threading.Lock()

    def require(self, class_ids: Collection[str], fetch: Callable[[str], bytes], deadline: float) -> Idl:
        """Return the classes known so far, fetching those of ``class_ids`` that are missing, until ``deadline``.

        Raises DataError for a class that the server doesn't have or an unreadable IDL, and TimedOutError.
        """
        if time.monotonic() <= self._expires:  # check before reading _idl, which is emptied before _expires is set
            known = self._idl
            if all(map(known.__contains__, class_ids)):
                return known
        with held(self._lock, deadline, IDL_CALL):
            wanted, former = set(class_ids), Idl()
            if time.monotonic() > self._expires:
                wanted |= self._idl.keys()  # another thread may be about to decode an answer with them
                former, self._idl = self._idl, Idl()
                self._expires = time.monotonic() + SECONDS
            idl = self._idl
            if missing := sorted(wanted - idl.keys()):
                self._fetch_classes(idl, missing, fetch)
            if any(idl.get(class_id, known) != known for class_id, known in former.items()):
                self._on_change()
        for class_id in missing:
            _ = idl[class_id]  # raise DataError for a missing class
        return idl

    def _fetch_classes(self, idl: Idl, class_ids: Sequence[str], fetch: Callable[[str], bytes]) -> None:
        # The whole file has 1.1 MB (idl-006), two classes have 3 kB (idl-003).
        query = urlencode([("class", class_id) for class_id in class_ids], quote_via=quote)
        try:
            idl.update(Idl.parse(fetch(f"{self._url}?{query}")) | idl)  # known classes stay
        except (HTTPStatusError, DataError) as error:
            log.debug("the server doesn't send single IDL classes (%s)", type(error).__name__)
        # The server omits an unknown class with HTTP 200 (idl-005), and a server without idlchunk may send anything, so
        # only the document tells whether a class is there. Don't cache its absence: the answer may have been meant for
        # another request.
        if not idl.keys() >= set(class_ids):
            idl.update(Idl.parse(fetch(self._url)) | idl)

"""The IDL: which classes the ILS has, and the fields of each in the order in which they go over the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from lxml import etree

from evergreen_groups.errors import DataError

IDL_LIMIT = 16 * 1024 * 1024
"""A larger IDL, in bytes, is refused; Evergreen's has about 1.1 million."""

FLAGS = ("isnew", "ischanged", "isdeleted")
"""What follows the fields of every object in a request; answers leave them out."""

_BASE = "{http://opensrf.org/spec/IDL/base/v1}"
_PERSIST = "{http://open-ils.org/spec/opensrf/IDL/persistence/v1}"
_OBJECT = "{http://open-ils.org/spec/opensrf/IDL/objects/v1}"
_REPORTER = "{http://open-ils.org/spec/opensrf/IDL/reporter/v1}"


@dataclass(frozen=True, slots=True)
class Link:
    """How a field leads to another class: ``kind`` is ``has_a``, ``has_many`` or ``might_have``.

    ``key`` is the field of ``class_id`` that is matched; ``through`` is what an indirect link goes on by, or empty.
    """

    kind: str
    key: str
    class_id: str
    through: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a class. ``virtual`` ones aren't columns: they are filled by fleshing only.

    What is in a ``translated`` one comes in the language of the call, and is searched for as it was written.
    """

    name: str
    datatype: str
    position: int
    virtual: bool
    link: Link | None
    translated: bool = False


@dataclass(frozen=True)
class Class:
    """One class of the IDL: ``id`` is its short name (``au``), ``fieldmapper`` its long one (``actor::user``).

    ``primary`` is the name of the primary key's field, or an empty text.
    """

    id: str
    fieldmapper: str
    primary: str
    fields: tuple[Field, ...]

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where each field, and after them each flag, stands in an object's values."""
        # Read from the server's own IDL each time: a release that adds a field moves those behind it, as
        # au.guardian_email did in 3.16 (pcrud-007 and 3.12/pcrud-007 show the same patrons).
        names = [field.name for field in self.fields]
        names += [flag for flag in FLAGS if flag not in names]
        return {name: position for position, name in enumerate(names)}

    @cached_property
    def datatypes(self) -> dict[str, str]:
        """The datatype of each field and flag: ``id``, ``money``, ``text`` and so on."""
        return dict.fromkeys(FLAGS, "bool") | {field.name: field.datatype for field in self.fields}

    def field(self, name: str) -> Field:
        """Return the field called ``name``; raises AttributeError when there is none."""
        position = self.positions.get(name, len(self.fields))
        if position >= len(self.fields):
            raise AttributeError(f"class {self.id} has no field {name}")
        return self.fields[position]


class Idl:
    """The classes that are known so far, by their short names. Safe to share between threads.

    >>> idl = Idl.parse(b'''<IDL xmlns="http://opensrf.org/spec/IDL/base/v1"><class id="ac"><fields>
    ... <field name="active"/><field name="barcode"/></fields></class></IDL>''')
    >>> idl["ac"].positions["barcode"]
    1
    """

    def __init__(self, classes: Iterable[Class] = ()) -> None:
        self._classes = {known.id: known for known in classes}
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, document: bytes) -> Idl:
        """Read an IDL file.

        Raises DataError for anything else, for a file over ``IDL_LIMIT`` and for one with a document type
        declaration: entities aren't resolved and nothing else is fetched.
        """
        if len(document) > IDL_LIMIT:
            raise DataError(
                "the IDL is over {megabytes} MB, which can't be right",
                code="idl-too-large",
                values={"megabytes": IDL_LIMIT // 1024**2},
            )
        # It comes from the network, from a wrong address perhaps: nothing in it may lead to a file or to another
        # server.
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(document, parser)
        except etree.XMLSyntaxError as error:
            raise DataError(
                "the IDL is not XML (line {line})",
                advice="check the gateway's address",
                setting="gateway.url",
                code="idl-not-xml",
                values={"line": error.lineno},
            ) from None
        if root.getroottree().docinfo.internalDTD is not None:
            raise DataError(
                "the IDL has a document type declaration, which is refused for safety", code="idl-with-document-type"
            )
        if root.tag != _BASE + "IDL":
            raise DataError(
                "what came in place of the IDL is another kind of document",
                advice="check the gateway's address",
                setting="gateway.url",
                code="not-an-idl",
            )
        classes = (_read_class(element) for element in root.iterchildren(_BASE + "class"))
        return cls(read for read in classes if read is not None)

    def __getitem__(self, class_id: str) -> Class:
        try:
            return self._classes[class_id]
        except KeyError:
            raise DataError("the IDL has no class {name}", code="no-such-class", values={"name": class_id}) from None

    def __contains__(self, class_id: object) -> bool:
        return class_id in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._classes))

    def __len__(self) -> int:
        return len(self._classes)

    def __repr__(self) -> str:
        return f"Idl({len(self)} classes)"

    def add(self, other: Idl) -> None:
        """Take over the classes of another one; a class known already stays as it is."""
        with self._lock:
            self._classes = other._classes | self._classes


def _read_class(element: etree._Element) -> Class | None:
    """Read a class; None if its fields have no clear positions.

    Evergreen's own IDL of August 2026 names a field of ``auml`` twice. That must not keep the other 620 classes from
    being read.
    """
    class_id = element.get("id", "")
    links = {
        link.get("field", ""): Link(
            link.get("reltype", ""), link.get("key", ""), link.get("class", ""), link.get("map", "")
        )
        for link in element.iterfind(f"{_BASE}links/{_BASE}link")
    }
    fields = element.find(_BASE + "fields")
    described = [] if fields is None else list(fields.iterchildren(_BASE + "field"))
    names = [field.get("name", "") for field in described]
    if not class_id or "" in names or len(set(names)) != len(names):
        return None
    return Class(
        id=class_id,
        fieldmapper=element.get(_OBJECT + "fieldmapper", ""),
        primary="" if fields is None else fields.get(_PERSIST + "primary", ""),
        fields=tuple(
            Field(
                name=name,
                datatype=field.get(_REPORTER + "datatype", "text"),
                position=position,
                virtual=field.get(_PERSIST + "virtual") == "true",
                link=links.get(name),
                translated=field.get(_PERSIST + "i18n") == "true",
            )
            for position, (name, field) in enumerate(zip(names, described, strict=True))
        ),
    )

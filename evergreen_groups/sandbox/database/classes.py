"""The fieldmapper classes the sandbox serves, read from ``classes.json``.

The file has the facts of the latest Evergreen's ``fm_IDL.xml``: fields in order, links, and permissions to retrieve.
Older releases have the same classes with :class:`ClassChange` applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any

FLAGS = ("isnew", "ischanged", "isdeleted")
_INTEGER_DATATYPES = {"id", "int", "link", "org_unit", None}
_KINDS = {"money": "money", "float": "money", "bool": "bool", "timestamp": "timestamp", "interval": "interval"}


@dataclass(frozen=True, slots=True)
class StoredField:
    """One field of a class.

    ``kind`` selects how values are stored: ``integer``, ``money``, ``bool``, ``timestamp``, ``date``, ``interval`` or
    ``text``. ``hidden`` fields are in the IDL, but pcrud ignores them (``au.passwd``) and the sandbox doesn't store
    them.
    """

    name: str
    datatype: str | None
    kind: str
    virtual: bool
    hidden: bool
    required: bool
    translated: bool


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link to another class: ``reltype`` is ``has_a``, ``has_many`` or ``might_have``, ``key`` the target field."""

    field: str
    reltype: str
    key: str
    class_id: str
    map: str = ""


@dataclass(frozen=True, slots=True)
class PermissionContext:
    """An org unit where permissions are checked, found by following ``link`` and then each link in ``jump``."""

    link: str
    fields: tuple[str, ...]
    jump: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Who may retrieve rows of a class (permacrud's ``<retrieve>``); anyone, if ``permissions`` is empty."""

    permissions: tuple[str, ...]
    context_fields: tuple[str, ...]
    contexts: tuple[PermissionContext, ...]
    owning_user: str | None
    global_required: bool


@dataclass(frozen=True)
class StoredClass:
    """One class of the IDL."""

    id: str
    fieldmapper: str
    table: str
    primary: str
    sequence: str | None
    controllers: tuple[str, ...]
    fields: tuple[StoredField, ...]
    links: Mapping[str, StoredLink]
    retrieve: Retrieve | None

    @cached_property
    def by_name(self) -> Mapping[str, StoredField]:
        """Fields by name."""
        return {item.name: item for item in self.fields}

    @cached_property
    def columns(self) -> tuple[StoredField, ...]:
        """Fields that have a column in the sandbox's database."""
        return tuple(item for item in self.fields if not item.virtual and not item.hidden)

    @cached_property
    def unstored(self) -> tuple[str, ...]:
        """Columns that aren't stored: the sandbox returns a hash of the primary key (``3.12/patrons-031``)."""
        return tuple(item.name for item in self.fields if item.hidden and not item.virtual)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Index of each field in an object on the wire."""
        return {item.name: index for index, item in enumerate(self.fields)}

    @property
    def in_pcrud(self) -> bool:
        """Whether open-ils.pcrud can retrieve the class."""
        return "open-ils.pcrud" in self.controllers and self.retrieve is not None

    @property
    def is_guarded(self) -> bool:
        """Whether retrieving rows takes a permission."""
        return self.retrieve is not None and bool(self.retrieve.permissions)


def _kind(datatype: str | None, options: Iterable[str]) -> str:
    for option in ("text", "date"):
        if option in options:
            return option
    if datatype in _INTEGER_DATATYPES:
        return "integer"
    return _KINDS.get(datatype or "", "text")


def _retrieve(entry: Mapping[str, Any] | None) -> Retrieve | None:
    if entry is None:
        return None
    return Retrieve(
        permissions=tuple(entry.get("permissions", ())),
        context_fields=tuple(entry.get("context_fields", ())),
        contexts=tuple(
            PermissionContext(context["link"], tuple(context["fields"]), tuple(context.get("jump", ())))
            for context in entry.get("contexts", ())
        ),
        owning_user=entry.get("owning_user"),
        global_required=entry.get("global_required", False),
    )


def _class(class_id: str, entry: Mapping[str, Any]) -> StoredClass:
    fields = tuple(
        StoredField(
            name=name,
            datatype=datatype,
            kind=_kind(datatype, options),
            virtual="virtual" in options,
            hidden="hidden" in options,
            required="required" in options,
            translated="i18n" in options,
        )
        for name, datatype, *options in entry["fields"]
    )
    links = [StoredLink(*item) for item in entry["links"]]
    return StoredClass(
        id=class_id,
        fieldmapper=entry["fieldmapper"],
        table=entry["table"],
        primary=entry["primary"],
        sequence=entry.get("sequence"),
        controllers=tuple(entry["controller"].split()),
        fields=fields,
        links={link.field: link for link in links},
        retrieve=_retrieve(entry.get("retrieve")),
    )


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How a class of an older release differs from the latest release.

    ``absent`` fields don't exist yet, ``optional`` fields aren't marked as required, ``columns`` are real columns that
    became virtual fields later, and ``links`` replace links. Unless ``owned``, users can't see their own rows.
    """

    class_id: str
    absent: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    links: tuple[StoredLink, ...] = ()
    owned: bool = True

    def applied(self, idl_class: StoredClass) -> StoredClass:
        """Return the class as the older release has it."""
        fields = tuple(
            replace(
                item,
                required=item.required and item.name not in self.optional,
                virtual=item.virtual and item.name not in self.columns,
            )
            for item in idl_class.fields
            if item.name not in self.absent
        )
        links = {name: link for name, link in idl_class.links.items() if name not in self.absent}
        links |= {link.field: link for link in self.links}
        retrieve = idl_class.retrieve
        if retrieve and not self.owned:
            retrieve = replace(retrieve, owning_user=None)
        return replace(idl_class, fields=fields, links=links, retrieve=retrieve)


class IdlClasses(Mapping[str, StoredClass]):
    """The classes of one release's IDL by id; also converts rows to wire objects and back."""

    def __init__(self, classes: Mapping[str, StoredClass]) -> None:
        self._classes = dict(classes)

    def __getitem__(self, class_id: str) -> StoredClass:
        return self._classes[class_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def changed(self, changes: Iterable[ClassChange]) -> IdlClasses:
        """Return the classes of an older release.

        >>> older = idl_classes().changed([ClassChange("ac", absent=("active",))])
        >>> older.wire_object("ac", {"active": "t", "barcode": "0815", "id": 3, "usr": 7})
        {'__c': 'ac', '__p': ['0815', 3, 7]}
        """
        classes = dict(self._classes)
        for change in changes:
            classes[change.class_id] = change.applied(classes[change.class_id])
        return IdlClasses(classes)

    def wire_object(
        self, class_id: str, row: Mapping[str, Any], fleshed: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Convert a row to the object that a gateway sends; missing fields are null.

        ``fleshed`` has linked objects, or lists of them, that replace a field's own value.

        >>> idl_classes().wire_object("ac", {"active": "t", "barcode": "0815", "id": 3, "usr": 7})
        {'__c': 'ac', '__p': ['t', '0815', 3, 7]}
        """
        values = {**row, **fleshed} if fleshed else row
        return {"__c": class_id, "__p": [values.get(item.name) for item in self._classes[class_id].fields]}

    def parse_object(self, value: Any) -> tuple[str, dict[str, Any]] | None:
        """Decode an object from a client; None if ``value`` isn't an object of one of the classes.

        Returns the class id and the values by field name, including ``isnew``, ``ischanged`` and ``isdeleted``. Fields
        beyond the end of a short array are null. Nested objects aren't decoded.
        """
        if not isinstance(value, dict) or not isinstance(value.get("__c"), str):
            return None
        idl_class = self._classes.get(value["__c"])
        if idl_class is None:
            return None
        payload = value.get("__p")
        given = payload if isinstance(payload, list) else []
        names = [item.name for item in idl_class.fields] + list(FLAGS)
        return idl_class.id, {name: given[index] if index < len(given) else None for index, name in enumerate(names)}


@cache
def idl_classes() -> IdlClasses:
    """Return the classes of the latest release; the database's tables have their columns.

    >>> idl_classes()["ac"].columns[1].name
    'barcode'
    """
    text = resources.files(__package__).joinpath("classes.json").read_text(encoding="utf-8")
    return IdlClasses({class_id: _class(class_id, entry) for class_id, entry in json.loads(text).items()})

"""The IDL as the web server hands it out, narrowed to the classes asked for where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lxml import etree

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import IdlClasses, Retrieve, StoredClass

_BASE = "http://opensrf.org/spec/IDL/base/v1"
_PERSIST = "http://open-ils.org/spec/opensrf/IDL/persistence/v1"
_OBJECTS = "http://open-ils.org/spec/opensrf/IDL/objects/v1"
_REPORTER = "http://open-ils.org/spec/opensrf/IDL/reporter/v1"
_PERMACRUD = "http://open-ils.org/spec/opensrf/IDL/permacrud/v1"
_NAMESPACES = {
    "idl": _BASE,
    "oils_persist": _PERSIST,
    "oils_obj": _OBJECTS,
    "reporter": _REPORTER,
    "permacrud": _PERMACRUD,
}


def fm_idl(classes: IdlClasses, class_ids: Sequence[str] = ()) -> bytes:
    """Write the IDL of these classes (of all where none is named); unknown ones are left out (``idl-005``)."""
    root = etree.Element(f"{{{_BASE}}}IDL", nsmap=_NAMESPACES)
    for known in classes.values():
        if not class_ids or known.id in class_ids:
            _add_class(root, known)
    etree.cleanup_namespaces(root, top_nsmap=_NAMESPACES)
    return etree.tostring(root)


def _add_class(root: etree._Element, known: StoredClass) -> None:
    node = etree.SubElement(root, f"{{{_BASE}}}class", id=known.id, controller=" ".join(known.controllers))
    node.set(f"{{{_OBJECTS}}}fieldmapper", known.fieldmapper)
    node.set(f"{{{_PERSIST}}}tablename", known.table)
    fields = etree.SubElement(node, f"{{{_BASE}}}fields")
    fields.set(f"{{{_PERSIST}}}primary", known.primary)
    fields.set(f"{{{_PERSIST}}}sequence", known.sequence or "")
    for item in known.fields:
        field = etree.SubElement(fields, f"{{{_BASE}}}field", name=item.name)
        if item.virtual:
            field.set(f"{{{_PERSIST}}}virtual", "true")
        if item.datatype:
            field.set(f"{{{_REPORTER}}}datatype", item.datatype)
        if item.required:
            field.set(f"{{{_OBJECTS}}}required", "true")
        if item.translated:
            field.set(f"{{{_PERSIST}}}i18n", "true")
    links = etree.SubElement(node, f"{{{_BASE}}}links")
    for link in known.links.values():
        attributes = {"field": link.field, "reltype": link.reltype, "key": link.key, "map": link.map}
        etree.SubElement(links, f"{{{_BASE}}}link", {**attributes, "class": link.class_id})
    if known.retrieve is not None:
        _add_retrieve(node, known.retrieve)


def _add_retrieve(node: etree._Element, rule: Retrieve) -> None:
    permacrud = etree.SubElement(node, f"{{{_PERMACRUD}}}permacrud")
    actions = etree.SubElement(permacrud, f"{{{_PERMACRUD}}}actions")
    retrieve = etree.SubElement(actions, f"{{{_PERMACRUD}}}retrieve")
    if rule.permissions:
        retrieve.set("permission", " ".join(rule.permissions))
    if rule.global_required:
        retrieve.set("global_required", "true")
    if rule.context_fields:
        retrieve.set("context_field", " ".join(rule.context_fields))
    if rule.owning_user:
        retrieve.set("owning_user", rule.owning_user)
    for context in rule.contexts:
        element = etree.SubElement(retrieve, f"{{{_PERMACRUD}}}context", link=context.link)
        element.set("field", " ".join(context.fields))
        if context.jump:
            element.set("jump", ".".join(context.jump))

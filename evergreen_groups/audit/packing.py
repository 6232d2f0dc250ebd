"""Findings as bytes, for as long as an audit lasts: what keeps a hundred thousand of them out of memory.

By pickle, because a finding may hold whatever its reason needs. What a finding is made of is named here with its
fields, which is three times as fast as what pickle would find out about each object by itself; anything else it
handles as usual.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from evergreen_groups.audit.confidence import Confidence, Evidence
from evergreen_groups.audit.findings import GroupFinding, PatronFinding, Reason
from evergreen_groups.audit.group_draft import GroupDraft
from evergreen_groups.audit.group_split import GroupSplit
from evergreen_groups.audit.patron_draft import PatronDraft
from evergreen_groups.groups import Group, Member, Patron, PatronRow
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.message import Message
from evergreen_groups.policy import Decision, Limit

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def pack(finding: object) -> bytes:
    """A finding, or a draft of one, as bytes."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCED
    pickler.dump(finding)
    return stream.getvalue()


def unpack(content: bytes) -> Any:
    """The finding that was packed; only for what this process has packed itself."""
    return pickle.loads(content)  # noqa: S301  # what pack has made, in a file that nobody else can open


def _by_fields(kind: type[Any]) -> Callable[[Any], Reduced]:
    names = [field.name for field in fields(kind) if field.init]
    values = attrgetter(*names)
    if len(names) == 1:
        return lambda one: (kind, (values(one),))
    return lambda one: (kind, values(one))


def _message(text: Message) -> Reduced:
    return _made, (text.text, text.context, text.plural, dict(text.values))


def _made(text: str, context: str, plural: str, values: Mapping[str, object]) -> Message:
    return Message(text, context=context, plural=plural, values=values)


_KINDS = (
    *(PatronFinding, PatronDraft, GroupFinding, GroupDraft, Reason, Evidence, Confidence, GroupSplit),
    *(Group, Member, Patron, OrgUnit, Decision, Limit, Penalty, PenaltyKind),
)
_REDUCED: dict[type[Any], Callable[[Any], Reduced]] = {
    **{kind: _by_fields(kind) for kind in _KINDS},
    PatronRow: lambda row: (PatronRow, tuple(row)),
    Message: _message,
}

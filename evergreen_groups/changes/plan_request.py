"""What somebody asks for, before it is looked up: an action, patrons, and where they are to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.plans import Action
from evergreen_groups.errors import PlanError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.groups import PatronReference

MOST_PATRONS = 1_000
"""How many patrons one plan may name; a file of changes may have more."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is to do.

    ``patrons`` and ``target`` are barcodes or patrons' ids; a target is somebody in the group to move to. Of a merge
    ``patrons`` names one of the group that moves. ``lead`` makes those who are removed leads of their new groups,
    ``off`` takes the mark of a lead away, ``change`` is the entry of the journal to take back. With ``active_cards``
    a barcode, of a move or a merge, has to be that of an active card; without, one that isn't is warned of.
    """

    action: Action
    patrons: tuple[PatronReference, ...] = ()
    target: PatronReference | None = None
    lead: bool = False
    off: bool = False
    change: str | None = None
    active_cards: bool = False

    def checked(self) -> PlanRequest:
        """The request itself, where it says all that its action needs and nothing else.

        Raises:
            PlanError: it doesn't.
            ArgumentError: something in it is of another type than is documented.
        """
        self._refuse_other_types()
        if self.action is Action.BATCH:
            raise _unclear(Message("a file of changes is for the command line"), "action")
        if (self.change is None) is (self.action is Action.UNDO):
            raise _unclear(Message("`change` names the entry to take back, and goes with `undo` alone"), "change")
        if bool(self.patrons) is (self.action is Action.UNDO):
            raise _unclear(Message("patrons are needed, but for `undo`"), "patrons")
        if (self.target is None) is (self.action in (Action.MOVE, Action.MERGE)):
            raise _unclear(Message("a target goes with `move` and `merge`, and they need one"), "target")
        if self.action is Action.MERGE and len(self.patrons) > 1:
            raise _unclear(Message("`merge` takes one patron of the group that moves"), "patrons")
        if len(self.patrons) > MOST_PATRONS:
            raise _unclear(Message("more than {most:,} patrons at once", values={"most": MOST_PATRONS}), "patrons")
        if (self.lead and self.action is not Action.REMOVE) or (self.off and self.action is not Action.LEAD):
            raise _unclear(Message("`lead` goes with `remove`, `off` with `lead`"), "lead")
        if self.active_cards and self.target is None:
            raise _unclear(Message("`active_cards` goes with `move` and `merge`"), "active_cards")
        return self

    def _refuse_other_types(self) -> None:
        arguments.instance("action", self.action, Action)
        arguments.references("patrons", self.patrons)
        if self.target is not None:
            arguments.reference("target", self.target)
        for name in ("lead", "off", "active_cards"):
            arguments.truth(name, getattr(self, name))
        if self.change is not None:
            arguments.text("change", self.change)


def _unclear(problem: Message, field: str) -> PlanError:
    return PlanError(
        "it isn't clear what is to be planned by {field}: {problem}",
        code="plan-unclear",
        values={"problem": problem, "field": field},
    )

"""Apply the steps of a plan one at a time, with the journal and under a lease on its patrons and groups.

Each step is read, checked, journaled, sent, read back, and compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from evergreen_groups import errors
from evergreen_groups.changes import outcome_check, plans, reasons
from evergreen_groups.changes.journal import GROUP, LEAD, PENALTIES, StepState
from evergreen_groups.changes.outcome_check import ChangeVerdict, ConfirmedWrite, UnclearAnswer
from evergreen_groups.changes.plans import PlanOutcome, SideEffect, StepOutcome, StepT
from evergreen_groups.changes.reasons import StepReason
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import read_members, read_patron
from evergreen_groups.ils import PenaltyRow, rows_in_force
from evergreen_groups.message import Message, Progress, silent

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.changes.journal import Journal, JournalStep, StoredStep
    from evergreen_groups.changes.penalties import PatronPenalties, PenaltyReader
    from evergreen_groups.gateway import Gateway, Record

TRIES = 3
_UPDATE = "open-ils.actor.patron.update"
_NEW_GROUP = "open-ils.actor.usergroup.new"
_RECALCULATE = "open-ils.actor.user.penalties.update_at_home"
_EXCEEDS_FINES = "PATRON_EXCEEDS_FINES"


@dataclass
class AppliedStep(Generic[StepT]):
    """One step of a plan while it is being applied."""

    gateway: Gateway
    journal: Journal
    step: StepT
    journaled: JournalStep
    open_steps: Sequence[JournalStep]  # the patron's earlier steps that may still take effect
    sent: JournalStep | None = field(default=None, init=False)  # with the latest request that may have arrived

    def end(self, state: StepState, reason: StepReason = reasons.NO_REASON, **more: Any) -> StepOutcome[StepT]:
        """Journal the outcome and return it. A step in state ``SENDING`` stays open for the next run."""
        sent = self.sent if state is StepState.SENDING else None
        outcome = StepOutcome(self.step, state, reason=reason, sent=sent, **more)
        self.journal.record(self.journaled.id, state, value=outcome.value, reason=reason, error=outcome.error)
        return outcome

    def _end_unreadable(self, error: errors.EvergreenGroupsError) -> StepOutcome[StepT]:
        """Leave the step open for the next run to recover: it was sent, and its outcome can't be read now."""
        return replace(self.end(StepState.SENDING, reasons.UNREADABLE), error=error)


@dataclass
class PatronChange(AppliedStep[StepT]):
    """A change of a patron's group or lead flag."""

    earlier: JournalStep | None = field(default=None, init=False)  # an earlier run's open step for this very change
    base: Record | None = field(default=None, init=False)  # the record that the latest request was made from
    last_reason: StepReason = field(default=reasons.NO_REASON, init=False)

    def apply(self) -> StepOutcome[StepT]:
        """Try up to ``TRIES`` times if a repeat is safe."""
        open_changes = [it for it in self.open_steps if it.field != PENALTIES]
        self.earlier = next((it for it in open_changes if it.is_safe_repeat(self.step)), None)
        if waits := _reason_to_wait(open_changes, self.step, self.journal.now()):
            return self.end(StepState.NOT_DONE, waits)
        try:
            for _ in range(TRIES):
                outcome = self._try_once()
                if outcome is not None:
                    return outcome
            if self.sent is not None:
                return self._conclude(self._look_up(self.sent))
        except (errors.GatewayError, errors.DataError) as error:
            if self.sent is None:
                return self.end(StepState.NOT_DONE, reasons.refusal(self.gateway, error), error=error)
            return self._end_unreadable(error)
        return self.end(StepState.FAILED, self.last_reason.followed_by(Message("tries: {count}"), count=TRIES))

    def _try_once(self) -> StepOutcome[StepT] | None:
        """Try once. Return None if the step has to be tried again."""
        before = read_patron(self.gateway, self.step.patron_id)
        # An earlier try may have taken effect by now.
        verdict = ChangeVerdict(StepState.NOT_DONE) if self.sent is None else self._judge(self.sent, before)
        if verdict.state in (StepState.DONE, StepState.FAILED):
            return self._conclude(verdict)
        obstacle = self._obstacle(before)
        if before is None or obstacle is not None:
            # Nothing more can be sent, but the earlier try may still arrive.
            if verdict.state is StepState.SENDING:
                return self._conclude(verdict)
            return self.end(StepState.NOT_DONE, obstacle or reasons.NO_REASON)
        if outcome_check.value_of(before, self.step.field) == self.step.after:
            # Perhaps our own earlier try, but this read doesn't prove it.
            if verdict.state is not StepState.NOT_DONE:
                return self._conclude(verdict)
            # Another user made the change, so the step must not count as ours: an undo must not revert it.
            return self.end(StepState.UNCHANGED, reasons.ALREADY_SET, value=self.step.after)
        return self._send(before)

    def _send(self, before: Record) -> StepOutcome[StepT] | None:
        """Send the change and determine its outcome. Return None if the step has to be tried again."""
        untouched = outcome_check.digest_of_untouched(before, self.step.field)
        sending = outcome_check.new_sending(
            self.gateway, self.journal.now(), last_xact_id=before.last_xact_id, other_fields=untouched
        )
        self.journal.record_sending(self.journaled.id, sending)
        self.base = before
        # The journal has closed the earlier run's step by now, so this one answers for both requests.
        former, self.earlier = self.sent or self.earlier, None
        sent = self.sent = replace(self.journaled, state=StepState.SENDING, sending=sending)
        try:
            answer = self._request(before)
        except (errors.GatewayError, UnclearAnswer) as error:
            return self._resolve(sent, former, error)
        return self._verify(before, sent, answer)

    def _resolve(
        self, sent: JournalStep, former: JournalStep | None, error: errors.GatewayError | UnclearAnswer
    ) -> StepOutcome[StepT] | None:
        """Determine the outcome of an unconfirmed request, or return None to try again.

        ``former`` is an earlier request for the same change that may have reached Evergreen.
        """
        if isinstance(error, errors.GatewayError) and not isinstance(error, errors.CollisionError):
            if outcome_check.is_refusal(error):
                self.sent = former
                if former is None:
                    return self.end(StepState.FAILED, reasons.refusal(self.gateway, error), error=error)
                return self._conclude(self._look_up(former))
            if outcome_check.was_never_sent(error):
                self.sent, self.last_reason = former, reasons.NO_CONNECTION
                return None
        # The status code of an unclear answer doesn't help: a service that fails after writing answers 500, a bus that
        # loses the answer 404, and a gateway that times out nothing at all. The record decides.
        verdict = self._look_up(sent)
        if verdict.state is StepState.DONE:
            return self._conclude(verdict)
        if isinstance(error, errors.CollisionError):
            # Another user has written the record since it was read, or a duplicate of this request has: a network that
            # delivers a request twice may return the answer to the second one.
            self.sent, self.last_reason = former, reasons.CHANGED_BY_ANOTHER
        elif verdict.state is StepState.FAILED or not sent.protected:
            # Never repeat an unprotected request: it could make a second group.
            return self._conclude(verdict)
        else:
            # Once Evergreen would reject the request, it no longer matters.
            self.sent = None if verdict.state is StepState.NOT_DONE else sent
            self.last_reason = verdict.reason
        return None

    def _request(self, before: Record) -> ConfirmedWrite | int:
        """Send the change. Return the record as written, or the number of the new group."""
        if self.step.after is None:
            answer = self.gateway.call("open-ils.actor", _NEW_GROUP, TOKEN, before.id, write=True).value
            return outcome_check.new_group_number(answer)
        value = self.step.after if self.step.field == GROUP else bool(self.step.after)
        # Clear passwd: Evergreen would set any other value as the new password.
        changed = before.replace(**{self.step.field: value, "passwd": None}).to_wire(changed=True)
        answer = self.gateway.call("open-ils.actor", _UPDATE, TOKEN, changed, write=True).value
        yes = outcome_check.confirmed_write(answer, before, self.step.field)
        if yes.value != self.step.after:  # the record has been written again since
            raise UnclearAnswer
        return yes

    def _look_up(self, sent: JournalStep) -> ChangeVerdict:
        return self._judge(sent, read_patron(self.gateway, sent.patron))

    def _judge(self, sent: JournalStep, record: Record | None) -> ChangeVerdict:
        """Infer the outcome of a request from a record. A record from before the request proves nothing."""
        if record is not None and self.base is not None and outcome_check.is_older(record, self.base):
            return ChangeVerdict(StepState.SENDING, reason=reasons.STALE_READ)
        return outcome_check.judge(self.gateway, sent, record, self.journal.now())

    def _obstacle(self, record: Record | None) -> StepReason | None:
        """Return why the step no longer applies to this patron, or None if it does."""
        if record is None:
            return reasons.NO_LONGER_VISIBLE
        if record.deleted:
            return reasons.DELETED_SINCE
        now = outcome_check.value_of(record, self.step.field)
        if now not in (self.step.before, self.step.after):
            return reasons.changed_by_another(self.step.field, now)
        return None

    def _verify(self, before: Record, sent: JournalStep, answer: ConfirmedWrite | int) -> StepOutcome[StepT]:
        """Read the record back after a confirmed request, and verify that only the one field has changed.

        The ``last_xact_id`` in the answer identifies our update, which counts as done whatever value is read back.
        Nothing identifies a move to a new group, so the record decides.
        """
        after, wanted = read_patron(self.gateway, self.step.patron_id), self.step.after
        if after is None:
            return self.end(StepState.SENDING, reasons.HIDDEN_WHILE_OPEN)
        now = outcome_check.value_of(after, self.step.field)
        if isinstance(answer, int):  # the number of the new group
            if now == answer != self.step.before:
                return self._end_as_done(before, after)
            verdict = self._judge(sent, after)
            if verdict.state is StepState.DONE:
                text = Message("Evergreen answered with another group, {group}")
                verdict = replace(verdict, reason=StepReason(text, "another-answer", group=answer))
            return self._conclude(verdict)
        if after.last_xact_id == answer.last_xact_id:
            return self._end_as_done(before, after)
        if after.last_xact_id == before.last_xact_id:
            # The answer has confirmed the write, so this read is outdated.
            return self.end(StepState.DONE, reasons.STALE_READ, value=wanted)
        effects = () if now == wanted else (SideEffect(self.step.field, wanted, now),)
        return self.end(StepState.DONE, reasons.CHANGED_AGAIN, value=wanted, side_effects=effects)

    def _end_as_done(self, before: Record, after: Record) -> StepOutcome[StepT]:
        """End the step as done and report any other fields that changed."""
        effects, reason = tuple(side_effects(before, after, self.step.field)), reasons.NO_REASON
        if effects:
            fields = ", ".join(effect.field for effect in effects)
            reason = StepReason(Message("Evergreen also changed {fields}"), "also-changed", fields=fields)
        value = outcome_check.value_of(after, self.step.field)
        return self.end(StepState.DONE, reason, value=value, side_effects=effects)

    def _conclude(self, verdict: ChangeVerdict) -> StepOutcome[StepT]:
        return self.end(verdict.state, verdict.reason, value=verdict.value)


def _reason_to_wait(open_changes: Sequence[JournalStep], step: StoredStep, now: datetime) -> StepReason:
    """Return the reason not to send a step now, if one of the patron's open changes rules it out.

    ``usergroup.new`` can run at any time and would overwrite this step. Once this step has changed the record, the
    result of an open request for another field would look like another user's edit. A repeat of the same request is
    safe.
    """
    until = [
        it.request.until
        for it in open_changes
        if (it.may_still_arrive(now) if it.field != step.field else not it.is_safe_repeat(step))
    ]
    if not until:
        return reasons.NO_REASON
    if now >= max(until):  # the record couldn't be read, or the patron is hidden
        text = Message("an earlier change to this patron isn't confirmed yet; try again later")
        return StepReason(text, "waits-for-earlier")
    text = Message("an earlier change to this patron isn't confirmed yet; try again after {until:time}")
    return StepReason(text, "waits-for-earlier", until=max(until).isoformat(timespec="seconds"))


def side_effects(before: Record, after: Record, changed: str) -> Iterator[SideEffect]:
    """Yield the fields that differ between two states of a record, except ``changed`` and the timestamps."""
    old, new = (
        {name: (value, sent) for name, sent, value in outcome_check.untouched_fields(record, changed)}
        for record in (before, after)
    )
    for name in {**old, **new}:
        (old_value, was), (new_value, became) = old.get(name, (None, None)), new.get(name, (None, None))
        if old_value != new_value:
            yield SideEffect(name, was, became)


@dataclass
class PatronRecalculation(AppliedStep[StepT]):
    """A recalculation of a patron's penalties, unless it might remove a block that staff set."""

    reader: PenaltyReader

    def apply(self) -> StepOutcome[StepT]:
        try:
            # Right before sending, because staff may have set a block since the run began.
            before = self.reader.read(self.step.patron_id)
        except (errors.GatewayError, errors.DataError) as error:
            return self.end(StepState.NOT_DONE, reasons.refusal(self.gateway, error), error=error)
        if before is None:
            hidden = errors.not_visible("this patron is no longer visible", code="patron-hidden-meanwhile")
            return self.end(StepState.NOT_DONE, reasons.NO_LONGER_VISIBLE, error=hidden)
        touched = self.reader.kinds.for_fines_at(before.home_library)
        if any(row.staff is not None and row.kind in touched for row in before.in_force):
            return self.end(StepState.NOT_DONE, reasons.BLOCK_BY_STAFF)
        return self._send(before)

    def _send(self, before: PatronPenalties) -> StepOutcome[StepT]:
        patron, answer = self.step.patron_id, None
        sending = outcome_check.new_sending(self.gateway, self.journal.now(), other_fields=before.digest)
        self.journal.record_sending(self.journaled.id, sending)
        try:
            # Name the penalty. Without a name, Evergreen recalculates all penalties and may remove a block that staff
            # set, for example one of the kind that a library uses in place of the standard penalty for overdue items
            # (``penalties-update-022``). Every release with this method accepts a name: both came with Evergreen's
            # commit 20a752e24f (3.11).
            answer = self.gateway.call("open-ils.actor", _RECALCULATE, TOKEN, patron, _EXCEEDS_FINES, write=True).value
        except errors.GatewayError as error:
            if outcome_check.is_refusal(error) or outcome_check.was_never_sent(error):
                reason = reasons.refusal(self.gateway, error)
                if not any(it.field == PENALTIES for it in self.open_steps):
                    return self.end(StepState.FAILED, reason, error=error)
                # The earlier request may still run, so the step stays open even if this one was refused.
                return self.end(StepState.SENDING, reasons.may_come_in(sending.until, reason), error=error)
        try:
            after = self.reader.read_at(patron, before.home_library)
        except (errors.GatewayError, errors.DataError) as error:
            return self._end_unreadable(error)
        if str(answer) != "1" and after.in_force == before.in_force:
            # The request may still be on its way. Leave the step open for the next run, which may safely send the
            # request again: two recalculations have the effect of one.
            return self.end(StepState.SENDING, reasons.may_come_in(sending.until))
        return self._conclude(before, after)

    def _conclude(self, before: PatronPenalties, after: PatronPenalties) -> StepOutcome[StepT]:
        """End the step with what the recalculation changed, and whether that resolves the finding."""
        still_there = {row.id for row in after.in_force}
        # Naming the penalty should prevent this. Report it loudly, because someone has to restore the block.
        if any(row.staff is not None and row.id not in still_there for row in before.in_force):
            return self.end(StepState.FAILED, reasons.BLOCK_BY_STAFF_GONE)
        value = PenaltyRow.count_set_by_ils(after.in_force)
        if after.in_force == before.in_force and not after.current:
            return self.end(StepState.DONE, reasons.STALE_READ, value=value)
        # Blocks by staff don't count.
        blocking = self.reader.kinds.blocking_for_fines_at(before.home_library)
        had_block, has_block = (
            any(row.staff is None and row.kind in blocking for row in penalties.in_force)
            for penalties in (before, after)
        )
        reason, resolved = reasons.BLOCKED[had_block, has_block], has_block is self.step.due
        if not resolved:
            reason = reason.followed_by(reasons.DISAGREEMENTS[has_block])
        return self.end(StepState.DONE, reason, value=value, resolved=resolved)


def with_penalty_counts(penalties: PenaltyReader, steps: Sequence[StepT]) -> Sequence[StepT]:
    """Set how many penalties Evergreen had set as the value before a recalculation, for the journal."""
    patrons = {step.patron_id for step in steps if step.field == PENALTIES}
    if not patrons:
        return steps
    _ = penalties.kinds  # read them before the plan is journaled, so that an error leaves no entry
    counts = Counter(row.patron for row in rows_in_force(penalties.gateway, patrons) if row.staff is None)
    return [replace(step, before=counts[step.patron_id]) if step.field == PENALTIES else step for step in steps]


@dataclass
class PlanRun(Generic[StepT]):
    """One run of a plan, journaled under the ``id`` of a change. Nothing can refuse the plan any more.

    ``open_steps`` are the patrons' earlier steps whose requests may still arrive. The run of a request that repeats an
    earlier one has no steps: nothing is left to do.
    """

    journal: Journal
    penalties: PenaltyReader
    id: str
    steps: Sequence[StepT] = ()
    planned: Sequence[JournalStep] = ()
    open_steps: list[JournalStep] = field(default_factory=list)
    outcome: PlanOutcome[StepT] | None = None
    _not_moved: set[tuple[int, int | None]] = field(default_factory=set)

    def apply(self, progress: Progress = silent) -> PlanOutcome[StepT]:
        """Apply the steps in order. Stop at an error that would also hit every later step."""
        outcomes: list[StepOutcome[StepT]] = []
        stopped: errors.GatewayError | None = None
        for step, journaled in zip(self.steps, self.planned, strict=True):
            if stopped is not None:
                outcomes.append(StepOutcome(step, StepState.PLANNED, reason=reasons.NOT_STARTED))
                continue
            outcome = self._apply(step, journaled)
            outcomes.append(outcome)
            doing = Message("recalculating") if step.field == PENALTIES else Message("changing")
            progress(doing, len(outcomes), len(self.steps))
            if isinstance(outcome.error, outcome_check.FATAL_ERRORS):
                stopped = outcome.error
        self.outcome = PlanOutcome(tuple(outcomes), stopped, self.id)
        return self.outcome

    def _apply(self, step: StepT, journaled: JournalStep) -> StepOutcome[StepT]:
        gateway, open_steps = self.penalties.gateway, [it for it in self.open_steps if it.patron == step.patron_id]
        if step.field == PENALTIES:
            return PatronRecalculation(gateway, self.journal, step, journaled, open_steps, self.penalties).apply()
        change, way = PatronChange(gateway, self.journal, step, journaled, open_steps), (step.before, step.after)
        if step.last and way in self._not_moved:
            # Another patron's move failed. Keep this one behind, so that the same command still finds the group.
            return change.end(StepState.NOT_DONE, reasons.WAITS_FOR_OTHERS)
        outcome = change.apply()
        if outcome.sent is not None:
            self.open_steps.append(outcome.sent)
        if step.field == GROUP and not outcome.state.is_as_planned:
            self._not_moved.add(way)
        return outcome


def refuse_outdated(gateway: Gateway, plan: plans.PlanByIds[StepT]) -> None:
    """Refuse a plan if its patrons' groups or lead flags, or the members of its groups, have changed.

    Fines don't count: they change all the time and don't affect membership.
    """
    steps = [step for step in plan.steps if step.field != PENALTIES]
    if not steps:
        return
    patrons = sorted(plan.patrons)
    if gateway.reads_replicas:
        records = [found for found in gateway.map(partial(read_patron, gateway), patrons) if found is not None]
        rows: Iterable[Any] = [(it.id, int(it.usrgroup), it.master_account, it.deleted) for it in records]
    else:
        rows = gateway.pcrud.columns_by_values("au", ("id", GROUP, LEAD, "deleted"), "id", patrons)
    now = {id: (group, bool(lead), deleted) for id, group, lead, deleted in rows}
    found = []
    for step in steps:
        patron = step.patron_id
        if patron not in now:
            found.append(Message("patron {patron} is no longer visible", values={"patron": patron}))
            continue
        group, lead, deleted = now[patron]
        if step.field == GROUP and group != step.before:
            found.append(plans.has_now(patron, GROUP, group))
        if lead != step.lead:
            found.append(plans.has_now(patron, LEAD, lead))
        if deleted:
            found.append(plans.about_patron(plans.DELETED, patron))
    members = read_members(gateway, [group.number for group in plan.groups])
    found += [
        Message("the members of group {group} have changed", values={"group": group.number})
        for group in plan.groups
        if members[group.number] != frozenset(group.members)
    ]
    if found:
        raise errors.PlanError(
            "the plan is outdated: {differences}",
            advice="make the plan again",
            code="plan-outdated",
            # A patron with several steps causes the same difference more than once.
            values={"differences": tuple(dict.fromkeys(found))[: plans.MOST_NAMED]},
        )


def visible_patrons(gateway: Gateway, patrons: Collection[int]) -> set[int]:
    """Return the patrons (ids) whom the session may see."""
    return {id for (id,) in gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons))}

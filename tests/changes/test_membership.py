"""Changes to membership on the sandbox: planned, applied, journaled, undone."""

import stat
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from support.change_ids import change_id, number_of
from support.family_moves import record_of, write_as_staff
from support.gateways import client_of, gateway_of, why_not_undone
from support.states import state_in

from evergreen_groups.changes import Operator, StepState
from evergreen_groups.client import Client, Plan
from evergreen_groups.errors import BusyError, PlanError
from evergreen_groups.gateway import TOKEN, Gateway, Record
from evergreen_groups.render.plans import describe_warning
from evergreen_groups.sandbox import Sandbox

OKONKWO, LINDQVIST, DESROSIERS, HALLORAN = 1001, 1002, 1015, 1010


def barcode(patron: int) -> str:
    return f"2000000000{patron}"


def group_of(admin: Gateway, patron: int) -> int:
    return int(record_of(admin, patron).usrgroup)


def members(admin: Gateway, group: int) -> set[int]:
    return set(admin.call("open-ils.actor", "open-ils.actor.usergroup.members.retrieve", TOKEN, group).value)


def everything_else(record: Record) -> list[object]:
    position = record._class.positions
    volatile = {position[name] for name in ("usrgroup", "master_account", "last_xact_id", "last_update_time")}
    return [value for place, value in enumerate(record.to_wire()["__p"]) if place not in volatile]


def test_a_move_shows_both_groups_before_and_after(client: Client) -> None:
    plan = client.move([barcode(1052)], to=barcode(1007))
    (source, target) = plan.draft.groups
    assert (source.number, source.total_before, source.total_after) == (DESROSIERS, Decimal("8.15"), Decimal("7.80"))
    assert (target.number, target.total_before, target.total_after) == (LINDQVIST, Decimal("25.00"), Decimal("25.35"))
    assert [member.id for member in source.after] == [1051, 1053]


def test_a_move_changes_the_group_and_nothing_else(client: Client, admin: Gateway) -> None:
    before = record_of(admin)
    outcome = client.move([barcode(1052), barcode(1053)], to=barcode(1007)).apply()
    assert outcome.done
    assert members(admin, DESROSIERS) == {1051}
    assert members(admin, LINDQVIST) == {1007, 1008, 1009, 1010, 1011, 1052, 1053}
    assert everything_else(record_of(admin)) == everything_else(before)


def test_the_password_survives_a_move(client: Client, sandbox: Sandbox) -> None:
    client.move([barcode(1052)], to=barcode(1007)).apply()
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        login = {"barcode": barcode(1052), "password": "sandbox", "type": "opac"}
        assert gateway.call("open-ils.auth", "open-ils.auth.login", login).value["textcode"] == "SUCCESS"


def test_planning_sends_nothing(client: Client, admin: Gateway) -> None:
    client.move([barcode(1052)], to=barcode(1007))
    client.remove([barcode(1053)])
    assert members(admin, DESROSIERS) == {1051, 1052, 1053}
    assert client.changes.entries() == []


@pytest.mark.parametrize("lead", [False, True])
def test_a_removed_patron_is_alone_and_lead_only_when_asked(client: Client, admin: Gateway, *, lead: bool) -> None:
    outcome = client.remove([barcode(1052)], lead=lead).apply()
    assert outcome.done
    new = outcome.steps[0].value
    assert new is not None
    assert members(admin, new) == {1052}
    assert record_of(admin).master_account is lead


def test_merging_moves_everybody(client: Client, admin: Gateway) -> None:
    assert client.merge(barcode(1051), to=barcode(1001)).apply().done
    assert members(admin, DESROSIERS) == set()
    assert members(admin, OKONKWO) == {1001, 1002, 1003, 1004, 1005, 1006, 1051, 1052, 1053}


def test_lead_on_and_off(client: Client, admin: Gateway) -> None:
    assert client.set_lead(barcode(1052)).apply().done
    assert client.set_lead(barcode(1051), lead=False).apply().done
    leads = {record.id: record.master_account for record in admin.pcrud.search("au", {"usrgroup": DESROSIERS})}
    assert leads == {1051: False, 1052: True, 1053: False}


def test_what_is_so_already_is_not_sent(client: Client) -> None:
    for plan in (
        client.move([barcode(1052)], to=barcode(1051)),
        client.remove([barcode(1039)]),
        client.set_lead(barcode(1051)),
        client.merge(barcode(1052), to=barcode(1053)),
    ):
        assert plan.draft.steps == ()
        assert len(plan.draft.unchanged) == 1
        assert plan.apply().done
    assert client.changes.entries() == []


@pytest.mark.parametrize(
    ("barcodes", "to", "words"),
    [
        (["20000000009999"], 1007, "number 1 of 1"),
        ([barcode(1052), "x"], 1007, "number 2 of 2"),
        ([barcode(1052), barcode(1052)], 1007, "same patron"),
        ([barcode(1052)], 9999, "no visible patron has this barcode: the target (`to`)"),
    ],
)
def test_bad_barcodes_are_refused_without_being_repeated(
    client: Client, barcodes: list[str], to: int, words: str
) -> None:
    with pytest.raises(PlanError) as caught:
        client.move(barcodes, to=barcode(to))
    assert words in str(caught.value)
    assert "20000000009999" not in str(caught.value)


def test_warnings(client: Client, admin: Gateway) -> None:
    def warnings(patrons: list[int], to: int) -> str:
        draft = client.move([barcode(p) for p in patrons], to=barcode(to)).draft
        return "; ".join(map(describe_warning, draft.warnings))

    assert "group 1015 will be left without a lead" in warnings([1051], 1001)
    assert "shares no surname, address, phone or e-mail" in warnings([1039], 1019)
    assert "the last member leaves group 1010" in warnings([1039], 1001)
    assert "shares no surname" in warnings([1052], 1001), "of the same library, and no more"
    assert "group 1002 will have several leads: Lindqvist, Åsa; Whitfield, Grace" in warnings([1036], 1007)
    assert "several leads" not in warnings([1037], 1007)
    old_card = client.move(["20000000901049"], to=barcode(1001)).draft
    assert [step.member.id for step in old_card.steps] == [1049]
    assert "Haddad, Noor's card is inactive: check that it is theirs" in map(describe_warning, old_card.warnings)
    write_as_staff(admin, barred=True)
    assert "Desrosiers, Mireille is barred" in warnings([1052], 1001)


def test_hidden_members_are_counted_in_the_plan(sandbox: Sandbox, tmp_path: Path) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        client = client_of(gateway, tmp_path)
        (source, target) = client.move([barcode(1028)], to=barcode(1032)).draft.groups
        assert (source.hidden_member_count, source.total_before) == (1, Decimal("40.40"))
        assert (source.total_after, target.total_after) == (
            Decimal("40.40"),
            Decimal("84.35"),
        )
        # The hidden member may be lead, as 1027 is.
        leaves = client.move([barcode(1026)], to=barcode(1032)).draft
        assert "left-without-lead" not in {warning.code for warning in leaves.warnings}
        assert client.set_lead(barcode(1026), lead=False).draft.warnings == ()
        with pytest.raises(PlanError, match=r"nothing was moved: group \d+ has hidden members"):
            client.merge(barcode(1028), to=barcode(1032))


def test_a_patron_moved_meanwhile_is_left_alone(
    client: Client, admin: Gateway, sandbox: Sandbox, tmp_path: Path
) -> None:
    plan = client.move([barcode(1052), barcode(1053)], to=barcode(1007))
    with gateway_of(sandbox.url, "admin") as other:
        client_of(other, tmp_path / "other").move([barcode(1052)], to=barcode(1001)).apply()
    outcome = plan.apply()
    assert [step.state for step in outcome.steps] == [StepState.NOT_DONE, StepState.DONE]
    assert outcome.steps[0].reason == "another user moved the patron to group 1001"
    assert group_of(admin, 1052) == OKONKWO


def test_undo_takes_back_those_who_are_still_there(client: Client, admin: Gateway) -> None:
    client.move([barcode(1052), barcode(1053)], to=barcode(1007)).apply()
    client.move([barcode(1053)], to=barcode(1039)).apply()
    undo = client.undo(change_id(client.changes, 1))
    assert [step.member.id for step in undo.draft.steps] == [1052]
    assert undo.draft.unchanged == ("Desrosiers, Théo is now in group 1010",)
    assert undo.apply().done
    assert group_of(admin, 1052) == DESROSIERS
    assert group_of(admin, 1053) == HALLORAN
    assert why_not_undone(client, 1) == (
        "nothing to undo in change 1: patron 1053 is now in group 1010; patron 1052: already undone"
    )
    entries = [(number_of(entry.id), number_of(entry.undoes), entry.action) for entry in client.changes.entries()]
    assert entries == [(3, 1, "undo"), (2, None, "move"), (1, None, "move")]


def test_undo_of_a_removal_brings_them_back_and_takes_the_lead_away(client: Client, admin: Gateway) -> None:
    client.remove([barcode(1052)], lead=True).apply()
    assert client.undo(change_id(client.changes, 1)).apply().done
    assert (record_of(admin).usrgroup, record_of(admin).master_account) == (DESROSIERS, False)
    assert why_not_undone(client, 1) == "change 1 is already undone"


def test_the_journal_says_who_what_and_when_is_private_and_names_nobody(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    client.move([barcode(1052)], to=barcode(1007)).apply()
    (entry,) = client.changes.entries()
    assert entry.operator == Operator("consortium_staff")
    assert (entry.action, entry.gateway) == ("move", client.gateway.url)
    (step,) = entry.steps
    assert (step.patron, step.field, step.before, step.after) == (1052, "usrgroup", DESROSIERS, LINDQVIST)
    assert (step.state, step.value) == (StepState.DONE, LINDQVIST)
    directory = tmp_path / "state"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    (patron,) = sandbox._store.rows("au", {"id": 1052})
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    assert not any(word.encode() in content for word in (patron["family_name"], barcode(1052), client.gateway.token))


def test_two_runs_at_once(client: Client, tmp_path: Path) -> None:
    """Runs exclude each other only if they share a patron, or a group that a patron leaves or joins."""
    plan = client.move([barcode(1052)], to=barcode(1007))
    other = state_in(tmp_path / "state")
    for patrons, groups in (([1001, 1052], []), ([], [DESROSIERS]), ([1001], [LINDQVIST]), ([1007], [])):
        with (
            other.change_lease(client.gateway.url, patrons, groups),
            pytest.raises(BusyError, match=r"^another run is changing one of these patrons or groups$"),
        ):
            plan.apply()
    with other.change_lease(client.gateway.url, [1001, 1053], [1001, 1777]):
        assert plan.apply().done


class TestDeleted:
    """Evergreen silently moves deleted patrons. Our plans neither change deleted patrons nor join their groups."""

    DELETED = 1031

    @pytest.mark.parametrize("named", [barcode(DELETED), DELETED])
    def test_naming_one_is_refused(self, client: Client, named: str | int) -> None:
        plans: list[Callable[[], Plan]] = [
            lambda: client.move([named], to=1001),
            lambda: client.move([1052], to=named),
            lambda: client.remove([named]),
            lambda: client.merge(named, to=1001),
            lambda: client.merge(1001, to=named),
            lambda: client.set_lead(named),
            lambda: client.recalculate([named]),
        ]
        for plan in plans:
            with pytest.raises(PlanError) as caught:
                plan()
            assert caught.value.code == "patron-deleted"

    def test_a_batch_says_on_which_line(self, client: Client, tmp_path: Path) -> None:
        file = tmp_path / "batch.csv"
        rows = (f"move,{barcode(self.DELETED)},{barcode(1001)}", f"move,{barcode(1052)},{barcode(self.DELETED)}")
        file.write_text("\n".join(["action,barcode,target", *rows]))
        with pytest.raises(PlanError, match="line 2: the patron is deleted") as caught:
            client.batch(file)
        assert "line 3: target: the patron is deleted" in str(caught.value)

    def test_undo_leaves_one_where_they_are(self, client: Client, admin: Gateway, sandbox: Sandbox) -> None:
        client.move([barcode(1052), barcode(1053)], to=barcode(1007)).apply()
        sandbox._store.update("au", 1052, {"deleted": "t"})
        plan = client.undo(change_id(client.changes, 1))
        assert [step.patron_id for step in plan.draft.steps] == [1053]
        assert plan.draft.unchanged == ("Desrosiers, Mireille was deleted",)

"""A night after promises: the page, JSON, the command and the mail say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import update
from support.command import Command
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.mail_server import SECRET, Post, mail_section, server
from support.payments import pay

from evergreen_groups.follow_up import What
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema

pytestmark = pytest.mark.long
NOTE = "private remark"


@pytest.mark.parametrize("names", [False, True])
def test_the_morning_after(
    command: Command, sandbox: Sandbox, tmp_path: Path, mail_certificates: Path, names: bool
) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report, url = build_report(gateway, Criteria()), gateway.url
    first, second, third, *_ = [group for group in report.groups if group.complete and group.hidden_fines is not None]
    assert command("-q", "report", "--history").returncode == 0
    with State(tmp_path / "state") as state:
        now = state.database.now()
        kept, broken, reminded = (
            replace(draft(first.number, What.PROMISED, note=NOTE), pay_by=now.date(), amount=Decimal("1.00")),
            replace(draft(second.number, What.PROMISED, note=NOTE), pay_by=now.date()),
            replace(draft(third.number, note=NOTE), remind_on=now.date()),
        )
        save(state, kept, broken, reminded, url=url)
        with state.database.writing() as connection:  # all of it was three days ago
            entries = schema.follow_up_entries.c
            then = now.date() - timedelta(3)
            connection.execute(update(schema.follow_up_entries).values(at=now - timedelta(3), saved_on=then, day=then))
            promised = update(schema.follow_up_entries).where(entries.pay_by.is_not(None))
            connection.execute(promised.values(pay_by=now.date() - timedelta(2)))
    debtor = next(member for member in first.members if member.own_fines >= 1)
    pay(sandbox, debtor.id, "1.00", at=now - timedelta(1))
    post = Post()
    with server(post, mail_certificates) as port:
        text = mail_section(port, mail_certificates, f"names_in_mail = {str(names).lower()}")
        output = command.config.with_name("report.html")
        served = f'[serve]\norigin = "https://ils.example"\n[report]\noutput = "{output}"\n'
        command.config.write_text(text + served)
        command.environ["EVERGREEN_GROUPS_MAIL_PASSWORD"] = SECRET
        done = command("report", "--history", "--mail")
    assert done.returncode == 0, done.stderr
    [letter] = post.taken
    assert NOTE not in done.stdout + done.stderr + str(letter)
    told = command("follow-ups", "--due").stdout
    listed = [line for line in told.splitlines() if line.startswith("  Group ")]
    assert listed[0].startswith(f"  Group {second.number} · ")
    assert "Promise broken" in listed[0]
    assert NOTE not in told
    [document] = json.loads(command("follow-ups", "--due", "--json").stdout)["reports"]
    [one, *others] = document["groups"]
    assert (one["group"], one["broken"], one["due"], one["entries"][-1]["outcome"]) == (
        second.number,
        True,
        ["promise"],
        "broken",
    )
    assert not any(other["broken"] for other in others)
    [paid] = [
        one
        for one in json.loads(command("follow-ups", "--json").stdout)["reports"][0]["groups"]
        if one["group"] == first.number
    ]
    assert [(entry["outcome"], entry["paid"], entry["amount"]) for entry in paid["entries"]] == [
        ("kept", "1.00", "1.00")
    ]
    assert paid["promise"] is None
    body = letter.get_body(("plain",))
    assert body is not None
    plain = body.get_content()
    name = f" {second.lead.name}" if names else ""
    assert f"Broken promises: 1 ({second.number}{name})" in " ".join(plain.split())
    assert "Reminders due: 1 (" in plain
    assert "https://ils.example/evergreen-groups/reports/latest?status=due" in plain

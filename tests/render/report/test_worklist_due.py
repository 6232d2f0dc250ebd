"""The served list: broken promises first, and what is due as a filter."""

from __future__ import annotations

import lxml.html
import pytest
from support.rendered import written
from support.report_samples import sample_report

from evergreen_groups.follow_up import Agreed, FollowUpState, FollowUpStatus
from evergreen_groups.render.report import WorklistRow, WrittenPage

DUE = frozenset({Agreed.PROMISE})
PLACE = {"action": "/save", "letters": "", "place": {}, "script": "/follow-up.js"}


@pytest.mark.parametrize("shown", ["to-do", "due"])
def test_broken_promises_come_first(shown: str) -> None:
    report = sample_report()
    numbers = [group.number for group in report.groups]
    states = {number: FollowUpState(FollowUpStatus.TO_DO, None) for number in numbers}
    states[numbers[-1]] = FollowUpState(FollowUpStatus.TO_DO, None, due=DUE, is_broken=True)
    states[numbers[1]] = FollowUpState(FollowUpStatus.TO_DO, None, due=DUE)
    rows = {number: WorklistRow(state, True) for number, state in states.items()}
    page = WrittenPage(written(report, "html")).filled(rows, shown=shown, **PLACE)  # type: ignore[arg-type]
    tree = lxml.html.document_fromstring(page)
    listed = [int(box) for box in tree.xpath("//tbody[@class='group']//input[@name='group']/@value")]
    assert listed == [numbers[-1], *numbers[:-1]]
    marked = tree.xpath("//tr[@class='follow-up']/@data-status")
    assert [mark == "to-do due" for mark in marked] == [number in (numbers[-1], numbers[1]) for number in listed]
    options = tree.xpath("//select[@id='status']/option")
    assert [one.get("value") for one in options] == ["to-do", "waiting", "closed", "due", ""]
    assert options[3].text_content() == "Due: promises and reminders (2)"
    assert [one.get("value") for one in options if one.get("selected") is not None] == [shown]
    assert len(tree.xpath("//tfoot")) == 1

"""The page about serving: what it quotes is what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
PANEL = (ROOT / "evergreen_groups" / "web" / "static" / "panel.js").read_text(encoding="utf-8")
APACHE = (ROOT / "config" / "apache" / "evergreen-groups.conf").read_text(encoding="utf-8")


def test_the_table_of_troubles_has_every_message_of_the_panel_and_no_other() -> None:
    texts = re.search(r"const TEXTS = \{(.*?)\};", PANEL, re.DOTALL)
    assert texts
    messages = re.findall(r'"(.+?)"', texts[1])
    quoted = re.findall(r"^\| \*(.+?)\*", PAGE, re.MULTILINE)
    assert len(messages) == 3
    assert [quote for quote in quoted if not any(message.startswith(quote) for message in messages)] == []
    assert [message for message in messages if not any(message.startswith(quote) for quote in quoted)] == []


def test_the_link_to_the_script_is_made_where_apache_looks_for_it() -> None:
    (where,) = re.findall(r'<IfFile "(.+)">', APACHE)
    (target, directory) = re.findall(r"^ln -s (\S+) (\S+)$", PAGE, re.MULTILINE)[0]
    assert where == directory + Path(target).name
    assert target.endswith("/evergreen_groups/web/static/panel.js")

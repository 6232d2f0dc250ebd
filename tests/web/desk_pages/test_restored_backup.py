"""A page from before a backup was restored never undoes a later change with the same number."""

from __future__ import annotations

from pathlib import Path

from support.change_ids import number_of
from support.desk_caller import DeskCaller, group_of
from support.desk_page import DeskClerk, agreed, card, scanned
from support.fault_proxy import FaultProxy
from support.web_caller import client_of, session

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.state import State, back_up, restore
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.web import close, create_app

NGUYEN, THOMAS, RUTH, KONRAD = 1017, 1037, 1038, 1052


def test_a_page_from_before_the_restore_undoes_nothing(
    desk_settings: Settings, environ: dict[str, str], sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path
) -> None:
    token = session(sandbox.url, username="consortium_staff")
    directory = Path(environ["STATE_DIRECTORY"])

    app = create_app(desk_settings, environ)
    clerk = DeskClerk(app, token, proxy.url)
    agreed(scanned(clerk.open(NGUYEN), card(KONRAD)))
    with State(directory) as state:
        back_up(state.database, tmp_path / "backup")
    page = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
    old = page.form("/undo").fields["entry"]
    close(app)

    for file in directory.glob(f"{FILE_NAME}*"):
        file.unlink()
    with State(directory) as state:
        restore(state.database, tmp_path / "backup")
    app = create_app(desk_settings, environ)
    try:
        page.clerk = DeskClerk(app, token, proxy.url)
        made = agreed(scanned(page.clerk.open(NGUYEN), card(THOMAS)))
        new = made.form("/undo").fields["entry"]
        assert number_of(new) == number_of(old)
        group = group_of(sandbox, THOMAS)

        assert f"here is no change {old}" in page.send("/undo").message
        caller = DeskCaller(client_of(app), token)
        for answer in (caller.undo(old), caller.change(old), caller.plan("undo", change=old)):
            assert answer.status == 404, answer.body
        assert group_of(sandbox, THOMAS) == group

        assert "Undone" in made.send("/undo").outcome
        assert group_of(sandbox, THOMAS) != group
    finally:
        close(app)

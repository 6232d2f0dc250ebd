"""open-ils.auth of the sandbox: who may log in and how, and how long a session lasts."""

from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import pytest
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services import Sessions

PATRON = "20000000001001"


def auth(caller: Caller, name: str, *values: Any) -> Any:
    answer = caller.body("open-ils.auth", f"open-ils.auth.{name}", *values)
    assert answer["status"] == 200, answer
    return answer["payload"][0] if answer["payload"] else None


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({"username": "harbor_desk", "password": "sandbox"}, 7200),
        ({"username": "harbor_desk", "password": "sandbox", "type": "temp"}, 300),
        ({"identifier": PATRON, "password": "sandbox", "type": "opac"}, 420),
        ({"identifier": "yusuf.haddad", "password": "sandbox", "type": "opac"}, 420),
        ({"barcode": PATRON, "password": "sandbox", "type": "persist"}, 1_209_600),
        ({"username": PATRON, "barcode": "nobody's", "password": "sandbox", "type": "opac"}, 420),
    ],
)
def test_logins(caller: Caller, arguments: dict[str, Any], seconds: int) -> None:
    event = auth(caller, "login", arguments)
    assert (event["ilsevent"], event["textcode"]) == (0, "SUCCESS")
    assert len(event["payload"]["authtoken"]) == 32
    assert {**event["payload"], "authtoken": ""} == {"authtoken": "", "authtime": seconds, "provisional": 0}


@pytest.mark.parametrize(
    ("arguments", "textcode"),
    [
        ({"username": "harbor_desk", "password": "wrong"}, "LOGIN_FAILED"),
        ({"username": "nobody", "password": "sandbox"}, "LOGIN_FAILED"),
        ({"username": "nobody"}, "LOGIN_FAILED"),
        ({"username": "harbor_desk", "password": "sandbox", "type": "opac"}, "LOGIN_FAILED"),
        ({"barcode": PATRON, "password": "sandbox"}, "LOGIN_FAILED"),
        ({"username": "admin", "password": "sandbox", "type": "api"}, "LOGIN_FAILED"),
        ({"barcode": "20000000001039", "password": "sandbox", "type": "opac"}, "LOGIN_FAILED"),
        ({"username": "20000000001031", "password": "sandbox", "type": "opac"}, "LOGIN_FAILED"),
        ({"barcode": "20000000901049", "password": "sandbox", "type": "opac"}, "PATRON_CARD_INACTIVE"),
        ({"barcode": "20000000901049", "password": "wrong", "type": "opac"}, "LOGIN_FAILED"),
        ({"username": "harbor_desk", "password": "sandbox", "workstation": "NOWHERE"}, "WORKSTATION_NOT_FOUND"),
    ],
)
def test_failed_logins(caller: Caller, arguments: dict[str, Any], textcode: str) -> None:
    event = auth(caller, "login", arguments)
    assert event["textcode"] == textcode
    assert isinstance(event["ilsevent"], int)
    assert "payload" not in event


def test_too_many_failures_block_the_right_password(caller: Caller) -> None:
    for _ in range(10):
        auth(caller, "login", {"username": "north_manager", "password": "guess"})
    right = {"username": "north_manager", "password": "sandbox"}
    assert auth(caller, "login", right)["textcode"] == "LOGIN_FAILED"
    assert auth(caller, "login", {**right, "username": "harbor_desk"})["textcode"] == "SUCCESS"


def hashed(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def test_the_older_login_hashes_seed_and_password(caller: Caller) -> None:
    seed = auth(caller, "authenticate.init", "harbor_desk")
    assert seed == auth(caller, "authenticate.init.username", "harbor_desk")
    answer = {"username": "harbor_desk", "password": hashed(seed + hashed("sandbox")), "type": "staff"}
    assert auth(caller, "authenticate.complete", answer)["textcode"] == "SUCCESS"
    again = caller.body("open-ils.auth", "open-ils.auth.authenticate.complete", answer)
    assert again["status"] == 404
    auth(caller, "authenticate.init", "harbor_desk")
    wrong = {**answer, "password": hashed(seed + hashed("wrong"))}
    assert auth(caller, "authenticate.complete", wrong)["textcode"] == "LOGIN_FAILED"


class Clock:
    now = datetime(2026, 11, 25, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)


def test_only_idle_sessions_expire() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.open(7, 11, None, 420)
    for _ in range(3):
        clock.wait(419)
        assert sessions.find(token) is not None
    clock.wait(419)
    assert sessions.find(token, prolong=False) is not None
    clock.wait(1)
    assert sessions.find(token) is None


def test_a_persistent_session_is_only_extended_near_its_end() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.open(7, 11, None, 10_000, extension=600)
    clock.wait(5_000)
    session = sessions.find(token)
    assert session is not None
    assert sessions.remaining(session) == 5_000
    clock.wait(4_900)
    assert sessions.find(token) is session
    assert sessions.remaining(session) == 600


def test_before_3_15_staff_log_in_to_the_catalog_too() -> None:
    arguments = {"username": "harbor_desk", "password": "sandbox", "type": "opac"}
    with Sandbox(release="3.12") as sandbox:
        event = auth(Caller(sandbox.url), "login", arguments)
    assert event["textcode"] == "SUCCESS"
    assert {**event["payload"], "authtoken": ""} == {"authtoken": "", "authtime": 420}

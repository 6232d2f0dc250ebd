"""The page about serving: quoted files and texts exist, and the unit's settings suffice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.repository import REPOSITORY
from support.web_caller import PASSWORD, SECRET, bearer, client_of

from evergreen_groups.installation import render_files, this_machine
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import reading as load
from evergreen_groups.web import PREFIX, close, create_app
from evergreen_groups.web.api import SECRET_HEADER

ROOT = REPOSITORY
PANEL = (ROOT / "evergreen_groups" / "web" / "static" / "panel.js").read_text(encoding="utf-8")
UNIT = (ROOT / "config" / "systemd" / "evergreen-groups.service").read_text(encoding="utf-8")


def test_what_is_installed_hands_out_the_script_from_where_it_is(tmp_path: Path) -> None:
    installed = render_files("apache", this_machine(None, {}, root=tmp_path))
    (where,) = re.findall(r'<IfFile "(.+)">', installed)
    assert f'Alias "{PREFIX}/panel.js" "{where}"' in installed
    assert Path(where).read_text(encoding="utf-8") == PANEL


def test_with_the_units_credentials_the_nightly_reports_configuration_will_do(sandbox: Sandbox, tmp_path: Path) -> None:
    """The configuration names files that only root can read. The unit overrides their paths."""
    credentials = dict(re.findall(r"^(?:# )?LoadCredential=(\w[\w.]*):(\S+)$", UNIT, re.MULTILINE))
    kept = tmp_path / "for root alone"
    configured = {"gateway": f'url = "{sandbox.url}"\nusername = "consortium_staff"\npassword_file = "{kept}/password"'}
    configured["events"] = f'secret_file = "{kept}/events-secret"'
    document = "\n".join(f"[{section}]\n{lines}" for section, lines in configured.items())
    for name, text in zip(credentials, (document, PASSWORD, SECRET, SECRET), strict=True):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    assigned = " ".join(re.findall(r"^(?:# )?Environment=(.+)$", UNIT, re.MULTILINE)).replace("%d", str(tmp_path))
    environ = dict(pair.split("=", 1) for pair in assigned.split()) | {"STATE_DIRECTORY": str(tmp_path / "state")}
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    app = create_app(load.load(None, environ), environ)
    event = {"event": 1, "hook": "au.updated", "patron": 1001}
    answer = client_of(app).post(f"{PREFIX}/events", json=event, headers={SECRET_HEADER: SECRET})
    shown = client_of(app).get(f"{PREFIX}/metrics", headers=bearer(SECRET))
    close(app)
    assert (answer.status_code, shown.status_code) == (200, 200)


def test_the_wsgi_file_answers_where_apache_mounts_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[gateway]\nurl = "http://127.0.0.1:1"\n')
    directories = {f"{name}_DIRECTORY": str(tmp_path) for name in ("STATE", "CACHE")}
    code = (
        "import runpy, sys; application = runpy.run_path(sys.argv[1])['application']; "
        f"mount = {{'SCRIPT_NAME': '{PREFIX}'}}; "
        "print(application.test_client().get('/openapi.json', environ_overrides=mount).status_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT / "config" / "wsgi.py"],
        env={**os.environ, **directories, "EVERGREEN_GROUPS_CONFIG": str(tmp_path / "config.toml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "200\n", done.stderr
    assert f"INFO evergreen_groups.web: GET {PREFIX}/openapi.json 200" in done.stderr

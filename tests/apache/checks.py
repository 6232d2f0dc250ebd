"""Check Apache's configuration in front of the real service. Needs apache2, so run it by name:

pytest tests/apache/checks.py
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.mail_server import free_port
from support.repository import REPOSITORY
from support.waiting import wait_until
from support.web_caller import API, SECRET, bearer, served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import MetricsSettings, ServeSettings
from evergreen_groups.settings.sections import EventsSettings
from evergreen_groups.web import close, create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONFIGURATION = REPOSITORY / "config" / "apache"
PANEL = REPOSITORY / "evergreen_groups" / "web" / "static" / "panel.js"
TAG = b'<script src="/evergreen-groups/panel.js" defer></script></body>'
MODULES = """
mpm_prefork authz_core mime filter deflate env alias dir rewrite setenvif expires headers proxy proxy_http substitute
proxy_balancer remoteip slotmem_shm lbmethod_bybusyness
"""
APACHE = Template("""
ServerRoot /usr/lib/apache2
ServerName localhost
Listen 127.0.0.1:$port
PidFile $root/apache.pid
Mutex file:$root
DefaultRuntimeDir $root
$modules
TypesConfig /etc/mime.types
ErrorLog $root/error.log
DocumentRoot $root/web
<Directory "$root/web">
    Require all granted
</Directory>

# What matters here of Evergreen's own eg.conf and eg_vhost.conf.
ExpiresActive On
ExpiresDefault "access plus 1 year"
ExpiresByType text/html "access plus 18 hours"
<Directory "$root/web/eg2/en-US">
    FallbackResource /eg2/en-US/index.html
</Directory>
<Directory "$root/web/eg/staff">
    FallbackResource /eg/staff/index.html
</Directory>
$before
<Location /eg>
    SetOutputFilter DEFLATE
</Location>
$after
""")
PAGES = {
    "eg2/en-US/index.html": "<!doctype html><html><head></head><body><eg-root></eg-root></body></html>",
    "eg2/en-US/main.js": 'const page = "<body></body>";',
    "eg/staff/index.html": "<!doctype html>\n<html>\n<head></head>\n<BODY>\n<div ng-view></div>\n</BODY>\n</html>\n",
    "eg/opac/index.html": "<!doctype html><html><body>the catalog</body></html>",
}


@contextmanager
def apache(*, before: str = "", after: str = "") -> Iterator[str]:
    """Run Apache with extra lines before or after Evergreen's, and yield its base URL."""
    root, port = Path(tempfile.mkdtemp(prefix="apache-")), free_port()
    root.chmod(0o755)
    for name, text in PAGES.items():
        (root / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "web" / name).write_text(text)
    loaded = [f"LoadModule {name}_module modules/mod_{name}.so" for name in MODULES.split()]
    loaded += ["User www-data", "Group www-data"] if os.geteuid() == 0 else []
    file = root / "apache.conf"
    file.write_text(APACHE.substitute(root=root, port=port, modules="\n".join(loaded), before=before, after=after))
    # In a new session, because Apache signals its whole process group when it stops.
    with subprocess.Popen(["apache2", "-f", file, "-D", "FOREGROUND"], start_new_session=True) as process:
        try:
            wait_until(lambda: status_of(f"http://127.0.0.1:{port}/eg/opac/index.html") == 200)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(root)


def ask(
    address: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Request exactly this path, and return status, headers and body."""
    parts = urlsplit(address)
    path = address.split(parts.netloc, 1)[1]
    with closing(http.client.HTTPConnection(parts.netloc, timeout=20)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def status_of(address: str) -> int:
    """Return the status of a GET, or 0 if nobody listens."""
    try:
        return ask(address)[0]
    except ConnectionRefusedError:
        return 0


def configuration(service: str, name: str = "evergreen-groups.conf") -> str:
    return (CONFIGURATION / name).read_text(encoding="utf-8").replace("http://127.0.0.1:8211", service)


@pytest.fixture(scope="module")
def ils() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def service(ils: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("service")
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    environ = {"EVERGREEN_GROUPS_PASSWORD": "sandbox", "STATE_DIRECTORY": str(directory)}
    metrics = MetricsSettings(token_file=secret)
    app = create_app(settings_of(ils.url, events=EventsSettings(secret_file=secret), metrics=metrics), environ)
    with served(app) as address:
        yield address
    close(app)


@pytest.fixture(scope="module", params=["before Evergreen's", "after Evergreen's"])
def web(request: pytest.FixtureRequest, service: str) -> Iterator[str]:
    """Run Apache with the configuration before or after Evergreen's, and yield its base URL."""
    place = request.param.split()[0]
    with apache(**{place: configuration(service)}) as address:
        yield address


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(
    "page", ["/eg2/en-US/staff/circ/patron/1001/checkout", "/eg2/en-US/index.html", "/eg/staff/circ/patron/1001/bills"]
)
def test_both_clients_load_the_panel_once(web: str, page: str, encoding: str) -> None:
    status, headers, body = ask(web + page, Accept_Encoding=encoding)
    body = gzip.decompress(body) if headers["Content-Encoding"] == "gzip" else body
    assert status == 200
    assert body.count(TAG) == 1


@pytest.mark.parametrize("page", ["/eg2/en-US/main.js", "/eg/opac/index.html"])
def test_nothing_else_is_changed(web: str, page: str) -> None:
    assert ask(web + page)[2].decode() == PAGES[page.removeprefix("/")]


def test_the_api_answers_with_headers_of_its_own(web: str, ils: Sandbox) -> None:
    token = session(ils.url, username="harbor_desk")
    status, headers, body = ask(f"{web}{API}/patrons/1001/summary", **bearer(token))
    assert status == 200
    assert b'"patron":1001' in body
    assert headers["Cache-Control"] == "no-store"
    assert headers["Expires"] is None
    assert ask(f"{web}{API}/patrons/1001/summary")[0] == 401


def test_the_panel_is_looked_for_again_each_time(web: str) -> None:
    headers = ask(f"{web}/evergreen-groups/panel.js")[1]
    assert headers["Cache-Control"] == "no-cache"
    assert ask(f"{web}/evergreen-groups/panel.js", If_None_Match=headers["ETag"])[0] == 304


@pytest.mark.parametrize("balanced", [False, True])
def test_the_panel_is_there_while_the_service_is_not(balanced: bool) -> None:
    own = configuration("http://127.0.0.1:9")
    if balanced:
        lines = configuration("http://127.0.0.1:9", "evergreen-groups-balancer.conf")
        own = re.sub(r"(?m)^ProxyPass .*$", lambda line: lines, own)
    with tempfile.TemporaryDirectory(prefix="panel-") as directory:
        Path(directory).chmod(0o755)
        shutil.copy(PANEL, f"{directory}/static.js")
        Path(f"{directory}/panel.js").symlink_to("static.js")
        with apache(after=own.replace("/opt/evergreen-groups/panel.js", f"{directory}/panel.js")) as web:
            status, headers, body = ask(f"{web}/evergreen-groups/panel.js")
            assert (status, body) == (200, PANEL.read_bytes())
            assert headers["Content-Type"] == "text/javascript; charset=utf-8"
            assert headers["Cache-Control"] == "no-cache"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Expires"] is None
            assert ask(f"{web}/evergreen-groups/panel.js", If_None_Match=headers["ETag"])[0] == 304
            assert ask(f"{web}/evergreen-groups/static.js")[0] == 503
            assert ask(f"{web}{API}/patrons/1001/summary")[0] == 503


def variants(name: str) -> list[str]:
    """Return ways to spell an address that Apache or the service might take for it."""
    base, first = "/evergreen-groups", f"%{ord(name[0]):x}{name[1:]}"
    inner = [name, f"{name}/", first, f"./{name}", f"api/../{name}", f"api/%2e%2e/{name}", f"api%2f..%2f{name}"]
    others = [f"/{base}//{name}", f"{base}/{name};x=1", f"/Evergreen-groups/{name}", f"{base}/{name}%00"]
    return [*(f"{base}/{one}" for one in inner), *others]


@pytest.mark.parametrize("path", variants("events"))
def test_no_event_comes_in_from_outside(web: str, service: str, path: str) -> None:
    body = b"event=1&hook=au.updated&patron=1001"
    headers = {"X_Evergreen_Groups_Secret": SECRET, "Content_Type": "application/x-www-form-urlencoded"}
    assert ask(f"{service}/evergreen-groups/events", "POST", body, **headers)[0] == 200
    assert ask(web + path, "POST", body, **headers)[0] in (400, 403, 404)


@pytest.mark.parametrize("path", variants("metrics"))
def test_no_metrics_go_out(web: str, service: str, path: str) -> None:
    """Apache refuses even with the token; only a direct request to the service gets the metrics."""
    assert ask(f"{service}/evergreen-groups/metrics", **bearer(SECRET))[0] == 200
    status, _, body = ask(web + path, **bearer(SECRET))
    assert status in (400, 403, 404)
    assert b"evergreen_groups_" not in body


def test_barcodes_stay_out_of_the_access_log(ils: Sandbox, service: str, tmp_path: Path) -> None:
    token, log = session(ils.url, username="harbor_desk"), tmp_path / "access.log"
    logging = f'CustomLog {log} "%r" env=!evergreen_groups_barcode\n'
    with apache(after=logging + configuration(service)) as web:
        assert ask(f"{web}{API}/patrons/by-barcode/20000000001001/block", **bearer(token))[0] == 200
        assert ask(f"{web}/evergreen-groups/healthz")[0] == 200
        wait_until(lambda: "/evergreen-groups/healthz" in log.read_text())
        assert "20000000001001" not in log.read_text()


def echo(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
    names = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
    start("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(f"{name}={environ.get(name, '')}" for name in names).encode()]


@pytest.mark.parametrize(
    ("peer", "forwarded"),
    [
        ("198.51.100.7", "198.51.100.7"),  # a browser, or one whose address mod_remoteip has set
        ("2001:db8::7", "2001:db8::7"),
        (None, "192.0.2.1, 192.0.2.2, 127.0.0.1"),  # nginx on this machine, which appends its client's address
    ],
)
def test_what_a_client_says_of_its_address_does_not_count(peer: str | None, forwarded: str) -> None:
    remote = "RemoteIPHeader X-Peer\nRemoteIPInternalProxy 127.0.0.1\n"  # lets a test set its own address
    with served(echo) as service, apache(after=remote + configuration(service)) as web:
        claims = {"X_Forwarded_For": "192.0.2.1, 192.0.2.2", "Forwarded": "for=192.0.2.1"}
        text = ask(f"{web}/evergreen-groups/", **claims, **({"X_Peer": peer} if peer else {}))[2].decode()
    assert text.splitlines()[:2] == [f"HTTP_X_FORWARDED_FOR={forwarded}", "HTTP_FORWARDED="]


def test_the_service_down_and_up_again() -> None:
    settings = ServeSettings(port=free_port())
    with ExitStack() as running:
        service = running.enter_context(served(echo, settings))
        with apache(after=configuration(service)) as web:
            assert status_of(f"{web}/evergreen-groups/") == 200
            running.close()
            wait_until(lambda: status_of(f"{web}/evergreen-groups/") == 503)
            with served(echo, settings):
                wait_until(lambda: status_of(f"{web}/evergreen-groups/") == 200)


def test_a_balancer_goes_on_with_the_instance_that_is_left() -> None:
    with ExitStack() as one, ExitStack() as other:
        first, second = one.enter_context(served(echo)), other.enter_context(served(echo))
        balanced = configuration(first, "evergreen-groups-balancer.conf").replace("http://127.0.0.1:8212", second)
        lines = configuration("").splitlines()
        rest = "\n".join(line for line in lines if not line.startswith("ProxyPass"))
        with apache(after=balanced + rest) as web:
            assert {status_of(f"{web}/evergreen-groups/") for _ in range(10)} == {200}
            one.close()
            assert {status_of(f"{web}/evergreen-groups/") for _ in range(10)} == {200}
            other.close()
            wait_until(lambda: status_of(f"{web}/evergreen-groups/") == 503)


def test_the_balancers_file_comes_before_the_single_instance(tmp_path: Path) -> None:
    with served(echo) as first, served(echo) as second:
        text = configuration(first, "evergreen-groups-balancer.conf").replace("http://127.0.0.1:8212", second)
        (tmp_path / "balancer.conf").write_text(text)
        included = f"IncludeOptional {tmp_path}/balancer.conf"
        own = configuration("http://127.0.0.1:9").replace("IncludeOptional evergreen-groups-balancer.conf", included)
        with apache(after=own) as web:
            assert {status_of(f"{web}/evergreen-groups/") for _ in range(10)} == {200}
            assert status_of(f"{web}/evergreen-groups/events") == 403


def zipped(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/html"), ("Content-Encoding", "gzip")])
    return [gzip.compress(PAGES["eg2/en-US/index.html"].encode())]


@pytest.mark.parametrize(("filters", "found"), [("SUBSTITUTE", 0), ("INFLATE;SUBSTITUTE;DEFLATE", 1)])
def test_pages_that_come_compressed_take_the_other_filter(filters: str, found: int) -> None:
    with served(zipped) as other:
        own = configuration("http://127.0.0.1:9").replace("SUBSTITUTE text/html", f"{filters} text/html")
        with apache(after=f'{own}\nProxyPass "/eg2/" "{other}/"') as web:
            _, headers, body = ask(f"{web}/eg2/page", Accept_Encoding="gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).count(TAG) == found

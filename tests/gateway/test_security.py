"""Secrets are encrypted in transit, and appear in no message, log or repr."""

import logging
import os
import socket
import ssl
import threading
from contextlib import suppress
from functools import partial

import pytest
from support.gateway_server import (
    TOKEN,
    Server,
    connect,
    connect_as_staff,
    envelope,
    event,
    hang_up,
    http,
    http_error,
    logged_in,
    raw,
    results,
    says,
    session_server,
    stall,
)
from support.mail_server import context_of

from evergreen_groups.certificates import relax_verification
from evergreen_groups.errors import ConfigurationError, GatewayError, LoginRefusedError, UnreachableError
from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.gateway.answer import Redactor
from evergreen_groups.gateway.transport import _context

PASSWORD = "tEst-Secret/1"
NAME = "Ñandú-Quist"


class TestPlainHTTP:
    @pytest.mark.parametrize("url", ["http://ils.example.org", "http://10.0.0.5/", "http://localhost.example.org"])
    def test_refused_to_other_machines(self, url):
        with pytest.raises(ConfigurationError, match="isn't encrypted"):
            Gateway(url)
        Gateway(url, allow_plain_http=True).close()

    @pytest.mark.parametrize(
        "url",
        ["http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:80", "https://ils.example"],
    )
    def test_allowed_to_this_machine(self, url):
        Gateway(url).close()


@pytest.mark.parametrize(
    "url",
    ["", "ils.example.org", "ftp://ils.example.org", "https://", "https://u:hidden@ils.example", "https://x/?a=hidden",
     "https://x/#hidden", "https://:443", "https://x:notaport", "https://[::1", "https://.", "https://*", "https://\u2603.example",
     "https://a%00b"],
)  # fmt: skip
def test_addresses_that_cannot_be(url):
    with pytest.raises(ConfigurationError) as caught:
        Gateway(url)
    assert "hidden" not in str(caught.value)


class TestTLS:
    @pytest.fixture
    def secure(self, gateways, mail_certificates):
        """Open gateways to servers with a certificate of the tests, trusting those in a bundle."""

        def start(answers, certificate="right", bundle="ca.pem", **settings):
            if bundle:
                settings["ca_bundle"] = mail_certificates / bundle
            return gateways(answers, tls=context_of(mail_certificates, certificate), **settings)

        return start

    def test_the_form_of_a_certificate_is_forgiven_on_every_python(self):
        context = ssl.create_default_context()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        assert not relax_verification(context).verify_flags & ssl.VERIFY_X509_STRICT
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    @pytest.mark.parametrize("bundle", ["ca.pem", "right.pem"])  # the CA's certificate, or only the server's
    def test_own_ca_bundle(self, secure, bundle):
        gateway = secure(results(1), bundle=bundle)
        assert gateway.call("a", "a.b", TOKEN_PLACE).value == 1
        assert gateway.call("a", "a.b", TOKEN_PLACE, write=True).value == 1

    def test_a_bundle_is_read_once_and_again_when_it_is_another(self, secure, mail_certificates, tmp_path):
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes((mail_certificates / "ca.pem").read_bytes())
        gateway = secure(results(1), bundle=bundle)
        _context.cache_clear()
        call = partial(gateway.call, "a", "a.b", write=True)  # over its own connection
        assert [result.value for result in gateway.map(lambda _number: call(), range(8))] == [1] * 8
        assert _context.cache_info().misses <= gateway.concurrency  # each of the first may have read the secret
        bundle.write_bytes((mail_certificates / "wrong.pem").read_bytes())
        with pytest.raises(UnreachableError, match="certificate"):
            call()
        bundle.write_bytes((mail_certificates / "right.pem").read_bytes())
        assert call().value == 1

    def test_deadlines_hold_as_well(self, secure):
        gateway = secure(stall, timeout=0.1, grace=0.1, retries=RetryPolicy(tries=1))
        with pytest.raises(GatewayError, match="no answer within"):
            gateway.call("a", "a.b")

    def test_a_record_that_is_not_tls_in_the_middle_of_an_answer(self, mail_certificates):
        def break_off(line, request):
            line.send(http(envelope(1))[:-5])
            os.write(line.sock.fileno(), b"HTTP/1.1 400 Bad Request\r\n\r\n")
            line.keep = False

        with (
            Server([break_off, results(1)], tls=context_of(mail_certificates, "right")) as server,
            connect(server, ca_bundle=mail_certificates / "ca.pem") as gateway,
        ):
            assert gateway.call("a", "a.b").value == 1
            assert server.connections == [0, 1]

    def test_a_later_connection_resumes_the_session(self, secure):
        """Without the server's signature, which takes it about as long as a simple call."""
        gateway = secure(results(1))
        for _ in range(3):
            gateway.call("a", "a.b", own_connection=True)
        assert gateway.server.connections == [0, 1, 2]
        assert gateway.server.tls.session_stats()["hits"] == 2

    def test_closing_closes_connections_that_an_error_still_holds(self, secure):
        gateway = secure(results(1))
        gateway.call("a", "a.b")
        [(_since, held)] = gateway._sender.transport._connections._idle  # as kept in a traceback
        gateway.close()
        assert held.pool is None

    @pytest.mark.parametrize(
        ("certificate", "bundle", "words"),
        [("right", None, "certificate"), ("wrong", "ca.pem", "mismatch|not valid for")],
    )
    def test_a_certificate_that_fails_is_not_tried_again(self, secure, certificate, bundle, words):
        gateway = secure(results(1), certificate, bundle)
        with pytest.raises(UnreachableError, match=words) as caught:
            gateway.call("a", "a.b")
        assert gateway.statistics.calls == 1
        assert gateway.server.requests == []
        assert not caught.value.sent

    def test_a_bundle_in_the_environment_does_not_replace_the_own_one(self, secure, mail_certificates, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(mail_certificates / "ca.pem"))
        gateway = secure(results(1), bundle="wrong.pem")
        with pytest.raises(UnreachableError):
            gateway.call("a", "a.b")

    def test_a_server_without_tls(self):
        with (
            Server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server,
            Gateway(f"https://127.0.0.1:{server.port}", retries=RetryPolicy(tries=1)) as gateway,
            pytest.raises(UnreachableError, match="TLS"),
        ):
            gateway.call("a", "a.b")

    def test_a_bundle_that_is_not_there(self, tmp_path):
        with pytest.raises(ConfigurationError, match="ca_bundle"):
            Gateway("https://ils.example", ca_bundle=tmp_path / "none.pem")


def test_proxies_of_the_environment_are_not_used_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Server(otherwise=results(1)) as server, connect(server) as gateway:
        assert gateway.call("a", "a.b").value == 1


def test_proxies_of_the_environment_are_used_for_other_machines(monkeypatch):
    with Server(otherwise=results(1)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Gateway("http://ils.example.org", allow_plain_http=True) as gateway:
            assert gateway.call("a", "a.b").value == 1
        assert proxy.requests[0].path == "http://ils.example.org/osrf-gateway-v1"


def test_tls_goes_through_a_proxy(mail_certificates, monkeypatch):
    """The proxy sees no more than the name of the host, and its own answer isn't taken for the server's."""
    asked = []

    def tunnel():
        for _ in range(2):
            line, _address = proxy.accept()
            asked.append(line.recv(65_536))
            far = socket.create_connection(("127.0.0.1", server.port))
            line.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for source, sink in ((line, far), (far, line)):
                threading.Thread(target=pass_on, args=(source, sink), daemon=True).start()

    def pass_on(source, sink):
        with source, suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    monkeypatch.setattr("evergreen_groups.gateway.address.Address.loopback", False)
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        Server(otherwise=results(1), tls=context_of(mail_certificates, "right")) as server,
    ):
        monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        threading.Thread(target=tunnel, daemon=True).start()
        with connect(server, ca_bundle=mail_certificates / "ca.pem") as gateway:
            assert [gateway.call("a", "a.b", write=write).value for write in (False, False, True)] == [1, 1, 1]
        assert server.connections == [0, 0, 1]
    assert all(head.startswith((b"CONNECT localhost:", b"CONNECT 127.0.0.1:")) for head in asked)
    assert all(b"authorization: Basic dXNlcjp3b3Jk" in head for head in asked)
    assert TOKEN.encode() not in b"".join(asked)


ECHOES = {
    "status 401 quoting the token": says(401, f"osrfMethodException : permacrud received a bad auth token: {TOKEN}"),
    "status 500 quoting everything": says(500, f"osrfMethodException : {TOKEN} {PASSWORD} {NAME}"),
    "an event quoting everything": results(event("BAD_PARAMS", "1234", payload=[TOKEN, PASSWORD, NAME])),
    "PERM_FAILURE": results(event("PERM_FAILURE", "5000", payload=[TOKEN, PASSWORD, NAME])),
    "HTML quoting everything": raw(http(f"<html>{TOKEN} {PASSWORD} {NAME}", content_type="text/html")),
    "HTTP 500": http_error(500, headers={"X-Echo": TOKEN}),
    "a header without a name": raw(f"HTTP/1.1 500 Oops\r\n{TOKEN} {PASSWORD}\r\n\r\n".encode(), close=True),
    "a hang-up": hang_up,
    "several results": results(TOKEN, PASSWORD, NAME),
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_no_secret_in_messages_logs_and_raw_answers(answer, caplog):
    caplog.set_level(logging.DEBUG)
    with Server(otherwise=session_server(answer)) as server, connect_as_staff(server) as gateway:
        with pytest.raises(GatewayError) as caught:
            gateway.call("open-ils.actor", "open-ils.actor.thing", TOKEN_PLACE, NAME)
        shown = [repr(gateway), repr(gateway.statistics), repr(gateway.pcrud)]
    error = caught.value
    seen = [str(error), repr(error), error.raw, *shown, *(record.getMessage() for record in caplog.records)]
    assert caplog.records
    assert TOKEN not in caplog.text
    for text in seen:
        assert TOKEN not in text
        assert PASSWORD not in text
    for text in [str(error), *(record.getMessage() for record in caplog.records)]:
        assert NAME not in text


def test_no_secret_in_a_refused_login(caplog):
    caplog.set_level(logging.DEBUG)
    refused = results(event("LOGIN_FAILED", 1000, payload={"password": PASSWORD}))
    with (
        Server(otherwise=refused) as server,
        connect_as_staff(server) as gateway,
        pytest.raises(LoginRefusedError) as caught,
    ):
        gateway.login()
    cause = caught.value.__cause__
    texts = [str(caught.value), caught.value.raw, str(cause), cause.raw, *(it.getMessage() for it in caplog.records)]
    assert all(PASSWORD not in text and "desk" not in text for text in texts)


def test_raw_results_have_the_token_blanked():
    with Server(otherwise=results(logged_in())) as server, connect(server) as gateway:
        result = gateway.call("open-ils.auth", "open-ils.auth.login", {"username": "x", "password": "y"})
    assert result.value["payload"]["authtoken"] == TOKEN
    assert TOKEN not in result.raw
    assert "*" * 32 in result.raw


def test_a_token_of_another_form_is_blanked_once_it_is_known():
    token = "other/form of a token"

    def answer(line, request):
        results(logged_in(token) if request.osrf_method == "open-ils.auth.login" else f"for {token}")(line, request)

    with Server(otherwise=answer) as server, connect_as_staff(server) as gateway:
        result = gateway.call("open-ils.actor", "open-ils.actor.thing", TOKEN_PLACE)
    assert result.value == f"for {token}"
    assert token not in result.raw


def test_reprs_hide_what_is_secret():
    credentials = Credentials(barcode="29999000000001", password=PASSWORD, workstation="BR1-desk")
    with Gateway("https://ils.example", token=TOKEN) as gateway:
        shown = repr([credentials, gateway, gateway._session, gateway._sender.redactor])
    assert PASSWORD not in shown
    assert "29999000000001" not in shown
    assert TOKEN not in shown


class TestBlanking:
    def test_every_form_of_a_secret(self):
        redactor = Redactor()
        redactor.learn('p"w/ü')
        text = redactor.redact('x p"w/ü, "p\\"w/\\u00fc", p%22w%2F%C3%BC x')
        assert set(text) <= set('x*, "')

    def test_a_secret_at_the_cut_is_not_left_in_part(self):
        redactor = Redactor()
        redactor.learn(PASSWORD)
        for start in range(3980, 4000):
            assert not redactor.raw(b"." * start + PASSWORD.encode()).rstrip("*").rstrip(".")

    def test_text_without_secrets_stays(self):
        text = '{"payload":[4711,"20261124T2224110000000000000000000000"],"status":200}'
        assert Redactor().redact(text) == text

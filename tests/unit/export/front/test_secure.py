"""A real front with TLS, client certificates and passwords, whose files change."""

from __future__ import annotations

import base64
import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.certificates import Authority
from tests.fake_front import Served
from tests.waiting import Deadline


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


CONFIG = """
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, 127.0.0.9]
http_server_config: {headers: {X-Frame-Options: deny}}
basic_auth_users: {scraper: %s}
"""


class Secured:
    """The front and its clients."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "web.yml"
        self.authority = Authority(directory)
        self.authority.issue("server", "IP:127.0.0.1")
        self.good = self.authority.issue("good", "DNS:prometheus.example")
        self.other = self.authority.issue("other", "DNS:other.example")
        self.stranger = Authority(directory, "stranger").issue("s", "DNS:prometheus.example")
        self.config.write_text(CONFIG % hashed(b"right"))
        self.served = Served(web_config_file=self.config)

    def get(
        self, certificate: tuple[Path, Path] | None, password: str | None = "right"
    ) -> http.client.HTTPResponse:
        """Ask for readiness over TLS."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        client = http.client.HTTPSConnection(
            "127.0.0.1", self.served.port, timeout=600, context=context
        )
        headers = {}
        if password is not None:
            word = base64.b64encode(f"scraper:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {word}"
        try:
            client.request("GET", "/metrics", headers=headers)
            answer = client.getresponse()
            self.body = answer.read().decode()
            return answer
        finally:
            client.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"))
    with made.served:
        yield made


def test_the_right_client_with_the_right_password(secured: Secured) -> None:
    answer = secured.get(secured.good)
    assert answer.status == 200
    assert answer.headers["X-Frame-Options"] == "deny"
    assert "ksmwatch_web_config_valid 1.0" in secured.body


@pytest.mark.parametrize("password", [None, "wrong", "", "right\0", "x" * 1000])
def test_without_the_password_nothing_is_said(secured: Secured, password: str | None) -> None:
    answer = secured.get(secured.good, password)
    assert (answer.status, secured.body) == (401, "A user and a password are needed.\n")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="ksmwatch"'
    assert answer.headers["X-Frame-Options"] == "deny"


def test_other_certificates_are_not_let_in(secured: Secured) -> None:
    failures = (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)
    for certificate in (None, secured.stranger, secured.other):
        with pytest.raises(failures):
            secured.get(certificate)


def test_without_tls_there_is_nothing(secured: Secured) -> None:
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        secured.served.get("/")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = Deadline(600)
    while not condition():
        assert not deadline.passed
        time.sleep(0.1)


def test_changes_are_in_force_for_the_next_request(secured: Secured) -> None:
    secured.config.write_text("nonsense: true")
    wait_for(
        lambda: (
            secured.get(secured.good).status == 200
            and "ksmwatch_web_config_valid 0.0" in secured.body
        )
    )
    secured.config.write_text(CONFIG % hashed(b"new"))
    wait_for(lambda: secured.get(secured.good, "new").status == 200)
    # Also for a client that was let in before.
    assert secured.get(secured.good, "right").status == 401
    secured.config.write_text("")
    wait_for(lambda: served_plainly(secured))


def served_plainly(secured: Secured) -> bool:
    try:
        return secured.served.get("/-/ready")[0] == 200
    except (ConnectionError, http.client.BadStatusLine):
        return False

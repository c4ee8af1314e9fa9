"""The web configuration: what is accepted, what is refused, and files that change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.errors import ConfigError
from ksmwatch.export.tls import make_context
from ksmwatch.export.web_config import WebConfig
from ksmwatch.export.web_config_watch import WebFiles, load
from ksmwatch.log import logger
from tests.certificates import Authority

HASH = "$2b$04$O/o58yamymuZU214gy/uS.3OVRmIvU0KcyjXMzV1zLjCLDAkv0yfa"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With ca.crt, server.crt and server.key."""
    made = tmp_path_factory.mktemp("certificates")
    Authority(made).issue("server", "DNS:localhost")
    return made


def write(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    return path


SERVER = "cert_file: server.crt\n  key_file: server.key"
WHOLE = f"""
tls_server_config:
  {SERVER}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP256]
  prefer_server_cipher_suites: true
http_server_config:
  http2: true
  headers:
    X-Frame-Options: deny
    X-XSS-Protection: ""
basic_auth_users:
  prometheus: {HASH}
"""


def test_all_that_is_understood(directory: Path) -> None:
    made = load(write(directory, WHOLE))
    assert made.tls is not None
    assert made.tls.certificate == (directory / "server.crt").read_bytes()
    assert made.tls.client_allowed_sans == ("prometheus.example",)
    assert made.headers == {"X-Frame-Options": "deny"}
    assert made.users == {"prometheus": HASH}
    context = make_context(made.tls)
    assert context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    old = {c["name"] for c in context.get_ciphers() if not c["name"].startswith("TLS_")}
    assert old == {"ECDHE-ECDSA-AES128-GCM-SHA256"}


@pytest.mark.parametrize("text", ["", "{}", "tls_server_config:\n"])
def test_an_empty_file_is_no_tls_and_no_users(directory: Path, text: str) -> None:
    assert load(write(directory, text)) == WebConfig()


def test_material_may_stand_in_the_file_itself(directory: Path) -> None:
    lines = ["tls_server_config:"]
    for key, name in (("cert", "server.crt"), ("key", "server.key")):
        lines += [f"  {key}: |", *(f"    {x}" for x in (directory / name).read_text().split("\n"))]
    assert load(write(directory, "\n".join(lines))).tls is not None


TLS = f"tls_server_config:\n  {SERVER}\n  "


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("[]", "it must be a mapping"),
        ("tls_config: {}", "there is no setting 'tls_config'"),
        ("rate_limit: {burst: 1}", "rate_limit is not supported; see --web.max-requests"),
        ("tls_server_config: {}", "tls_server_config needs cert_file and key_file"),
        (TLS + "cert: x", "tls_server_config.cert and tls_server_config.cert_file cannot be"),
        (TLS + "tickets: no", "there is no setting 'tls_server_config.tickets'"),
        (TLS + "min_version: SSL3", "'SSL3' must be one of TLS10, TLS11, TLS12, TLS13"),
        (TLS + "client_auth_type: RequestClientCert", "use RequireAndVerifyClientCert"),
        (TLS + "client_auth_type: Yes please", "'Yes please' must be one of NoClientCert,"),
        (TLS + "client_auth_type: RequireAndVerifyClientCert", "needs client_ca_file"),
        (TLS + "client_ca_file: ca.crt", "a client CA needs client_auth_type"),
        (TLS + "client_allowed_sans: [a]", "needs RequireAndVerifyClientCert"),
        (TLS + "client_allowed_sans: [1]", "client_allowed_sans must be a list of strings"),
        (TLS + "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "is not supported"),
        (TLS + "curve_preferences: [X25519, CurveP256]", "Python's ssl takes a single curve"),
        ("http_server_config: {http3: true}", "there is no setting 'http_server_config.http3'"),
        ("http_server_config: {headers: {X-Mine: a}}", "no setting 'http_server_config.headers."),
        ('http_server_config: {headers: {X-Frame-Options: "a\\r\\nb"}}', "must be one line of"),
        ("basic_auth_users: {a: secret}", "the password of 'a' is not a bcrypt hash"),
        ("basic_auth_users: {a: 1}", "basic_auth_users.a must be a string"),
        ("a: [", "it is not YAML: "),
        ("tls_server_config: {cert_file: ca.crt, key_file: server.key}", "values mismatch"),
        ("tls_server_config: {cert: x, key_file: server.key}", "tls_server_config: "),
    ],
)
def test_what_is_refused_is_refused_with_a_sentence(
    directory: Path, text: str, clause: str
) -> None:
    path = write(directory, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert clause in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "why"),
    [("none.crt", "cannot be read: No such file or directory"), (".", "is not a regular file")],
)
def test_a_file_that_cannot_be_read_is_named(directory: Path, name: str, why: str) -> None:
    path = write(directory, f"tls_server_config: {{cert_file: {name}, key_file: server.key}}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{directory / name} {why}."


def look(files: WebFiles) -> bool:
    """As often as it takes to take a change."""
    return files.look() or files.look()


def test_a_file_that_is_being_rewritten_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    files = WebFiles(write(tmp_path, f"basic_auth_users: {{a: {HASH}}}"))
    write(tmp_path, "")
    assert not files.look()
    write(tmp_path, f"basic_auth_users: {{b: {HASH}}}")
    assert not files.look()
    assert files.current.users == {"a": HASH}
    assert files.look()
    assert files.current.users == {"b": HASH}


def test_changes_are_taken_and_bad_ones_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logger, "error", lambda text, extra: told.append((text, extra)))
    monkeypatch.setattr(logger, "info", lambda text, extra: told.append((text, extra)))
    path = write(tmp_path, f"basic_auth_users: {{a: {HASH}}}")
    files = WebFiles(path)
    first = files.current
    assert not look(files)
    for text in ("basic_auth_users: {a: secret}", "basic_auth_users: {a: another}"):
        write(tmp_path, text)
        assert [look(files) for _ in range(3)] == [False] * 3
        assert (files.valid, files.current) == (False, first)
    path.unlink()
    assert not look(files)
    # One line for each change.
    assert len(told) == 3
    assert told[2][1]["why"] == f"{path} cannot be read: No such file or directory."
    write(tmp_path, f"basic_auth_users: {{b: {HASH}}}")
    assert look(files)
    assert (files.valid, files.current.users) == (True, {"b": HASH})
    assert len(told) == 4


def test_a_certificate_that_is_renewed_is_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "DNS:localhost")
    files = WebFiles(write(tmp_path, f"tls_server_config:\n  {SERVER}\n"))
    assert not look(files)
    # Of a key without its certificate there is nothing to be had; in the end both are new.
    certificate, key = Authority(tmp_path, "other").issue("new", "DNS:localhost")
    key.rename(tmp_path / "server.key")
    assert not look(files)
    assert not files.valid
    certificate.rename(tmp_path / "server.crt")
    assert look(files)
    assert files.valid

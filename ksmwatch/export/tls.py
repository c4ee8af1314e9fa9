"""Turns a configuration into a context of Python's ssl, and so checks it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from ksmwatch.errors import ConfigError
from ksmwatch.export.web_config import Tls

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def make_context(tls: Tls) -> ssl.SSLContext:
    """A server's context. Raises ConfigError, with a clause as its message."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        _fill(context, tls)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"tls_server_config: {_words(error)}") from error
    return context


def _fill(context: ssl.SSLContext, tls: Tls) -> None:
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    with _file(tls.certificate) as certificate, _file(tls.key) as key:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    if tls.client_ca is not None:
        context.load_verify_locations(cadata=tls.client_ca.decode("ascii"))
    context.verify_mode = _CLIENT_AUTH[tls.client_auth]
    if tls.ciphers is not None:
        context.set_ciphers(tls.ciphers)
    if tls.curve is not None:
        context.set_ecdh_curve(tls.curve)
    if tls.prefer_own_order:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    """A path where OpenSSL finds these bytes: it loads keys only from files."""
    descriptor = os.memfd_create("ksmwatch-pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _words(error: Exception) -> str:
    """OpenSSL's reason, without the location in its source."""
    if isinstance(error, UnicodeDecodeError):
        return "client_ca is not PEM"
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)

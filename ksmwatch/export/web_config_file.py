"""The file of `--web.config.file`, in the format of the Prometheus project's exporters.

A setting that cannot be supported is refused with a sentence, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from ksmwatch.errors import ConfigError
from ksmwatch.export.web_config import Tls, WebConfig

_VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
# Go's names. Python's ssl cannot ask for a certificate without verifying it.
_CLIENT_AUTH = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")
# Up to TLS 1.2, by IANA's names, which Go uses, and OpenSSL's.
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
# TLS 1.3 suites cannot be chosen, as in Go.
_TLS13_CIPHERS = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_HEADERS = (
    *("Content-Security-Policy", "X-Frame-Options", "X-Content-Type-Options"),
    *("X-XSS-Protection", "Strict-Transport-Security"),
)
_BCRYPT = re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}")
_TLS_KEYS = (
    *("cert", "cert_file", "key", "key_file", "client_auth_type", "client_ca", "client_ca_file"),
    *("client_allowed_sans", "min_version", "max_version", "cipher_suites", "curve_preferences"),
    "prefer_server_cipher_suites",
)


def parse(text: str, read: Callable[[str], bytes]) -> WebConfig:
    """Parse the file's text; `read` reads a file that it names. Raises ConfigError, OSError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # PyYAML's message has several lines.
        raise ConfigError(f"it is not YAML: {' '.join(str(error).split())}") from error
    whole = _Table("", {} if document is None else document)
    if whole.get("rate_limit", dict) is not None:
        raise ConfigError("rate_limit is not supported; see --web.max-requests")
    whole.only("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    return WebConfig(tls=_tls(whole, read), headers=_headers(whole), users=_users(whole))


class _Table:
    """A mapping in the file, whose values are taken by type."""

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{name or 'it'} must be a mapping")
        self._name = name
        self._values = values

    def path(self, key: str) -> str:
        """The name of a key for the user."""
        return f"{self._name}.{key}" if self._name else key

    def only(self, *known: str) -> None:
        """Refuse unknown keys."""
        for key in self._values:
            if key not in known:
                raise ConfigError(f"there is no setting {self.path(key)!r}")

    def get(self, key: str, kind: type) -> Any:
        """A value of this type, or None."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{self.path(key)} must be of type {kind.__name__}")
        return value

    def table(self, key: str) -> _Table | None:
        """A mapping below this one."""
        value = self._values.get(key)
        return None if value is None else _Table(self.path(key), value)

    def names(self, key: str) -> list[str]:
        """A list of strings."""
        value = self.get(key, list) or []
        if not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{self.path(key)} must be a list of strings")
        return value

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of several words."""
        name: str = self.get(key, str) or default
        if name not in known:
            raise ConfigError(f"{self.path(key)}: {name!r} must be one of {', '.join(known)}")
        return name

    def items(self) -> dict[str, str]:
        """The whole mapping, as strings."""
        for key, value in self._values.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ConfigError(f"{self.path(str(key))} must be a string")
        return dict(self._values)


def _material(table: _Table, key: str, read: Callable[[str], bytes]) -> bytes | None:
    """PEM from the file itself or from another file."""
    inline, path = table.get(key, str), table.get(f"{key}_file", str)
    if inline and path:
        raise ConfigError(f"{table.path(key)} and {table.path(key)}_file cannot be combined")
    return inline.encode() if inline else read(path) if path else None


def _tls(whole: _Table, read: Callable[[str], bytes]) -> Tls | None:
    table = whole.table("tls_server_config")
    if table is None:
        return None
    table.only(*_TLS_KEYS)
    certificate, key = _material(table, "cert", read), _material(table, "key", read)
    if certificate is None or key is None:
        raise ConfigError("tls_server_config needs cert_file and key_file")
    authority = _material(table, "client_ca", read)
    sans = tuple(table.names("client_allowed_sans"))
    prefer = table.get("prefer_server_cipher_suites", bool)
    return Tls(
        certificate,
        key,
        client_auth=_client_auth(table, authority, sans),
        client_ca=authority,
        client_allowed_sans=sans,
        min_version=table.choice("min_version", _VERSIONS, "TLS12"),
        max_version=table.choice("max_version", _VERSIONS, "TLS13"),
        ciphers=_ciphers(table),
        curve=_curve(table),
        prefer_own_order=prefer is not False,
    )


def _client_auth(table: _Table, authority: bytes | None, sans: tuple[str, ...]) -> str:
    name = table.get("client_auth_type", str)
    if name in _UNVERIFIED:
        raise ConfigError(
            f"{table.path('client_auth_type')}: {name} is not supported, as Python's ssl accepts "
            "no certificate unverified; use RequireAndVerifyClientCert"
        )
    name = table.choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")
    if name != "NoClientCert" and authority is None:
        raise ConfigError(f"{table.path('client_auth_type')}: {name} needs client_ca_file")
    if name == "NoClientCert" and authority is not None:
        raise ConfigError("a client CA needs client_auth_type")
    if sans and name != "RequireAndVerifyClientCert":
        raise ConfigError("client_allowed_sans needs RequireAndVerifyClientCert")
    return name


def _ciphers(table: _Table) -> str | None:
    names = [n for n in table.names("cipher_suites") if n not in _TLS13_CIPHERS]
    for name in names:
        if name not in _CIPHERS:
            raise ConfigError(f"{table.path('cipher_suites')}: {name!r} is not supported")
    return ":".join(_CIPHERS[name] for name in names) or None


def _curve(table: _Table) -> str | None:
    names = table.names("curve_preferences")
    if not names:
        return None
    if len(names) > 1 or names[0] not in _CURVES:
        raise ConfigError(
            f"{table.path('curve_preferences')} must be one of {', '.join(_CURVES)}: Python's ssl "
            "takes a single curve"
        )
    return _CURVES[names[0]]


def _headers(whole: _Table) -> dict[str, str]:
    table = whole.table("http_server_config")
    if table is None:
        return {}
    table.only("http2", "headers")
    # Accepted either way: the server speaks HTTP/1.1.
    table.get("http2", bool)
    headers = table.table("headers")
    if headers is None:
        return {}
    headers.only(*_HEADERS)
    found = {name: value for name, value in headers.items().items() if value}
    for name, value in found.items():
        if not value.isprintable():
            raise ConfigError(f"{headers.path(name)} must be one line of printable characters")
    return found


def _users(whole: _Table) -> dict[str, str]:
    table = whole.table("basic_auth_users")
    found = {} if table is None else table.items()
    for name, value in found.items():
        if not _BCRYPT.fullmatch(value):
            raise ConfigError(f"basic_auth_users: the password of {name!r} is not a bcrypt hash")
    return found

"""The web configuration as passed to a front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tls:
    """TLS settings, by Go's names. `certificate`, `key` and `client_ca` are PEM."""

    certificate: bytes
    key: bytes
    client_auth: str = "NoClientCert"
    client_ca: bytes | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    # These two by OpenSSL's names; None for its defaults.
    ciphers: str | None = None
    curve: str | None = None
    prefer_own_order: bool = True


@dataclass(frozen=True)
class WebConfig:
    """TLS or none, headers of every answer, bcrypt hashes by user (none: everyone is allowed)."""

    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

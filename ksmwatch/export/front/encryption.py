"""TLS of clients' connections.

Only fronts with a web configuration import this, because OpenSSL takes 4 MB.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from ksmwatch.export.front.connection import HandshakeError
from ksmwatch.export.tls import make_context
from ksmwatch.export.web_config import Tls


class Encryption:
    """The TLS of new connections."""

    def __init__(self, tls: Tls) -> None:
        self._context = make_context(tls)
        # A client's certificate must have one of them (SAN); without any, none is needed.
        self._allowed_names = tls.client_allowed_sans

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """A connection that still needs a handshake. Raises OSError if the client is gone."""
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def shake_hands(self, sock: ssl.SSLSocket) -> None:
        """Let the client in. Raises HandshakeError, and OSError if it is gone or too slow."""
        try:
            sock.do_handshake()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # A port check does the same.
            raise
        except ssl.SSLError as error:
            raise HandshakeError("tls", str(error)) from error
        if self._allowed_names:
            certificate: dict[str, Any] = sock.getpeercert() or {}
            names = {name for _, name in certificate.get("subjectAltName", ())}
            if names.isdisjoint(self._allowed_names):
                raise HandshakeError("certificate", "its certificate has another name")

"""Certificates for tests, made by openssl: an authority, servers and clients."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Signs in a directory of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self.certificate, self._key = directory / f"{name}.crt", directory / f"{name}.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def issue(self, name: str, san: str) -> tuple[Path, Path]:
        """A certificate and key with this alternative name, in openssl's notation."""
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        request = self._directory / f"{name}.csr"
        _openssl(
            *("req", *_NEW_KEY, "-subj", f"/CN={name}", "-addext", f"subjectAltName={san}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-copy_extensions", "copy", "-days", "2"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-out", str(certificate)),
        )
        return certificate, key


# Quick to make, also under emulation.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, stderr=subprocess.DEVNULL)

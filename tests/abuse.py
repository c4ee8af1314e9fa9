"""Checks that clients can do no harm to a front, and that good clients are served meanwhile.

    python -m tests.abuse [REQUESTS]

With a number, it sends this many bad requests (`make test-abuse`: 10,000). The daemon behind the
front is invented; the front is the real one, with TLS and passwords.
"""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import ssl
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from ksmwatch import config, log
from ksmwatch.export.front.complaints import KINDS
from tests.certificates import Authority
from tests.fake_front import Served
from tests.waiting import wait_until

# What Prometheus gives a scrape by default.
SCRAPE_SECONDS = 600.0
_OPEN_AT_ONCE = 500

_LIMIT = config.make({}, {}).web_max_connections
_THREADS = 8
_CONFIG = """
tls_server_config: {{cert_file: server.crt, key_file: server.key}}
basic_auth_users: {{scraper: {hash}}}
"""


def _header(password: str) -> bytes:
    word = base64.b64encode(f"scraper:{password}".encode())
    return b"Authorization: Basic " + word + b"\r\n"


GOOD = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + _header("right") + b"\r\n"


class Site:
    """A front with TLS and a password, and what is known about its process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.authority.issue("server", "IP:127.0.0.1")
        self.config = directory / "web.yml"
        self.text = _CONFIG.format(hash=bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode())
        self.config.write_text(self.text)
        self.context = ssl.create_default_context(cafile=str(self.authority.certificate))
        self.served: Served

    def connect(self) -> socket.socket:
        """A connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.served.port), timeout=600)

    def secure(self) -> ssl.SSLSocket:
        """A connection with it."""
        return self.context.wrap_socket(self.connect(), server_hostname="127.0.0.1")

    def scrape(self) -> dict[str, float]:
        """The page that the scraper gets."""
        with self.secure() as client:
            client.settimeout(SCRAPE_SECONDS)
            client.sendall(GOOD)
            head, _, body = _everything(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        lines = (line.rpartition(" ") for line in body.decode().splitlines() if line[:1] != "#")
        return {name: float(value) for name, _, value in lines}


def _everything(client: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionError, ssl.SSLError):
        while more := client.recv(65536):
            data += more
    return data


# ---- bad requests ----


def _say(site: Site, text: bytes) -> bytes:
    with site.secure() as client:
        # The front may have closed before it has read everything.
        with suppress(ConnectionError, ssl.SSLError):
            client.sendall(text)
        return _everything(client)


def _malformed(site: Site) -> None:
    assert _say(site, b"\xff\x00 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def _huge_headers(site: Site) -> None:
    assert _say(site, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000) == b""


def _huge_body(site: Site) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n" + _header("right")
    assert _say(site, head + b"\r\n").startswith(b"HTTP/1.1 400 ")


def _wrong_password(site: Site) -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + _header("wrong")
    assert _say(site, head + b"\r\n").startswith(b"HTTP/1.1 401 ")


def _other_method(site: Site) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
    assert _say(site, head + _header("right") + b"\r\nab").startswith(b"HTTP/1.1 405 ")


def _no_tls(site: Site) -> None:
    with site.connect() as client:
        client.sendall(GOOD)
        assert b"200 OK" not in _everything(client)


def _bad_tls(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff")
        _everything(client)


# By the kind that each is counted as.
BAD: tuple[tuple[str, Callable[[Site], None]], ...] = (
    ("malformed", _malformed),
    ("malformed", _huge_body),
    ("too_large", _huge_headers),
    ("unauthorized", _wrong_password),
    ("method", _other_method),
    ("tls", _no_tls),
    ("tls", _bad_tls),
)


def send_bad(site: Site, each: int) -> None:
    """So many requests of every kind, several at a time."""
    attacks = [attack for _, attack in BAD for _ in range(each)]
    random.Random(1).shuffle(attacks)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda attack: attack(site), attacks))


def open_many(site: Site) -> None:
    """Connections at once that say nothing, or half a request; a good scrape comes through."""
    clients = [site.connect() for _ in range(_OPEN_AT_ONCE)]
    for client in clients[::2]:
        with suppress(ConnectionError):
            client.sendall(b"\x16\x03\x01")
    site.scrape()
    for client in clients:
        client.close()


def be_slow(site: Site) -> None:
    """Send headers one byte at a time, until the front closes."""
    with site.secure() as client, suppress(ConnectionError, ssl.SSLError):
        client.settimeout(0.5)
        while True:
            client.sendall(b"G")
            with suppress(TimeoutError):
                if not client.recv(1):
                    return


def _until_valid(site: Site, valid: float) -> None:
    wait_until(
        lambda: site.scrape()["ksmwatch_web_config_valid"] == valid,
        f"the configuration is never {'valid' if valid else 'invalid'}",
        every=0.2,
    )


def change_files(site: Site) -> int:
    """Break and repair the front's configuration; returns how often."""
    certificate, away = site.directory / "server.crt", site.directory / "away"
    steps: tuple[tuple[Callable[[], object], Callable[[], object]], ...] = (
        (lambda: site.config.write_text("basic_auth_users: ["), lambda: None),
        (lambda: site.config.write_text("basic_auth_users: {scraper: plain}"), lambda: None),
        (lambda: certificate.rename(away), lambda: away.rename(certificate)),
        (lambda: os.truncate(certificate, 100), lambda: None),
    )
    pem = certificate.read_bytes()
    for breaks, mends in steps:
        breaks()
        _until_valid(site, 0)
        mends()
        certificate.write_bytes(pem)
        site.config.write_text(site.text)
        _until_valid(site, 1)
    return len(steps)


# ---- the good client, and what is left ----


@contextmanager
def scraping(site: Site) -> Iterator[None]:
    """A scraper that runs meanwhile; it must get every answer, in time."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            # At least once, however soon the rest is over.
            assert site.scrape()["ksmwatch_mappings"] == 100
            while not stop.wait(0.2):
                assert site.scrape()["ksmwatch_mappings"] == 100
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise AssertionError("the good scraper failed") from failures[0]


@dataclass(frozen=True)
class Footprint:
    """The resources of a front. `resident`: KiB."""

    descriptors: int
    resident: int


def _status(site: Site) -> dict[str, int]:
    text = Path(f"/proc/{site.served.pid}/status").read_text()
    found = dict(line.split(":\t") for line in text.splitlines())
    return {name: int(found[name].split()[0]) for name in ("Threads", "VmRSS")}


def footprint(site: Site) -> Footprint:
    """When no client but this one is connected any more, and this one has gone, too."""
    wait_until(
        lambda: site.scrape()["ksmwatch_http_connections"] <= 1, "connections are left", every=1.1
    )
    # Each client has one, and a spare one waits for the next.
    wait_until(lambda: _status(site)["Threads"] <= 2, "threads are left")
    descriptors = list(Path(f"/proc/{site.served.pid}/fd").iterdir())
    return Footprint(descriptors=len(descriptors), resident=_status(site)["VmRSS"])


# An allocator's noise; at 10,000 requests, of which half count here, 200 bytes each.
_GROWTH_KIB = 1024


def run(site: Site, requests: int) -> dict[str, object]:
    """All of it. Raises AssertionError."""
    each = max(1, requests // len(BAD) // 2)
    first = footprint(site)
    pid = site.served.pid
    with scraping(site):
        send_bad(site, each)
        open_many(site)
        with ThreadPoolExecutor(20) as pool:
            slow = [pool.submit(be_slow, site) for _ in range(20)]
            changes = change_files(site)
            for each_slow in slow:
                each_slow.result()
    middle = footprint(site)
    with scraping(site):
        send_bad(site, each)
    last = footprint(site)
    with scraping(site):
        open_many(site)
    assert footprint(site).descriptors == first.descriptors
    found = site.scrape()
    counts = {k: found[f'ksmwatch_http_complaints_total{{kind="{k}"}}'] for k in KINDS}
    sent = Counter(dict.fromkeys(KINDS, 0))
    for kind, _ in BAD:
        sent[kind] += 2 * each
    assert last.descriptors == first.descriptors
    assert last.resident < middle.resident + _GROWTH_KIB, (first, middle, last)
    for kind in ("malformed", "too_large", "unauthorized", "method"):
        assert counts[kind] == sent[kind], (kind, counts, sent)
    assert counts["tls"] >= sent["tls"]
    assert counts["slow"] >= 20
    assert counts["connections"] >= _OPEN_AT_ONCE - _LIMIT
    assert counts["failed"] == 0
    assert (site.served.pid, site.served.losses) == (pid, Counter())
    return {
        "complaints": counts,
        "changes": changes,
        "footprints": [vars(each) for each in (first, middle, last)],
    }


def main() -> None:
    """Run it; the result is one JSON object, the log is on stderr."""
    requests = int(sys.argv[1]) if sys.argv[1:] else 10_000
    log.configure("info", "json")
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory))
        with Served(web_config_file=site.config, log_format="json") as site.served:
            print(json.dumps(run(site, requests)))


if __name__ == "__main__":
    main()

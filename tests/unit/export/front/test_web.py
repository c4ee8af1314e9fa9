"""A real front for an invented host: HTTP, its privileges, its death and its end."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import backoff, config, systemd
from ksmwatch.errors import ConfigError, ListenError
from ksmwatch.export import front_keeper
from ksmwatch.export.front import web
from ksmwatch.export.front_channel import LENGTH, QUESTION, Answer
from ksmwatch.export.fronts import listen, sockets, user_of
from ksmwatch.log import logger
from ksmwatch.option_values import Address
from tests.fake_front import Served
from tests.guests import ROOT
from tests.page.hosts import Remembered
from tests.slowness import patience
from tests.waiting import Deadline


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as made:
        yield made


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when something is the case; it is a matter of scheduling, not of speed."""
    deadline = Deadline(600)
    while not condition():
        assert not deadline.passed
        time.sleep(0.01)


def test_get_and_head_and_nothing_else(served: Served) -> None:
    status, text = served.get("/-/ready")
    assert (status, text) == (200, "ksmwatch is ready.\n")
    client = served.client()
    client.request("HEAD", "/-/ready")
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(text))
    # And the connection is good for another request.
    client.request("DELETE", "/-/ready")
    answer = client.getresponse()
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    client.close()


def test_a_scrape_is_about_the_host_the_daemon_and_the_front(served: Served) -> None:
    served.get("/nothing")
    # The answer of a second ago does not know of it.
    wait_for(lambda: served.samples().get('ksmwatch_http_requests_total{code="404"}') == 1)
    found = served.samples()
    assert found["ksmwatch_mappings"] == 100
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["ksmwatch_front_resident_memory_bytes"] > 1 << 20
    assert found["process_start_time_seconds"] < found["ksmwatch_front_start_time_seconds"]
    assert found["ksmwatch_http_connections"] == 1


def test_what_is_no_http_is_answered_and_counted(served: Served) -> None:
    for text, begins in (
        (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        # A client that sends for ever gets no answer.
        (b"GET / HTTP/1.1\r\nX: " + 100_000 * b"x", b""),
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=600) as client:
            client.sendall(text)
            assert everything(client).startswith(begins)
    kinds = ("malformed", "too_large")
    wait_for(
        lambda: all(
            served.samples()[f'ksmwatch_http_complaints_total{{kind="{kind}"}}'] == 1
            for kind in kinds
        )
    )


def everything(client: socket.socket) -> bytes:
    """What comes until the other side closes, which it may do in the middle of our sending."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def test_a_front_has_no_privilege(served: Served) -> None:
    # Before it answers, it may be on its way to that.
    assert served.get("/-/ready")[0] == 200
    pid = served.pid
    lines = (line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = dict(lines)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    # A filter, not the strict mode.
    assert status["Seccomp"] == "2"
    user = user_of("nobody")
    if user is not None:
        assert int(status["CapBnd"], 16) == 0
        assert status["Uid"].split() == [str(user[0])] * 4
        assert status["Gid"].split() == [str(user[1])] * 4
        assert status["Groups"].split() == []
    # Only its own standard streams, channel, listener and event loop.
    targets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [target for target in targets if "bpf" in target or "/proc" in target]


def test_a_front_that_dies_is_counted_and_another_one_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "error", lambda text, extra: errors.append(extra))
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.01)
    with Served() as served:
        assert served.get("/-/ready")[0] == 200
        first = served.pid
        os.kill(first, signal.SIGKILL)
        # A client that connects meanwhile waits until the next front runs.
        assert served.get("/-/ready")[0] == 200
        second = served.pid
        assert first != second
        assert served.losses == {"front_lost": 1}
        assert errors == [{"task": "web", "how": "signal 9", "next_in_seconds": 0.01}]
    assert served.keeper.pid is None
    assert not Path(f"/proc/{second}").exists()


def test_a_front_that_was_restarted_has_the_whole_last_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.01)
    with Served(make=Remembered()) as served:
        pages = []
        for _ in range(2):
            assert served.get()[0] == 200
            pages.append(served.get("/?refresh=off")[1])
            os.kill(served.pid, signal.SIGKILL)
        for page in pages:
            assert page.count("line of the last 59 minutes") == 4
            assert "The points are those of the history." in page


def test_a_front_ends_with_the_daemon_and_not_by_signals_to_all() -> None:
    with Served() as served:
        assert served.get("/-/ready")[0] == 200
        pid = served.pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        assert served.get("/-/ready")[0] == 200
    assert not Path(f"/proc/{pid}").exists()
    assert served.losses == {}


def test_before_the_baseline_a_scrape_waits() -> None:
    with Served(ready=False) as served:
        assert served.get("/-/ready") == (503, "The baseline is not done.\n")
        assert served.get("/-/healthy")[0] == 200
        answers: list[tuple[int, str]] = []
        scrape = threading.Thread(target=lambda: answers.append(served.get()))
        scrape.start()
        served.get_ready()
        scrape.join()
        assert answers[0][0] == 200


def test_nobody_can_make_the_daemon_hurry() -> None:
    """A front that was taken over gets no snapshot that is younger than a second."""
    asked: list[float] = []
    ours, theirs = socket.socketpair()
    with ours, theirs, Served() as served:

        def answer(age: float) -> Answer:
            asked.append(age)
            if len(asked) == 4:
                raise EOFError
            return Answer(0.0, [])

        monkey = front_keeper.Keeper(served.keeper._begin, answer, served.losses)
        for age in (0.0, -1e9, float("nan"), 7.0):
            theirs.sendall(QUESTION.pack(age, 0))
        monkey._converse(ours)
        assert asked == [1.0, 1.0, 1.0, 7.0]
        assert len(theirs.recv(LENGTH.size)) == LENGTH.size


def test_a_port_that_is_taken(served: Served) -> None:
    with pytest.raises(ListenError) as caught:
        listen(Address("127.0.0.1", served.port))
    assert str(caught.value) == (
        f"Cannot listen on 127.0.0.1:{served.port}: Address already in use."
    )


def test_an_empty_host_is_every_address() -> None:
    with listen(Address("", 0)) as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            socket.create_connection((host, port), timeout=600).close()


class Manager(systemd.Manager):
    """Passes descriptors by these names."""

    def __init__(self, *passed: tuple[str, int]) -> None:
        super().__init__({})
        self._passed = list(passed)


def test_sockets_that_systemd_passes_are_served_and_nothing_else_is_taken() -> None:
    settings = config.make({}, {"web_systemd_socket": "true"})
    with listen(Address("127.0.0.1", 0)) as first, listen(Address("127.0.0.1", 0)) as second:
        manager = Manager(
            ("map-accounts", 1000),
            ("ksmwatch.socket", first.detach()),
            ("ksmwatch.socket", second.detach()),
        )
        found = sockets(settings, manager)
        assert len(found) == 2
        for sock in found:
            socket.create_connection(sock.getsockname(), timeout=600).close()
            sock.close()
        assert manager.take_passed("map-") == [("map-accounts", 1000)]
    with pytest.raises(ListenError) as caught:
        sockets(settings, Manager(("map-accounts", 1000)))
    assert str(caught.value) == "--web.systemd-socket: systemd did not pass ksmwatch.socket."
    local = socket.socket(socket.AF_UNIX)
    with pytest.raises(ListenError) as caught:
        sockets(settings, Manager(("ksmwatch.socket", local.detach())))
    assert str(caught.value) == "--web.systemd-socket: ksmwatch.socket may only have TCP ports."


def test_a_user_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError) as caught:
        user_of("no such user")
    assert str(caught.value) == "--web.user: there is no user 'no such user'."
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_of("no such user") is None


def test_other_series_are_shown_as_soon_as_they_are_asked_for() -> None:
    def shown(served: Served) -> bool:
        return any(name.startswith("ksmwatch_owner_mappings{") for name in served.samples())

    with Served(owners_top=0) as served:
        assert not shown(served)
        served.settings = config.make({"owners.top": 5}, {})
        # The answer of a second ago does not know of it.
        wait_for(lambda: shown(served))


@pytest.mark.parametrize(("limit", "room"), [(1024, 256), (100, 36), (64, 1), (40, 1)])
def test_a_low_limit_of_descriptors_leaves_room_for_one_connection(
    monkeypatch: pytest.MonkeyPatch, limit: int, room: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert web._room(256) == room


ASK = """
from tests.fake_front import Served
from tests.guests import ROOT
from tests.slowness import patience
with Served() as served:
    print(served.get("/runbook/KsmwatchPolling")[0], served.get("/")[0], served.get()[0])
"""


def test_it_serves_although_its_user_cannot_read_the_package(tmp_path: Path) -> None:
    # As in a checkout below /root. The front changes its user only if root starts it.
    for name in ("ksmwatch", "docs/runbook"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, tmp_path / "tests")
    tmp_path.chmod(0o700)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=patience(300),
        check=True,
    )
    assert done.stdout.split() == [b"200", b"200", b"200"]

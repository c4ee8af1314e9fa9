"""Messages to systemd, over a real socket, and the descriptors that it keeps for us."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksmwatch.probes.persistence import FdStore
from ksmwatch.systemd import Manager


class Systemd:
    """The other end of the socket: remembers messages, and keeps descriptors by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        self.store: list[tuple[str, int]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def stop(self) -> None:
        """End, having read everything."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()
        for _, fd in self.store:
            os.close(fd)

    def _listen(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self._socket, 4096, 4)
            if not data:
                return
            self._take(data.decode(), fds)

    def _take(self, text: str, fds: list[int]) -> None:
        fields = dict(line.split("=", 1) for line in text.splitlines())
        if "BARRIER" in fields:
            os.close(fds[0])
            return
        self.messages.append(text)
        name = fields.get("FDNAME", "")
        if "FDSTORE" in fields:
            assert fields["FDPOLL"] == "0"
            self.store.append((name, fds[0]))
        if "FDSTOREREMOVE" in fields:
            for each in [each for each in self.store if each[0] == name]:
                os.close(each[1])
                self.store.remove(each)

    def environment(self) -> dict[str, str]:
        """What a service is started with."""
        return {"NOTIFY_SOCKET": str(self.path), "FDSTORE": "4"}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    yield made
    made.stop()


def passed(systemd: Systemd, monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, str]:
    """The environment of a service that descriptors are passed to, from 3 on."""
    monkeypatch.setattr("ksmwatch.systemd.os.set_inheritable", lambda fd, to: None)
    return {
        **systemd.environment(),
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }


# ---- messages ----


def test_each_state_is_told(systemd: Systemd) -> None:
    manager = Manager(systemd.environment())
    manager.status("Starting.")
    manager.status("Starting.")
    manager.ready()
    manager.reloading()
    manager.stopping()
    manager.forget()
    status, ready, reloading, stopping = systemd.messages
    assert (status, ready, stopping) == ("STATUS=Starting.", "READY=1", "STOPPING=1")
    name, stamp = reloading.splitlines()
    assert (name, stamp.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")


def test_the_watchdog_is_fed_four_times_in_its_time_at_most(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("ksmwatch.systemd.time.monotonic", lambda: now)
    environment = {**systemd.environment(), "WATCHDOG_USEC": "4000000"}
    manager = Manager({**environment, "WATCHDOG_PID": str(os.getpid())})
    for now in (100.0, 100.9, 101.0, 101.1, 103.0):  # noqa: B007 - the clock
        manager.beat()
    manager.forget()
    assert systemd.messages == ["WATCHDOG=1"] * 3
    other = Manager({**environment, "WATCHDOG_PID": "1"})
    other.beat()
    other.forget()
    assert len(systemd.messages) == 3


def test_nobody_is_told_anything_without_systemd() -> None:
    manager = Manager({"FDSTORE": "4", "LISTEN_FDS": "1", "LISTEN_PID": "1"})
    manager.ready()
    manager.beat()
    manager.forget("map-accounts")
    assert (manager.store_limit, manager.take_passed("map-")) == (0, [])


def test_children_inherit_nothing_of_it(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**passed(systemd, monkeypatch, "map-a"), "WATCHDOG_USEC": "1", "HOME": "/"}
    Manager(environment)
    assert environment == {"HOME": "/"}


def test_systemd_that_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksmwatch.systemd._BARRIER_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with pytest.raises(TimeoutError, match="does not answer"):
            manager.forget("link-a")


def test_who_counts_does_not_depend_on_being_heard(tmp_path: Path) -> None:
    manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "gone"), "FDSTORE": "4"})
    manager.ready()
    manager.status("Live.")
    with pytest.raises(FileNotFoundError):
        manager.store("map-a", 0)


# ---- the store ----


def test_what_is_kept_is_replaced_dropped_and_cleared(systemd: Systemd) -> None:
    store = FdStore(Manager(systemd.environment()))
    assert store.load() == {}
    for name in ("map-a", "prog-b", "link-b", "link-b"):
        store.store(name, 0)
    store.drop("prog-b")
    store.drop("prog-b")
    assert [name for name, _ in systemd.store] == ["map-a", "link-b"]
    store.clear()
    assert systemd.store == []
    # Attachments first.
    assert [text for text in systemd.messages if "REMOVE" in text][-2:] == [
        "FDSTOREREMOVE=1\nFDNAME=link-b",
        "FDSTOREREMOVE=1\nFDNAME=map-a",
    ]


def test_the_store_is_no_larger_than_systemd_says(systemd: Systemd) -> None:
    store = FdStore(Manager(systemd.environment()))
    for number in range(4):
        store.store(f"map-{number}", 0)
    with pytest.raises(OSError, match="full") as caught:
        store.store("link-a", 0)
    assert caught.value.errno == errno.ENOSPC


def test_a_successor_gets_what_is_its_own(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(passed(systemd, monkeypatch, "map-a", "ksmwatch.socket", "link-b"))
    store = FdStore(manager)
    assert manager.take_passed("ksmwatch.socket") == [("ksmwatch.socket", 4)]
    assert manager.take_passed("ksmwatch.socket") == []
    assert store.load() == {"map-a": 3, "link-b": 5}
    store.drop("link-b")
    assert "FDNAME=link-b" in systemd.messages[0]


def test_one_is_opened_before_all_are_loaded(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(systemd.environment())
    ends = os.pipe()
    monkeypatch.setattr(manager, "_passed", [("map-a", ends[0]), ("map-b", ends[1])])
    store = FdStore(manager)
    opened = store.open("map-b")
    assert opened not in (*ends, None)
    assert os.path.sameopenfile(opened or -1, ends[1])
    assert store.open("map-c") is None
    assert store.load() == {"map-a": ends[0], "map-b": ends[1]}
    assert store.open("map-b") is None
    for fd in (*ends, opened or -1):
        os.close(fd)


def test_two_of_one_name_are_both_refused(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = os.pipe()
    manager = Manager(systemd.environment())
    monkeypatch.setattr(manager, "_passed", [("map-a", fd) for fd in both])
    assert FdStore(manager).load() == {}
    for fd in both:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert systemd.messages == ["FDSTOREREMOVE=1\nFDNAME=map-a"]

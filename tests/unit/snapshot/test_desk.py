"""The desk and the socket, with threads and without sleeps."""

from __future__ import annotations

import grp
import json
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.errors import ConfigError, ListenError, NoDaemonError, PrivilegeError
from ksmwatch.kernel.read_areas import read_all_areas
from ksmwatch.snapshot import socket_server
from ksmwatch.snapshot.desk import Desk
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.socket_client import fetch
from ksmwatch.snapshot.socket_server import SocketServer, group_of
from tests.made_up import snapshot


class Clock:
    """Blocks until it may continue."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("ksmwatch.snapshot.desk.time", made)
    return made


def numbered(number: int) -> Callable[[], Snapshot]:
    return lambda: snapshot(time=float(number))


class Asker:
    """A thread that asks the desk once."""

    def __init__(self, desk: Desk, max_age: float = 0) -> None:
        self._answers: queue.Queue[float | Exception] = queue.Queue()
        self._desk, self._max_age = desk, max_age
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        try:
            self._answers.put(self._desk.ask(self._max_age).time)
        except NoDaemonError as error:
            self._answers.put(error)

    @property
    def answered(self) -> bool:
        """Whether the desk has answered."""
        return not self._answers.empty()

    def answer(self) -> float | Exception:
        """The number of the snapshot, or the refusal."""
        return self._answers.get(timeout=600)


def test_a_fresh_snapshot_is_given_without_a_request(clock: Clock) -> None:
    desk = Desk()
    assert not desk.ready
    desk.publish(numbered(1))
    assert desk.ready
    clock.now += 1.0
    assert desk.ask(1.0).time == 1
    assert desk.wait_for_request(0) is False


def test_an_old_snapshot_makes_a_request(clock: Clock) -> None:
    desk = Desk()
    desk.publish(numbered(1))
    clock.now += 1.5
    asker = Asker(desk, 1.0)
    assert desk.wait_for_request(30) is True
    assert not asker.answered
    desk.publish(numbered(2))
    assert asker.answer() == 2
    assert desk.wait_for_request(0) is False


def test_ten_who_ask_share_one_snapshot(clock: Clock) -> None:
    desk = Desk()
    askers = [Asker(desk) for _ in range(10)]
    assert desk.wait_for_request(30) is True
    # With the clock standing still, a later request gets the same one.
    desk.publish(numbered(1))
    assert [asker.answer() for asker in askers] == [1] * 10


def test_who_asks_while_a_snapshot_is_made_gets_the_next(clock: Clock) -> None:
    desk = Desk()
    late: list[Asker] = []

    def make() -> Snapshot:
        clock.now += 1
        late.append(Asker(desk))
        # Now it is certain that it asked after this one was begun.
        assert desk.wait_for_request(30) is True
        clock.now += 1
        return snapshot(time=1.0)

    desk.publish(make)
    assert desk.ask(5).time == 1
    # It was not content with that one, and asks again.
    assert desk.wait_for_request(30) is True
    desk.publish(numbered(2))
    assert late[0].answer() == 2


def test_a_closed_desk_answers_nobody() -> None:
    desk = Desk()
    waiting = Asker(desk)
    assert desk.wait_for_request(30) is True
    desk.close()
    answer = waiting.answer()
    assert isinstance(answer, NoDaemonError)
    assert str(answer) == "The daemon is stopping."
    with pytest.raises(NoDaemonError):
        desk.ask(0)
    # The main thread is not kept waiting either.
    assert desk.wait_for_request(1e6) is False


def test_the_main_thread_is_woken_by_a_descriptor(clock: Clock) -> None:
    desk = Desk()
    theirs, ours = os.pipe()
    os.write(ours, b"event")
    assert desk.wait_for_request(1e6, [theirs]) is False
    os.close(theirs)
    os.close(ours)


def test_the_main_thread_is_woken_by_a_ring_and_once() -> None:
    desk = Desk()
    desk.ring()
    desk.ring()
    assert desk.wait_for_request(1e6) is False
    # A second wait would not end: a request does.
    asker = Asker(desk)
    assert desk.wait_for_request(1e6) is True
    desk.publish(numbered(1))
    assert asker.answer() == 1


class Daemon:
    """What the main thread does: publish at every request."""

    def __init__(self, path: Path) -> None:
        self.desk = Desk()
        self.served = 0
        self.server = SocketServer(path, self.desk)
        self.server.start()
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ending:
            if self.desk.wait_for_request(30):
                self.served += 1
                self.desk.publish(numbered(self.served))

    def stop(self) -> None:
        """End as the daemon does."""
        self._ending = True
        self.desk.close()
        self._thread.join()
        self.server.stop()
        self.server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run/ksmwatch.sock"


@pytest.fixture
def daemon(path: Path) -> Iterator[Daemon]:
    made = Daemon(path)
    yield made
    made.stop()


def ask(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(600)
        sock.connect(str(path))
        sock.sendall(line)
        answer: dict[str, Any] = json.loads(sock.makefile("rb").readline())
        return answer


def test_a_round_trip_by_the_socket(daemon: Daemon, path: Path) -> None:
    assert fetch(path) == to_document(snapshot(time=1.0))
    assert fetch(path)["time"] == 2.0
    assert daemon.served == 2


def test_only_the_owner_may_use_the_socket(daemon: Daemon, path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_group_may_use_the_socket_and_nobody_else(path: Path) -> None:
    before = os.umask(0o077)
    try:
        server = SocketServer(path, Desk(), os.getgid())
    finally:
        os.umask(before)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    server.close()


def test_groups() -> None:
    entry = grp.getgrgid(os.getgid())
    assert group_of(entry.gr_name) == entry.gr_gid
    assert group_of("") is None
    with pytest.raises(ConfigError) as caught:
        group_of("no such group")
    assert str(caught.value) == "--socket-group: there is no group 'no such group'."


def test_who_may_not_ask_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sock: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(
        PrivilegeError,
        match=r"^The daemon at .* does not answer uid \d+, only its own user and group",
    ):
        fetch(path)


BAD_REQUEST = "A request is one JSON object with a command, on one line."


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"snapshot\n", BAD_REQUEST),
        (b"[]\n", BAD_REQUEST),
        (b"null\n", BAD_REQUEST),
        (b"{}\n", BAD_REQUEST),
        (b"\xff\n", BAD_REQUEST),
        (b" " * 5000 + b"\n", BAD_REQUEST),
        (b'{"command": "reboot"}\n', "Commands are snapshot, and areas with a pid."),
        (b'{"command": ["snapshot"]}\n', "Commands are snapshot, and areas with a pid."),
    ],
)
def test_bad_requests(daemon: Daemon, path: Path, line: bytes, error: str) -> None:
    assert ask(path, line) == {"error": error}
    # And the next one is served.
    assert fetch(path)["schema"] == "ksmwatch.snapshot/1"


@pytest.mark.parametrize("pid", ["7", None, [7], True, -1, 10**30, 4194305])
def test_areas_of_nobody(daemon: Daemon, path: Path, pid: object) -> None:
    answer = ask(path, json.dumps({"command": "areas", "pid": pid}).encode() + b"\n")
    assert list(answer) == ["error"]


def test_areas_are_read_now(
    daemon: Daemon, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_server, "read_all_areas", lambda pid: read_all_areas(pid, tmp_path))
    (tmp_path / "self").mkdir()
    (tmp_path / "self/smaps_rollup").write_text("Rss: 0 kB\nKSM: 0 kB\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps").write_text(
        "1000-5000 rw-p 00000000 00:00 0 [heap]\nKSM: 4 kB\nVmFlags: rd mg\n"
        "6000-9000 rw-p 00000000 00:00 0\nKSM: 8 kB\nVmFlags: rd\n"
    )
    found = fetch(path, "areas", pid=7)["areas"]
    assert [(a["start"], a["mappings"], a["mergeable"], a["name"]) for a in found] == [
        ("0x6000", 2, False, ""),
        ("0x1000", 1, True, "[heap]"),
    ]
    with pytest.raises(NoDaemonError, match="There is no process 8"):
        fetch(path, "areas", pid=8)


def test_a_second_daemon_is_refused(daemon: Daemon, path: Path) -> None:
    with pytest.raises(ListenError) as caught:
        SocketServer(path, Desk())
    assert str(caught.value) == f"Another ksmwatch is running: it answers at {path}."
    assert fetch(path)["time"] == 1.0


def test_a_stale_socket_is_replaced_and_removed_at_the_end(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    daemon = Daemon(path)
    assert fetch(path)["time"] == 1.0
    daemon.stop()
    assert not path.exists()


def test_nobody_answers(path: Path) -> None:
    with pytest.raises(NoDaemonError) as caught:
        fetch(path)
    assert str(caught.value) == f"No daemon answers at {path}: No such file or directory."


@pytest.mark.parametrize("answer", [b"", b'{"schema": "ksmwatch.snap', b"\xff\n"])
def test_an_answer_that_is_not_finished(path: Path, answer: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoDaemonError, match="did not finish its answer"):
            fetch(path)
        thread.join()


def test_only_the_socket_is_private_not_what_is_made_later(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        server = SocketServer(tmp_path / "socket", Desk())
        server.close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_daemon_that_stops_says_so(path: Path) -> None:
    desk = Desk()
    desk.close()
    server = SocketServer(path, desk)
    server.start()
    with pytest.raises(NoDaemonError) as caught:
        fetch(path)
    assert str(caught.value).startswith(f"The daemon at {path} says: The daemon is stopping.")
    server.stop()
    server.close()


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file/ksmwatch.sock"
    with pytest.raises(ListenError) as caught:
        SocketServer(path, Desk())
    assert str(caught.value).startswith(f"The socket {path} cannot be created: ")


def test_another_user_is_told_that_root_is_needed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegeError, match=r"^ksmwatch run needs root: uid 1000 may not create "):
        SocketServer(path, Desk())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ListenError, match=r"cannot be created: Permission denied\.$"):
        SocketServer(path, Desk())

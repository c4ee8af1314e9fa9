"""What other users of the host can learn, and a full disk under the textfile."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.children import outcome
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

pytestmark = pytest.mark.once

GROUP = "games"
PINS = Path("/sys/fs/bpf/ksmwatch-test")
# The same user as the front's: the front must be safe from it, too.
STRANGER = ("setpriv", "--reuid", "65534", "--regid", "65534")


class Host:
    """The daemon, and a small disk for its textfile."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.file = disk / "ksmwatch.prom"
        self.daemon = Daemon(
            *(f"--state.pin-path={PINS}", f"--socket-group={GROUP}"),
            *(f"--textfile.directory={disk}", "--textfile.interval=1"),
        )


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    # Strangers must reach this checkout; the guest's changes to modes stay in the guest.
    for above in Path(__file__).resolve().parents:
        above.chmod(above.stat().st_mode | 0o011)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", directory], check=True)
        made = Host(Path(directory))
        # So that only the socket's own mode is in the way.
        made.daemon.socket.parent.chmod(0o755)
        try:
            with made.daemon:
                yield made
                assert made.daemon.stop() == 0
            assert not list(made.disk.glob("ksmwatch.prom*"))
        finally:
            subprocess.run(["umount", directory], check=True)
        PINS.rmdir()


def test_the_socket_answers_its_group_and_nobody_else(host: Host) -> None:
    asked = ("ksmwatch", "snapshot", "--json", "--socket", str(host.daemon.socket))
    status, said = outcome([*STRANGER, "--clear-groups", *asked])
    assert status == 3
    assert said.strip().endswith("does not answer uid 65534, only its own user and group.")
    member = (*STRANGER, "--groups", GROUP)
    status, said = outcome([*member, *asked])
    assert (status, json.loads(said)["mode"]) == (0, "bpf")
    top = ("ksmwatch", "top", "--once", "--socket", str(host.daemon.socket))
    status, said = outcome([*member, *top])
    assert status == 0, said


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


SECRETS = ("environ", "maps", "mem", "smaps_rollup", "fd", "fdinfo", "cwd", "stack")
LOOK = """
import os, sys
for path in sys.argv[1:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
    except OSError as error:
        continue
    print(path)
"""


def test_no_file_of_daemon_or_fronts_is_open_to_a_stranger(host: Host) -> None:
    daemon = host.daemon.process.pid
    # One serves HTTP, as this very user; one writes the textfile.
    pids = [daemon, *children(daemon)]
    assert len(pids) == 3
    paths = [f"/proc/{pid}/{name}" for pid in pids for name in SECRETS]
    paths += [str(PINS), str(host.daemon.log_path)]
    look = ["/usr/bin/python3", "-c", LOOK, *paths]
    host.daemon.log_path.chmod(0o600)
    status, said = outcome([*STRANGER, "--clear-groups", *look])
    assert (status, said) == (0, "")
    # Root can, or it would have been no test.
    status, said = outcome(look)
    # There is nothing at address 0 of any memory.
    assert set(said.splitlines()) == {path for path in paths if not path.endswith("/mem")}


def fill(path: Path) -> None:
    """Make a file as large as its disk has room for."""
    with path.open("ab") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))


def lost(host: Host) -> int:
    count: int = host.daemon.snapshot()["losses"]["textfile_unwritten"]
    return count


def test_a_full_disk_under_the_textfile_is_a_loss_and_counting_goes_on(
    host: Host, ksm: Ksm
) -> None:
    wait_until(host.file.exists, "no file is written")
    ballast = host.disk / "ballast"
    with Workload() as load:
        tenant = mergeable(load, "a", 1009)

        def starved() -> bool:
            # The room that an old file leaves is enough for a new one, so there must be none.
            host.file.unlink(missing_ok=True)
            fill(ballast)
            return lost(host) >= 2

        wait_until(starved, "a file is still written", seconds=240)
        # Rather none than an old one.
        assert not host.file.exists()
        ksm.merge_all()
        assert_exact(host.daemon, {tenant.pid: 1009})
        assert "ksmwatch_mappings 1009.0" in host.daemon.metrics()
        ballast.unlink()
        wait_until(
            lambda: host.file.exists() and "ksmwatch_mappings 1009.0" in host.file.read_text(),
            "no file is written again",
        )
    told = [line["msg"] for line in host.daemon.log() if "textfile" in line["msg"]]
    assert told == ["the textfile cannot be written", "the textfile can be written again"]

"""The daemon's next tick reads estimated processes, with and without requests.

The daemon beats for systemd's watchdog at the end of each tick, and ticks each second. Ticks are
counted here, not seconds, so it is the same on a machine of any speed.
"""

from __future__ import annotations

import math
import socket
from pathlib import Path

from ksmwatch.commands.run import TICK_SECONDS
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.damage import in_doubt
from tests.ksmctl import Ksm
from tests.slowness import patience, slowness
from tests.workload import Workload, mergeable

PINS = Path("/sys/fs/bpf/ksmwatch-prompt")
QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
# One may have been on its way already. On a slow machine the budget of a tick holds less.
TICKS = 1 + math.ceil(slowness())
_BEAT_SECONDS = 120


def wait_for_tick(beats: socket.socket) -> None:
    """Returns when another tick is over."""
    while b"WATCHDOG=1" not in beats.recv(4096):
        pass


def drain(beats: socket.socket) -> None:
    """Forget the ticks so far."""
    beats.settimeout(0)
    try:
        while beats.recv(4096):
            pass
    except BlockingIOError:
        beats.settimeout(patience(_BEAT_SECONDS))


def test_an_estimated_process_is_read_within_a_second(ksm: Ksm, tmp_path: Path) -> None:
    assert TICK_SECONDS == 1
    # There is no request most of the time, and the daemon must not wait for one.
    QUEUE.write_text("100000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as beats, Workload() as load:
        beats.bind(str(tmp_path / "notify"))
        told = ("env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", "WATCHDOG_USEC=2")
        options = (f"--state.pin-path={PINS}", "--audit.cpu-percent=0")
        with Daemon(*options, prefix=told, http=False) as daemon:
            parent = mergeable(load, "parent", 211)
            ksm.merge_all()
            truth = {parent.pid: 211}
            assert_exact(daemon, truth)
            for n in range(5):
                with daemon.frozen():
                    child = parent.fork(f"child-{n}")
                    truth[child.pid] = 211
                    # Or there would be nothing to read.
                    assert in_doubt(PINS, child.pid)
                    drain(beats)
                for _ in range(TICKS):
                    wait_for_tick(beats)
                assert not in_doubt(PINS, child.pid)
            assert_exact(daemon, truth)
            assert daemon.stop() == 0
    PINS.rmdir()

"""A daemon that rests is told by the kernel when somebody starts ksmd."""

from __future__ import annotations

import os
import select
from pathlib import Path

from ksmwatch.commands.rest import settings
from ksmwatch.kernel.syscalls import watch_writes
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm


def test_a_start_of_ksmd_is_told(ksm: Ksm) -> None:
    told = watch_writes(settings(Path("/proc"), Path("/sys")))
    poll = select.poll()
    poll.register(told, select.POLLIN)
    assert poll.poll(0) == []
    ksm.start()
    assert poll.poll(0) == [(told, select.POLLIN)]
    os.close(told)


def test_the_daemon_listens_to_it(ksm: Ksm) -> None:
    with Daemon(http=False) as daemon:
        assert daemon.snapshot()["asleep"] is True
        inode = (Path("/sys/kernel/mm/ksm/run")).stat().st_ino
        descriptors = Path(f"/proc/{daemon.process.pid}/fdinfo").iterdir()
        assert any(f"ino:{inode:x} " in each.read_text() for each in descriptors)

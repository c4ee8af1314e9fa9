"""Swap space in compressed memory, and a control group whose memory can be reclaimed."""

from __future__ import annotations

import mmap
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE = "512M"
_DEVICE = Path("/dev/zram0")
_SYSFS = Path("/sys/block/zram0")
# As in ksmfuzz.
GROUP = Path("/sys/fs/cgroup/ksmfuzz")


@contextmanager
def ready() -> Iterator[None]:
    """Swap to zram, with the control group that ksmfuzz reclaims from."""
    subprocess.run(["/sbin/modprobe", "zram"], check=True)
    (_SYSFS / "disksize").write_text(_SIZE)
    subprocess.run(["/sbin/mkswap", _DEVICE], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["/sbin/swapon", _DEVICE], check=True)
    (GROUP.parent / "cgroup.subtree_control").write_text("+memory")
    GROUP.mkdir()
    # What the OOM killer prints about all tasks takes an emulated console very long.
    Path("/proc/sys/vm/oom_dump_tasks").write_text("0")
    try:
        yield
    finally:
        GROUP.rmdir()
        subprocess.run(["/sbin/swapoff", _DEVICE], check=True)
        (_SYSFS / "reset").write_text("1")


def emptied() -> None:
    """Everything comes back (swapoff), and there is swap space again."""
    subprocess.run(["/sbin/swapoff", _DEVICE], check=True)
    subprocess.run(["/sbin/swapon", _DEVICE], check=True)


def used() -> int:
    """Pages that are swapped out at the moment."""
    _, *devices = Path("/proc/swaps").read_text().splitlines()
    kilobytes = sum(int(device.split()[3]) for device in devices)
    return kilobytes * 1024 // mmap.PAGESIZE

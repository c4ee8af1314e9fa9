"""Swap space in compressed memory, and a control group whose memory can be reclaimed."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SIZE = "512M"
_DEVICE = Path("/dev/zram0")
# As in ksmfuzz.c.
GROUP = Path("/sys/fs/cgroup/ksmfuzz")


def enable() -> None:
    """Swap to zram from now on."""
    subprocess.run(["/sbin/modprobe", "zram"], check=True)
    Path("/sys/block/zram0/disksize").write_text(_SIZE)
    subprocess.run(["/sbin/mkswap", _DEVICE], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["/sbin/swapon", _DEVICE], check=True)


def make_group() -> None:
    """The control group that ksmfuzz.c reclaims from."""
    (GROUP.parent / "cgroup.subtree_control").write_text("+memory")
    GROUP.mkdir()


def used() -> int:
    """Pages that are out at the moment."""
    _, *devices = Path("/proc/swaps").read_text().splitlines()
    return sum(int(device.split()[3]) for device in devices) // 4

"""Does KVM really run this kernel here? /dev/kvm alone does not tell, so boot it and see."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from . import initramfs
from .cachedir import cache_root, locked
from .kernels import Kernel
from .machine import PROBE_STATUS, Machine, probe_argv
from .memfile import memory_file
from .procs import die_with_parent

SECONDS = 8


def verdict_file(kernel: Kernel) -> Path:
    """One verdict per boot of this machine and kernel."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return cache_root() / "kvm" / f"{boot}-{kernel.release}"


def boots_under_kvm(kernel: Kernel) -> bool:
    """Boot the kernel under KVM with an init that makes QEMU leave with a known status."""
    machine = Machine(image=kernel.image, memory="512M", cpus=2, kvm=True)
    with memory_file("initrd", initramfs.build((), None)) as (fd, path):
        try:
            done = subprocess.run(
                probe_argv(machine, path),
                pass_fds=(fd,),
                timeout=SECONDS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
                start_new_session=True,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == PROBE_STATUS


def kvm_works(kernel: Kernel) -> bool:
    """The verdict, remembered until this machine boots again."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    verdict = verdict_file(kernel)
    with locked(verdict):
        if not verdict.exists():
            for old in verdict.parent.glob("*-*"):  # of earlier boots of this machine
                if not old.name.startswith((verdict.name[:36], ".")):
                    old.unlink(missing_ok=True)
            scratch = verdict.with_name(verdict.name + ".part")
            scratch.write_text("yes\n" if boots_under_kvm(kernel) else "no\n")
            scratch.rename(verdict)
        return verdict.read_text() == "yes\n"

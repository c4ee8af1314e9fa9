"""What differs between the machines that QEMU is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Platform:
    """One kind of machine. `words`: what its kernels want on their command line."""

    arch: str  # as Debian says it
    qemu: str
    package: str
    board: str
    cpu: str
    words: tuple[str, ...]


PLATFORMS = {
    each.arch: each
    for each in (
        Platform(
            arch="amd64",
            qemu="qemu-system-x86_64",
            package="qemu-system-x86",
            board="pc,usb=off,vmport=off,hpet=off",
            # Five-level page tables make every emulated page walk longer, for nothing.
            cpu="max,la57=off",
            words=("console=ttyS0", "earlyprintk=ttyS0", "tsc=reliable", "no_timer_check"),
        ),
        Platform(
            arch="arm64",
            qemu="qemu-system-aarch64",
            package="qemu-system-arm",
            board="virt,gic-version=3",
            # Has pages of 16 KiB and atomic instructions. Emulated pointer authentication, which
            # later ones have, makes every function slow.
            cpu="neoverse-n1",
            words=("console=ttyAMA0", "earlycon"),
        ),
    )
}

"""The QEMU command line: a pure function from a description to arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import HarnessError
from .platforms import PLATFORMS, Platform

PORTS = ("control", "stdin", "stdout", "stderr")  # virtio serial ports, numbered from 1
PROBE_VALUE = 42  # written by guest/probe
PROBE_STATUS = PROBE_VALUE * 2 + 1  # what QEMU makes of it


@dataclass(frozen=True)
class Publish:
    """A port of the host's loopback that leads to a port of the guest."""

    host: int
    guest: int

    @classmethod
    def parse(cls, text: str) -> Publish:
        """Read HOSTPORT:GUESTPORT."""
        match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", text)
        if match:
            host, guest = int(match.group(1)), int(match.group(2))
            if 0 < host < 65536 and 0 < guest < 65536:
                return cls(host, guest)
        raise HarnessError(f"--publish {text}: want HOSTPORT:GUESTPORT, both 1 to 65535")


@dataclass(frozen=True)
class Share:
    """A directory of the host that the guest mounts by its tag."""

    tag: str
    path: str
    readonly: bool = False


@dataclass(frozen=True)
class Machine:
    """A guest machine, except for the descriptors that lead to it."""

    image: Path
    platform: Platform = PLATFORMS["amd64"]
    cpu: str | None = None  # a model of QEMU's instead of the platform's
    append: tuple[str, ...] = ()  # to the kernel's command line
    memory: str = "2G"
    cpus: int = 2
    nodes: int = 1  # of memory; each has its share of memory and CPUs
    kvm: bool = False
    icount: bool = False
    publish: tuple[Publish, ...] = ()
    shares: tuple[Share, ...] = (Share("root", "/", readonly=True),)
    virtiofs: bool = False  # the shares, instead of 9p
    disk: Path | None = None  # an image with a root of its own, of which writes are forgotten
    gdb: Path | None = None  # Unix socket of QEMU's gdbstub
    parallel: tuple[str, ...] | None = None  # the command of a QEMU that may run CPUs in parallel
    iommu: bool = False  # Intel's, and a device (edu) that may be handed to a process


def parse_memory(text: str) -> str:
    """A size as QEMU takes it; a bare number means MiB."""
    match = re.fullmatch(r"([1-9]\d*)([MG]?)", text.strip().upper())
    if not match:
        raise HarnessError(f"--memory {text}: want a number with M or G, such as 2G")
    return match.group(1) + (match.group(2) or "M")


def escaped(value: str) -> str:
    """A value inside a comma-separated QEMU option."""
    return value.replace(",", ",,")


def accelerator(machine: Machine) -> list[str]:
    """How instructions are executed."""
    cpu = machine.cpu or machine.platform.cpu
    if machine.icount:
        return [
            "-accel",
            "tcg,thread=single",
            "-cpu",
            cpu,
            "-icount",
            # An idle guest waits in real time. If its clock leapt to the next timer instead,
            # every timeout would be over while it waits for the host's file system.
            "shift=0,sleep=on",
        ]
    if machine.kvm:
        return ["-accel", "kvm", "-cpu", machine.cpu or "host"]
    if machine.parallel:
        return ["-accel", "tcg,thread=multi", "-cpu", cpu]
    # One host thread for all CPUs: with a thread each, QEMU 7.2 runs torn instructions while the
    # kernel patches code that another CPU executes. Kprobes switched on and off on a busy
    # function panic the guest within seconds (a jump to address 0), without any BPF.
    return ["-accel", "tcg,thread=single", "-cpu", cpu]


def kernel_arguments(machine: Machine) -> str:
    """The kernel's own command line.

    Nothing here changes how memory management or BPF behave: it is about the console, about
    dying loudly, and about trusting the clock and the random seed of the virtual machine.
    """
    # systemd prints a line for each unit to a console that is slow, unless told otherwise; and it
    # gives up on what takes 90 seconds, as anything may on a busy machine.
    systemd = [
        "systemd.wants=ksmwatch-vm.service",
        "systemd.show_status=off",
        "systemd.default_timeout_start_sec=600",
    ]
    words = [
        *(systemd if machine.disk else []),
        *(["intel_iommu=on"] if machine.iommu else []),
        *machine.platform.words,
        "loglevel=5",
        "panic=-1",
        "oops=panic",
        "random.trust_cpu=on",
        "cryptomgr.notests",
        "rdinit=/init",
        *machine.append,
    ]
    return " ".join(words)


def disk(machine: Machine) -> list[str]:
    """The root, if it is not the host's."""
    if machine.disk is None:
        return []
    path = escaped(str(machine.disk))
    return ["-drive", f"file={path},if=virtio,format=raw,snapshot=on,cache=unsafe"]


def megabytes(memory: str) -> int:
    """What `parse_memory` made, as a number of MiB."""
    return int(memory[:-1]) * (1024 if memory.endswith("G") else 1)


def memory(machine: Machine) -> list[str]:
    """Memory, perhaps in several nodes; those who serve virtiofs see it as well."""
    if machine.nodes == 1 and not machine.virtiofs:
        return ["-m", machine.memory]
    kind = "memfd,share=on" if machine.virtiofs else "ram"
    size = megabytes(machine.memory) // machine.nodes
    argv = ["-m", f"{size * machine.nodes}M"]
    for number in range(machine.nodes):
        cpus = "".join(f",cpus={cpu}" for cpu in range(number, machine.cpus, machine.nodes))
        argv += [
            *("-object", f"memory-backend-{kind},id=node{number},size={size}M"),
            *("-numa", f"node,nodeid={number},memdev=node{number}{cpus}"),
        ]
    return argv


def shares(machine: Machine, fds: Sequence[int] = ()) -> list[str]:
    """The host's directories. `fds`: for virtiofs, sockets to those who serve them."""
    argv = []
    for number, share in enumerate(machine.shares):
        if machine.virtiofs:
            argv += [
                "-chardev",
                f"socket,id={share.tag},fd={fds[number]}",
                "-device",
                f"vhost-user-fs-pci,chardev={share.tag},tag={share.tag}",
            ]
        else:
            readonly = ",readonly=on" if share.readonly else ""
            path = escaped(share.path)
            argv += [
                "-fsdev",
                f"local,id={share.tag},path={path},security_model=none{readonly},multidevs=remap",
                "-device",
                f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}",
            ]
    return argv


def debugger(machine: Machine) -> list[str]:
    """The gdbstub, which stops nothing until somebody connects."""
    if machine.gdb is None:
        return []
    return ["-gdb", f"unix:{escaped(str(machine.gdb))},server=on,wait=off"]


def board(machine: Machine) -> str:
    """What its parts are plugged into. An IOMMU needs PCI Express, and tags (MTE) their memory."""
    board = machine.platform.board
    if machine.platform.arch == "arm64" and (machine.cpu or "").split(",")[0] == "max":
        board += ",mte=on"
    return board.replace("pc,", "q35,", 1) if machine.iommu else board


def spare_device(machine: Machine) -> list[str]:
    """A device behind an IOMMU."""
    return ["-device", "intel-iommu", "-device", "edu"] if machine.iommu else []


def network(machine: Machine) -> list[str]:
    """A network card only if a port is published; never a way out of the guest."""
    if not machine.publish:
        return ["-nic", "none"]
    forwards = [
        f"hostfwd=tcp:127.0.0.1:{each.host}-10.0.2.15:{each.guest}" for each in machine.publish
    ]
    return [
        "-netdev",
        ",".join(["user", "id=net", "restrict=on", "ipv6=off", *forwards]),
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
    ]


def channels(console_fd: int, port_fds: Sequence[int]) -> list[str]:
    """The console and the serial ports, each behind a socket that QEMU inherits."""
    argv = [
        "-chardev",
        f"socket,id=console,fd={console_fd}",
        "-serial",
        "chardev:console",
        "-device",
        f"virtio-serial-pci,max_ports={len(PORTS) + 1}",
    ]
    for number, (name, fd) in enumerate(zip(PORTS, port_fds, strict=True), start=1):
        argv += [
            "-chardev",
            f"socket,id={name},fd={fd}",
            "-device",
            f"virtserialport,nr={number},chardev={name},name=ksmwatch.{name}",
        ]
    return argv


def base(machine: Machine, initrd: str) -> list[str]:
    """What every guest has."""
    clock = "vm" if machine.icount else "host"
    return [
        *(machine.parallel or [machine.platform.qemu]),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-M",
        board(machine),
        *accelerator(machine),
        *memory(machine),
        "-smp",
        str(machine.cpus),
        "-rtc",
        f"base=utc,clock={clock}",
        "-kernel",
        str(machine.image),
        "-initrd",
        initrd,
        "-append",
        kernel_arguments(machine),
    ]


def run_argv(
    machine: Machine,
    initrd: str,
    console_fd: int,
    port_fds: Sequence[int],
    share_fds: Sequence[int] = (),
) -> list[str]:
    """The machine that runs a job."""
    return [
        *base(machine, initrd),
        *channels(console_fd, port_fds),
        *disk(machine),
        *shares(machine, share_fds),
        *network(machine),
        *debugger(machine),
        *spare_device(machine),
    ]


def probe_argv(machine: Machine, initrd: str) -> list[str]:
    """The machine that only shows that the kernel boots."""
    return [
        *base(machine, initrd),
        "-nic",
        "none",
        "-serial",
        "none",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=1",
    ]

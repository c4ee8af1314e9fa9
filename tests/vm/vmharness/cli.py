"""The command line of tests/vm/run."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import emulator, initramfs, kernels, machine, probe, roots, trees, virtiofs
from .brake import Brake
from .cachedir import cache_root, say
from .errors import STATUS_HARNESS, HarnessError
from .kernels import Kernel
from .machine import Machine, Publish, Share
from .memfile import memory_file
from .naming import SEVERAL, Wanted
from .platforms import PLATFORMS
from .session import Console, GuestLostError, Session, new_token

CHECKOUT = Path(__file__).resolve().parents[3]
PASSED_ON = ("TERM", "COLUMNS", "LINES", "CI", "PYTEST_ADDOPTS")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS = 3
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
COVERED = ("/tmp", "/run", "/dev")  # the guest mounts something of its own there


class StoppedError(Exception):
    """A signal asked us to stop."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors cannot be mistaken for a status of the command."""

    def error(self, message: str) -> NoReturn:
        """Report the error, with the harness's own status."""
        self.print_usage(sys.stderr)
        self.exit(STATUS_HARNESS, f"vm: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The options; everything after -- is the command."""
    parse = Parser(
        prog="tests/vm/run",
        allow_abbrev=False,
        description="Run COMMAND as root under a stock Debian kernel in QEMU, over this "
        "machine's file system (copy-on-write). The exit status is COMMAND's; "
        "125 means that the guest could not do its job.",
    )
    _what_boots(parse)
    _its_machine(parse)
    _how_it_runs(parse)
    parse.add_argument("command", nargs="*", metavar="COMMAND")
    return parse


def _what_boots(parse: argparse.ArgumentParser) -> None:
    parse.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="K",
        help="a series or a version, and perhaps a flavour: 6.12, 6.16.12, 7.3-rt, 6.12-cloud, "
        "6.12-16k",
    )
    parse.add_argument(
        "--arch", choices=list(PLATFORMS), default="amd64", help="of the guest, default amd64"
    )
    parse.add_argument("--list", action="store_true", help="print the kernels that can be had")
    parse.add_argument(
        "--fetch",
        action="store_true",
        help="only fetch the kernels (several without --kernel), or the --root, then exit",
    )
    parse.add_argument("--path", action="store_true", help="print the kernel's directory")
    parse.add_argument(
        "--root",
        choices=roots.SUITES,
        metavar="SUITE",
        help="not over this machine's files, but as a service of systemd on a root of "
        "this Debian suite; of this machine's files only the checkout and --writable are there",
    )
    parse.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="WORDS",
        help="put at the end of the kernel's command line, such as preempt=full",
    )


def _its_machine(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("--cpu", metavar="MODEL", help="of QEMU's, instead of the usual one")
    parse.add_argument("--memory", default="2G", metavar="M", help="default 2G")
    parse.add_argument("--cpus", type=int, default=2, metavar="N", help="default 2")
    parse.add_argument("--nodes", type=int, default=1, metavar="N", help="of memory, default 1")
    parse.add_argument(
        "--icount", action="store_true", help="one CPU whose clock counts instructions"
    )
    parse.add_argument(
        "--parallel", action="store_true", help="run CPUs in parallel, by the QEMU of Debian 13"
    )
    parse.add_argument(
        "--iommu", action="store_true", help="with an IOMMU and a device to hand to a process"
    )


def _how_it_runs(parse: argparse.ArgumentParser) -> None:
    parse.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="HOSTPORT:GUESTPORT",
        help="make a port of the guest reachable on 127.0.0.1",
    )
    parse.add_argument(
        "--writable",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory in which writes reach the host",
    )
    parse.add_argument("--timeout", type=float, metavar="S", help="for boot and command together")
    parse.add_argument(
        "--slow",
        type=slowness,
        default=1.0,
        metavar="N",
        help="let the guest run for one Nth of the time, as on a machine that is so slow; "
        "--timeout is that of a quick one",
    )
    parse.add_argument("--console", type=Path, metavar="FILE", help="keep the kernel's console")
    parse.add_argument("--gdb", type=Path, metavar="PATH", help="make QEMU's gdbstub listen there")
    parse.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parse.add_argument("--verbose", action="store_true", help="say how long things took")


def slowness(text: str) -> float:
    """How many times slower; argparse says what is wrong with it."""
    number = float(text)
    if not 1 <= number <= 100:
        raise ValueError(text)
    return number


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after the first --."""
    if "--" in argv:
        at = list(argv).index("--")
        return list(argv[:at]), list(argv[at + 1 :])
    return list(argv), []


def guest_environment(
    ours: Mapping[str, str], kernel: str, extra: Sequence[str], *, own_root: bool = False
) -> dict[str, str]:
    """The command's environment, with little of ours, so that runs are alike everywhere.

    `own_root`: the programs are not this machine's, and cannot use what is in our .venv.
    """
    environment = {name: ours[name] for name in PASSED_ON if name in ours}
    environment |= {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "PATH": SYSTEM_PATH if own_root else f"{CHECKOUT}/.venv/bin:{SYSTEM_PATH}",
        "KSMWATCH_VM_KERNEL": kernel,
    }
    for item in extra:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise HarnessError(f"--env {item}: want NAME=VALUE")
        environment[name] = value
    return environment


def covered(path: str) -> bool:
    """Whether a file system of the guest would hide a host path."""
    return any(path == place or path.startswith(place + "/") for place in COVERED)


def kept_paths(paths: Sequence[str], *, everything: bool = False) -> list[str]:
    """Host paths to show through the guest's own /tmp and similar, outermost first.

    `everything`: through a root of its own.
    """
    kept: list[str] = []
    for path in sorted({path for path in paths if everything or covered(path)}):
        if path in COVERED:
            continue  # the guest has its own
        if not any(path.startswith(each + "/") for each in kept):
            kept.append(path)
    return kept


def writable_directories(names: Sequence[str]) -> list[str]:
    """Absolute paths of the directories that reach the host, outermost first."""
    found = sorted({os.path.realpath(name) for name in names})
    for path in found:
        if not Path(path).is_dir():
            raise HarnessError(f"--writable {path}: there is no such directory")
    return found


def programs_directory(kernel: Kernel) -> Path | None:
    """Where ksmwatch keeps compiled programs in all guests of a kernel.

    It uses only files that root has written, so only if root runs the guest.
    """
    if os.geteuid() != 0:
        return None
    directory = cache_root() / "programs" / kernel.release
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory


def shares_of(
    tree: Path | None, writable: Sequence[str], programs: Path | None = None
) -> tuple[Share, ...]:
    """What the guest mounts: its root, the host's files if that is another, and what is written."""
    shares = [Share("root", "/" if tree is None else str(tree), readonly=True)]
    if tree is not None:
        shares.append(Share("host", "/", readonly=True))
    if programs is not None:
        shares.append(Share("programs", str(programs)))
    return (*shares, *(Share(f"writable{at}", path) for at, path in enumerate(writable)))


def prepare(
    options: argparse.Namespace, command: Sequence[str], kernel: Kernel
) -> tuple[Machine, initramfs.Job, bytes]:
    """The machine, its task, and the initramfs that describes the task."""
    writable = writable_directories(options.writable)
    publish = tuple(Publish.parse(text) for text in options.publish)
    own_root = options.root is not None
    # What is installed there is under test, with all of its directories.
    programs = None if own_root else programs_directory(kernel)
    disk = roots.ensure(options.root) if own_root else None
    tree = None if options.arch == NATIVE else trees.guest_root(options.arch)
    foreign = tree is not None
    # Breakpoints in the kernel's text are sure only under emulation.
    emulated = options.icount or options.parallel or options.gdb or foreign
    here = str(Path.cwd())
    # The virtual environment may be somewhere else.
    kept = [here, str(CHECKOUT), str((CHECKOUT / ".venv").resolve())]
    environment = guest_environment(
        os.environ, kernel.name, options.env, own_root=own_root or foreign
    )
    if foreign:
        # .venv, in which the checkout is installed, is of another Python.
        environment.setdefault("PYTHONPATH", str(CHECKOUT))
    job = initramfs.Job(
        command=command,
        directory=here,
        environment=environment,
        token=new_token(),
        modules=str(kernel.directory / "lib/modules" / kernel.release),
        writable=writable,
        keep=kept_paths(
            [path for path in kept if Path(path).is_dir()], everything=own_root or foreign
        ),
        network=bool(publish),
        disk=own_root,
        apart=foreign,
        share=kernel.share,
        programs=programs is not None,
    )
    guest = Machine(
        image=kernel.image,
        platform=PLATFORMS[options.arch],
        cpu=options.cpu,
        append=tuple(options.append),
        memory=machine.parse_memory(options.memory),
        cpus=1 if options.icount else options.cpus,
        nodes=options.nodes,
        kvm=not emulated and probe.kvm_works(kernel),
        parallel=emulator.ensure() if options.parallel else None,
        icount=options.icount,
        publish=publish,
        shares=shares_of(tree, writable, programs),
        virtiofs=kernel.share == "virtiofs",
        disk=disk,
        gdb=options.gdb,
        iommu=options.iommu,
    )
    modules = kernels.disk_modules(kernel) if own_root else []
    return guest, job, initramfs.build(kernel.boot_modules, job, modules, tree or Path("/"))


def served(guest: Machine) -> contextlib.AbstractContextManager[list[int]]:
    """Sockets to the processes that serve the shares, if QEMU does not do that itself."""
    return virtiofs.served(guest.shares) if guest.virtiofs else contextlib.nullcontext([])


def cpu_seconds() -> float:
    """What QEMU has used, once it has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Boot, run, return the status."""
    kernel = kernels.ensure(Wanted.parse(options.kernel[0], options.arch))
    guest, job, initrd = prepare(options, command, kernel)
    session = Session(kernel.name, job.token, Console(options.console), guest.platform.package)
    session.slow = options.slow
    timeout = None if options.timeout is None else options.timeout * options.slow
    with memory_file("initrd", initrd) as (fd, path), served(guest) as share_fds:
        try:
            session.start(
                lambda console, ports: machine.run_argv(guest, path, console, ports, share_fds),
                (fd, *share_fds),
            )
            if timeout is not None:
                # The relay keeps the time itself, unless a write to our own output blocks it.
                signal.setitimer(signal.ITIMER_REAL, timeout + GRACE_SECONDS)
            assert session.process is not None
            with Brake(session.process, options.slow):
                status = session.relay(timeout)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            session.kill()
    if options.verbose and session.ready_at is not None:
        say(
            f"{kernel.release} under {'KVM' if guest.kvm else 'TCG'}: command started after "
            f"{session.ready_at - session.started_at:.1f} s and ran for "
            f"{time.monotonic() - session.ready_at:.1f} s; {cpu_seconds():.0f} s of CPU time"
        )
    return status


def on_signal(number: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that the guest is ended on the way out."""
    if number == signal.SIGALRM:
        raise HarnessError("time is up, and nobody reads the output of the command")
    raise StoppedError(number)


def open_standard_streams() -> None:
    """Fill the places of closed standard streams, lest a file of ours lands there."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def act(parse: argparse.ArgumentParser, options: argparse.Namespace, command: Sequence[str]) -> int:
    """Do what the options ask for."""
    if options.fetch:
        if options.root:
            roots.ensure(options.root)
            return 0
        for name in options.kernel or SEVERAL:
            kernels.ensure(Wanted.parse(name, options.arch), thorough=True)
        return 0
    if options.list:
        for row in kernels.listing(options.arch):
            print("\t".join(row), flush=True)
        return 0
    if len(options.kernel) != 1:
        parse.error("give one --kernel")
    if options.path:
        print(kernels.ensure(Wanted.parse(options.kernel[0], options.arch)).directory)
        return 0
    if not command:
        parse.error("give a command after --")
    return run(options, command)


def main(argv: Sequence[str]) -> int:
    """Give the exit status; the only place where errors become one."""
    open_standard_streams()
    ours, command = split_command(argv)
    parse = parser()
    options = parse.parse_args(ours)
    if options.command:
        parse.error("put -- before the command")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, on_signal)
    try:
        return act(parse, options, command)
    except HarnessError as error:
        print(f"vm: {error}", file=sys.stderr)
        if isinstance(error, GuestLostError):
            for line in error.console:
                print(f"vm: console: {line}", file=sys.stderr)
        return STATUS_HARNESS
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except StoppedError as stop:
        return 128 + int(stop.args[0])

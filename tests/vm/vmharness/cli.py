"""The command line of tests/vm/run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import initramfs, kernels, machine, probe, roots
from .cachedir import say
from .errors import STATUS_HARNESS, HarnessError
from .machine import Machine, Publish
from .memfile import memory_file
from .session import Console, GuestLostError, Session, new_token

CHECKOUT = Path(__file__).resolve().parents[3]
PASSED_ON = ("TERM", "COLUMNS", "LINES", "CI", "PYTEST_ADDOPTS")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS = 3
COVERED = ("/tmp", "/run", "/dev")  # the guest mounts something of its own there


class StoppedError(Exception):
    """A signal asked us to stop."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors cannot be mistaken for a status of the command."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, with the harness's own status."""
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
    series = list(kernels.ORIGINS)
    parse.add_argument(
        "--kernel",
        action="append",
        choices=series,
        default=[],
        metavar="K",
        help=f"one of {', '.join(series)}",
    )
    parse.add_argument(
        "--fetch",
        action="store_true",
        help="only fetch the kernels (all without --kernel), or the --root, then exit",
    )
    parse.add_argument("--path", action="store_true", help="print the kernel's directory")
    parse.add_argument(
        "--root",
        choices=roots.SUITES,
        metavar="SUITE",
        help="not over this machine's files, but as a service of systemd on a root of "
        "this Debian suite; of this machine's files only the checkout and --writable are there",
    )
    parse.add_argument("--memory", default="2G", metavar="M", help="default 2G")
    parse.add_argument("--cpus", type=int, default=2, metavar="N", help="default 2")
    parse.add_argument("--nodes", type=int, default=1, metavar="N", help="of memory, default 1")
    parse.add_argument(
        "--icount", action="store_true", help="one CPU whose clock counts instructions"
    )
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
    parse.add_argument("--console", type=Path, metavar="FILE", help="keep the kernel's console")
    parse.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parse.add_argument("--verbose", action="store_true", help="say how long things took")
    parse.add_argument("command", nargs="*", metavar="COMMAND")
    return parse


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after the first --."""
    if "--" in argv:
        at = list(argv).index("--")
        return list(argv[:at]), list(argv[at + 1 :])
    return list(argv), []


def guest_environment(
    ours: Mapping[str, str], series: str, extra: Sequence[str], *, own_root: bool = False
) -> dict[str, str]:
    """The command's environment: little of ours, so that runs are alike everywhere."""
    environment = {name: ours[name] for name in PASSED_ON if name in ours}
    environment |= {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "PATH": SYSTEM_PATH if own_root else f"{CHECKOUT}/.venv/bin:{SYSTEM_PATH}",
        "KSMWATCH_VM_KERNEL": series,
    }
    for item in extra:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise HarnessError(f"--env {item}: want NAME=VALUE")
        environment[name] = value
    return environment


def covered(path: str) -> bool:
    """Whether a fresh file system of the guest would hide a host path."""
    return any(path == place or path.startswith(place + "/") for place in COVERED)


def kept_paths(paths: Sequence[str], *, everything: bool = False) -> list[str]:
    """Host paths to show through the guest's own /tmp and the like, outermost first.

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


def run(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Boot, run, tell the status."""
    writable = writable_directories(options.writable)
    own_root = options.root is not None
    environment = guest_environment(os.environ, options.kernel[0], options.env, own_root=own_root)
    publish = tuple(Publish.parse(text) for text in options.publish)
    memory = machine.parse_memory(options.memory)
    kernel = kernels.ensure(options.kernel[0])
    disk = roots.ensure(options.root) if own_root else None
    kvm = not options.icount and probe.kvm_works(kernel)
    here = str(Path.cwd())
    modules = str(kernel.directory / "lib/modules" / kernel.release)
    job = initramfs.Job(
        command=command,
        directory=here,
        environment=environment,
        token=new_token(),
        modules=modules,
        writable=writable,
        keep=kept_paths([here, str(CHECKOUT)], everything=own_root),
        network=bool(publish),
        disk=own_root,
    )
    guest = Machine(
        image=kernel.image,
        memory=memory,
        cpus=1 if options.icount else options.cpus,
        nodes=options.nodes,
        kvm=kvm,
        icount=options.icount,
        publish=publish,
        writable=tuple(writable),
        disk=disk,
    )
    session = Session(kernel.series, job.token, Console(options.console))
    disk_modules = kernels.disk_modules(kernel) if own_root else []
    initrd = initramfs.build(kernel.boot_modules, job, disk_modules)
    with memory_file("initrd", initrd) as (fd, path):
        try:
            session.start(lambda console, ports: machine.run_argv(guest, path, console, ports), fd)
            if options.timeout is not None:
                # The relay keeps the time itself, unless a write to our own output blocks it.
                signal.setitimer(signal.ITIMER_REAL, options.timeout + GRACE_SECONDS)
            status = session.relay(options.timeout)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            session.kill()
    if options.verbose and session.ready_at is not None:
        say(
            f"{kernel.release} under {'KVM' if kvm else 'TCG'}: command started after "
            f"{session.ready_at - session.started_at:.1f} s and ran for "
            f"{time.monotonic() - session.ready_at:.1f} s"
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
        for series in options.kernel or kernels.ORIGINS:
            kernels.ensure(series, thorough=True)
        return 0
    if len(options.kernel) != 1:
        parse.error("give one --kernel")
    if options.path:
        print(kernels.ensure(options.kernel[0]).directory)
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

"""Raw system calls, on the kernel that the tests run on."""

from __future__ import annotations

import ctypes as ct
import errno
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ksmwatch.kernel import syscalls

_PR_SET_NAME = 15


def status(name: str) -> str:
    """A line of this thread's /proc status."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return next(line.partition(":\t")[2] for line in lines if line.startswith(f"{name}:"))


def in_thread(work: object) -> None:
    """Run something where it can do no harm."""
    assert callable(work)
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert failed == []


def test_prctl_does_what_it_is_told() -> None:
    def work() -> None:
        name = ct.create_string_buffer(b"renamed")
        syscalls.prctl(_PR_SET_NAME, ct.addressof(name))
        assert status("Name") == "renamed"

    in_thread(work)


def test_prctl_that_is_refused_has_the_kernels_reason() -> None:
    with pytest.raises(OSError, match="prctl 99999: Invalid argument") as raised:
        syscalls.prctl(99999)
    assert raised.value.errno == errno.EINVAL


def test_capabilities_are_those_of_proc() -> None:
    shown = tuple(int(status(name), 16) for name in ("CapEff", "CapPrm", "CapInh"))
    assert syscalls.capabilities() == shown


def test_capabilities_that_are_set_are_read_again() -> None:
    def work() -> None:
        effective, permitted, inheritable = syscalls.capabilities()
        # Of the lower half and of the upper one.
        fewer = ~(1 << 2 | 1 << 39)
        wanted = (effective & fewer, permitted & fewer, inheritable & fewer)
        syscalls.set_capabilities(wanted)
        assert syscalls.capabilities() == wanted
        with pytest.raises(PermissionError, match="capset"):
            syscalls.set_capabilities((permitted & fewer, (1 << 64) - 1, inheritable))

    in_thread(work)


def test_a_classic_program_points_to_its_instructions() -> None:
    program = syscalls.ClassicProgram([(0x20, 0, 0, 4), (0x06, 1, 2, 0x7FFF0000)])
    length, address = struct.unpack("HP", program.record)
    assert length == 2
    assert ct.string_at(address, 16) == struct.pack(
        "=HBBIHBBI", *(0x20, 0, 0, 4), *(0x06, 1, 2, 0x7FFF0000)
    )


def test_a_kernel_without_the_pmu_has_no_kprobes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        syscalls.open_kprobe("f", at_return=False, sys=tmp_path)


def test_a_kprobe_that_is_refused_names_its_function(tmp_path: Path) -> None:
    pmu = tmp_path / "bus/event_source/devices/kprobe"
    pmu.mkdir(parents=True)
    # No PMU has this number.
    (pmu / "type").write_text("4000000000\n")
    with pytest.raises(OSError, match="kprobe some_function: "):
        syscalls.open_kprobe("some_function", at_return=True, sys=tmp_path)


def test_giving_memory_back_harms_nothing() -> None:
    syscalls.give_memory_back()


HEAPS = """
import ctypes, sys, threading
from ksmwatch.kernel import syscalls
if sys.argv[1] == "one":
    syscalls.share_one_heap()
thread = threading.Thread(target=lambda: ctypes.CDLL(None).malloc(1000))
thread.start()
thread.join()
areas = [line.split() for line in open("/proc/self/maps")]
# What the C library reserves for a heap of a thread: 64 MiB in all.
sizes = [[int(end, 16) for end in area[0].split("-")] for area in areas if area[1] == "---p"]
print(sum(60 << 20 < end - begin < 64 << 20 for begin, end in sizes))
"""


@pytest.mark.parametrize(("heaps", "found"), [("one", "0"), ("many", "1")])
def test_a_thread_has_a_heap_of_its_own_unless_they_share_one(heaps: str, found: str) -> None:
    command = [sys.executable, "-I", "-c", HEAPS, heaps]
    assert subprocess.check_output(command, text=True).strip() == found

"""What may pass is tried again, later and later; what cannot is not."""

from __future__ import annotations

import errno
import os

import pytest

from ksmwatch.counting.comeback import PASSING, Comeback, may_pass


@pytest.mark.parametrize("number", sorted(PASSING))
def test_what_a_host_is_short_of_may_pass(number: int) -> None:
    assert may_pass(OSError(number, os.strerror(number)))
    assert may_pass(f"The kernel said: {os.strerror(number)}.")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.E2BIG])
def test_what_the_kernel_will_never_take_does_not(number: int) -> None:
    assert not may_pass(OSError(number, os.strerror(number)))
    assert not may_pass(os.strerror(number))


@pytest.mark.parametrize(
    "words",
    [
        # bcc under RLIMIT_AS, by glibc 2.36; under RLIMIT_NOFILE; Python's own; LLVM's.
        "libLLVM-14.so.1: failed to map segment from shared object",
        "could not open bpf map: accounts, error: Too many open files",
        "MemoryError",
        "LLVM ERROR: out of memory",
    ],
)
def test_what_the_loader_says_when_it_is_short_of_something(words: str) -> None:
    assert may_pass(f"The BPF programs could not be compiled: {words}.")


def test_a_loader_that_timed_out_may_be_quicker_later() -> None:
    assert may_pass(TimeoutError("timed out"))


def test_attempts_come_later_and_later_until_one_succeeds() -> None:
    comeback, now, waited = Comeback(), 1000.0, []
    assert not comeback.is_due(now)
    for _ in range(8):
        comeback.failed(now, passing=True)
        assert not comeback.is_due(comeback.due - 0.1)
        waited.append(comeback.due - now)
        now = comeback.due
        assert comeback.is_due(now)
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60]
    comeback.succeeded()
    assert not comeback.is_due(now + 1000)


def test_what_cannot_pass_ends_it() -> None:
    comeback = Comeback()
    comeback.failed(0.0, passing=True)
    comeback.failed(1.0, passing=False)
    assert not comeback.is_due(1e9)

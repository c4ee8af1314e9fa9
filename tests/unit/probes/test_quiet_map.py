"""A map that is read and written by programs: what they are asked, and when a list is whole."""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct

import pytest

from ksmwatch.kernel import bpf_maps, libbpf
from ksmwatch.probes.map_records import Forgetting
from ksmwatch.probes.quiet_map import QuietMap

KEY, OTHER = struct.pack("<Q", 77), struct.pack("<Q", 78)
VALUE = bytes(range(24))
ACCESS, LISTER, LINK = 31, 32, 33


class FakePrograms:
    """bpf/access.c on a dictionary."""

    def __init__(self) -> None:
        self.elements: dict[bytes, bytes] = {}
        self.forgotten = Forgetting(5, 5)
        # What happens during each list.
        self.meanwhile: list[Forgetting] = []
        self.failure = 0
        self.lists = 0

    def attach_iterator(self, program: int, table: int) -> int:
        """Over the elements of a map."""
        assert (program, table) == (LISTER, 3)
        return LINK

    def run(self, program: int, request: ct.Array[ct.c_char]) -> int:
        """Do what is asked; the negative errno as it is in the kernel."""
        assert program == ACCESS
        operation, _ = struct.unpack_from("<2Q", request)
        key, value = request.raw[8:16], request.raw[16:]
        if self.failure:
            return -self.failure
        if operation == 1 and key in self.elements:
            return -errno.EEXIST
        if operation in (1, 2):
            self.elements[key] = value
            return 0
        if key not in self.elements:
            return -errno.ENOENT
        if operation == 0:
            ct.memmove(ct.addressof(request) + 16, self.elements[key], len(value))
        else:
            del self.elements[key]
        return 0

    def read(self, link: int) -> bytes:
        """All elements, as the iterator writes them."""
        assert link == LINK
        self.lists += 1
        if self.meanwhile:
            self.forgotten = self.meanwhile.pop(0)
        return b"".join(key + value for key, value in self.elements.items())


class ByCalls(bpf_maps.Map):
    """The same map by system calls."""

    def dump(self) -> tuple[bytes, bytes]:
        """Only what a test looks for."""
        return OTHER, VALUE


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """What the map is accessed by."""
    fake = FakePrograms()
    monkeypatch.setattr(libbpf, "attach_iterator", fake.attach_iterator)
    monkeypatch.setattr(libbpf, "prog_run", fake.run)
    monkeypatch.setattr(libbpf, "read_iterator", fake.read)
    return fake


@pytest.fixture
def quiet(programs: FakePrograms) -> QuietMap:
    """A map, empty."""
    return QuietMap(ByCalls(3, 8, len(VALUE)), ACCESS, LISTER, lambda: programs.forgotten)


def test_it_does_what_a_map_does(quiet: QuietMap) -> None:
    assert quiet.get(KEY) is None
    assert not quiet.delete(KEY)
    quiet.put(KEY, VALUE, bpf_maps.NOEXIST)
    assert quiet.get(KEY) == VALUE
    quiet.put(KEY, VALUE[::-1])
    assert quiet.dump() == (KEY, VALUE[::-1])
    assert quiet.delete(KEY)
    assert quiet.get(KEY) is None


@pytest.mark.parametrize("number", [errno.EEXIST, errno.E2BIG, errno.EBUSY])
def test_what_the_kernel_refuses_is_told(
    quiet: QuietMap, programs: FakePrograms, number: int
) -> None:
    programs.failure = number
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        quiet.put(KEY, VALUE, bpf_maps.NOEXIST)
    assert caught.value.errno == number
    with pytest.raises(OSError, match=os.strerror(number)):
        quiet.delete(KEY)
    with pytest.raises(OSError, match=os.strerror(number)):
        quiet.get(KEY)


def test_a_list_during_which_an_account_went_is_made_again(
    quiet: QuietMap, programs: FakePrograms
) -> None:
    quiet.put(KEY, VALUE)
    programs.meanwhile = [Forgetting(6, 5), Forgetting(6, 6)]
    # Begun in the first list, and over in the second, before which it was under way.
    assert quiet.dump() == (KEY, VALUE)
    assert programs.lists == 3


def test_a_list_that_is_never_whole_is_made_by_system_calls(
    quiet: QuietMap, programs: FakePrograms
) -> None:
    quiet.put(KEY, VALUE)
    programs.meanwhile = [Forgetting(n, n) for n in range(6, 100)]
    assert quiet.dump() == (OTHER, VALUE)


def test_it_closes_the_iterator_alone(quiet: QuietMap, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    quiet.close()
    assert closed == [LINK]

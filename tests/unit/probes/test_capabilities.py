"""Which capabilities stay, and that the others are gone."""

from __future__ import annotations

import threading

import pytest

from ksmwatch.kernel import syscalls
from ksmwatch.kernel.facts import CAPABILITIES
from ksmwatch.kernel.read_facts import read_capabilities
from ksmwatch.probes import capabilities
from ksmwatch.probes.plan import Wish, choose
from tests.fakes import capable, without

READING = {"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}


def test_what_only_loading_asks_for_goes() -> None:
    plan = choose(capable(), Wish.FENTRY)
    for each in (plan, None):
        assert capabilities.needed(each, smaps_ksm=True) == READING


def test_frame_numbers_are_read_where_there_are_several_nodes() -> None:
    plan = choose(without(memory_nodes=(0, 1)), Wish.FENTRY)
    assert capabilities.needed(plan, smaps_ksm=True) == READING | {"CAP_SYS_ADMIN"}


@pytest.mark.parametrize(
    ("wish", "smaps_ksm", "more"),
    [
        (Wish.KPROBE, True, {"CAP_PERFMON", "CAP_SYS_ADMIN"}),
        (Wish.FENTRY, False, {"CAP_SYS_ADMIN"}),
    ],
)
def test_what_is_asked_for_again_and_again_stays(
    wish: Wish,
    smaps_ksm: bool,  # noqa: FBT001
    more: set[str],
) -> None:
    plan = choose(capable(), wish)
    assert capabilities.needed(plan, smaps_ksm=smaps_ksm) == READING | more


def test_capabilities_of_this_thread_and_its_children_only() -> None:
    before = syscalls.capabilities()
    seen: list[tuple[int, int, int]] = []

    def child() -> None:
        seen.append(syscalls.capabilities())

    def work() -> None:
        capabilities.give_up_all_but(())
        seen.append(syscalls.capabilities())
        inner = threading.Thread(target=child)
        inner.start()
        inner.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, 0, 0)] * 2
    assert syscalls.capabilities() == before


def test_what_is_kept_is_what_was_held() -> None:
    held: list[frozenset[str]] = []
    before = read_capabilities()

    def work() -> None:
        capabilities.give_up_all_but(["CAP_BPF", "CAP_SYS_PTRACE"])
        effective, _, _ = syscalls.capabilities()
        held.append(frozenset(n for n, bit in CAPABILITIES.items() if effective >> bit & 1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert held == [before & {"CAP_BPF", "CAP_SYS_PTRACE"}]

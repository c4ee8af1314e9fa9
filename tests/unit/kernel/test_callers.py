"""What machine code shows about callers, and what follows from it."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel import callers
from ksmwatch.kernel.events import EVENTS, TRACEPOINTS, symbols
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.kernel_text import Symbol, callers_and_called, extents, records
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.plan import choose
from ksmwatch.probes.shortcomings import warnings
from tests.callers import code
from tests.fakes import KERNELS, recorded

BASE = 0xFFFFFFFF81000000
REMOVE = "folio_remove_rmap_ptes"
MOVES = "try_to_migrate_one"


def x86_call(here: int, to: int, opcode: bytes = b"\xe8") -> bytes:
    return opcode + struct.pack("<i", to - here - len(opcode) - 4)


def arm_call(here: int, to: int, opcode: int = 0x94000000) -> bytes:
    return struct.pack("<I", opcode | (to - here) >> 2 & 0x3FFFFFF)


@pytest.mark.parametrize("opcode", [b"\xe8", b"\xe9", b"\x0f\x84", b"\x0f\x8f"])
@pytest.mark.parametrize("distance", [-(1 << 24), -160, 4096, 1 << 24])
def test_a_call_or_a_tail_call_is_found_wherever_it_stands(opcode: bytes, distance: int) -> None:
    target = BASE + distance
    text = b"\x90\xe8\x0f" + x86_call(BASE + 3, target, opcode) + b"\xc3\xe8"
    assert callers.has_call(text, BASE, target, "x86_64")
    assert not callers.has_call(text, BASE, target + 1 + 16, "x86_64")
    assert not callers.has_call(text, BASE, target - 1, "x86_64")


def test_a_call_that_was_led_through_the_padding_before_a_function_is_one() -> None:
    target = BASE + 4096
    assert callers.has_call(x86_call(BASE, target - 10), BASE, target, "x86_64")
    assert not callers.has_call(x86_call(BASE, target - 17), BASE, target, "x86_64")


@pytest.mark.parametrize("opcode", [0x94000000, 0x14000000])
@pytest.mark.parametrize("distance", [-(1 << 26), -4, 4, 1 << 26])
def test_branches_of_arm(opcode: int, distance: int) -> None:
    text = struct.pack("<I", 0xD503201F) + arm_call(BASE + 4, BASE + 4 + distance, opcode) + b"\1"
    assert callers.has_call(text, BASE, BASE + 4 + distance, "aarch64")
    assert not callers.has_call(text, BASE, BASE + 8 + distance, "aarch64")


def test_nothing_is_known_of_other_machines() -> None:
    assert callers.has_call(b"", BASE, BASE, "s390x") is None


@given(st.binary(max_size=200), st.integers(-300, 300))
def test_the_product_and_the_tool_find_the_same(text: bytes, distance: int) -> None:
    target = BASE + distance
    near = {target - back for back in range(17)}
    found = any(True for _ in code.x86_calls(text, BASE, near))
    assert callers.has_call(text, BASE, target, "x86_64") == found
    found = any(True for _ in code.arm_calls(text, BASE, {target}))
    assert callers.has_call(text, BASE, target, "aarch64") == found


def inlined(kernel: str, *callers: str) -> Facts:
    facts = recorded(kernel)
    return replace(facts, calls={**facts.calls, **{f"{each} {REMOVE}": False for each in callers}})


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_role_is_proven_on_the_test_kernels(kernel: str) -> None:
    facts = recorded(kernel)
    assert facts.calls_error is None
    for probe in choose(facts).probes:
        assert callers.unseen(facts.calls, probe.event, probe.symbol) == []
        assert callers.unproven(facts.calls, probe.event, probe.symbol) == []
        assert probe.event != "moves_away"


def test_a_migration_that_is_not_seen_is_hooked_where_it_begins() -> None:
    facts = inlined("7.3", MOVES)
    facts = replace(
        facts,
        symbols={**facts.symbols, MOVES: 1},
        prototypes={
            **facts.prototypes,
            MOVES: ("struct folio *", "struct vm_area_struct *", "unsigned long", "void *"),
        },
    )
    plan = choose(facts)
    assert plan.obstacle is None
    probe = plan.probes[-1 - len(TRACEPOINTS)]
    assert probe.event == "moves_away"
    assert [program.name for program in probe.programs] == ["on_moves_away"]
    assert "-DVIA_MOVES_AWAY=FENTRY" in compile_flags(plan, facts, 100)


def test_without_a_stand_in_nothing_may_be_called_exact() -> None:
    facts = inlined("7.3", MOVES)
    facts = replace(facts, symbols={n: c for n, c in facts.symbols.items() if n != MOVES})
    obstacle = choose(facts).obstacle
    assert obstacle is not None
    assert "a KSM page is about to be migrated" in obstacle.sentence


def test_another_role_that_is_not_seen_is_an_obstacle() -> None:
    obstacle = choose(inlined("6.12", "try_to_unmap_one")).obstacle
    assert obstacle is not None
    assert "try_to_unmap_one does not call it (inlined), so a reclaim" in obstacle.sentence


def test_one_caller_of_several_is_enough() -> None:
    role = next(role for role in callers.ROLES if role.meaning == "a copy on write")
    known = {f"do_wp_page {REMOVE}": False, f"wp_page_copy {REMOVE}": True}
    assert role not in callers.unseen(known, "rmap_remove", REMOVE)


def test_what_is_not_known_is_said_and_is_no_obstacle() -> None:
    facts = replace(recorded("6.12"), calls={}, calls_error="no iterator")
    assert choose(facts).obstacle is None
    assert [text for text in warnings(facts) if "could not prove" in text and "no iterator" in text]


def test_roles_are_of_events_that_there_are() -> None:
    assert {role.event for role in callers.ROLES} <= {event.name for event in EVENTS}


def test_what_the_iterator_writes_is_names_with_their_module() -> None:
    record = struct.Struct("<Q32s8s")
    data = record.pack(16, b"f\0left over", b"") + record.pack(64, b"g", b"kvm\0left")
    assert records(data) == [Symbol(16, "f", ""), Symbol(64, "g", "kvm")]


def test_every_name_that_is_looked_for_is_found_whole() -> None:
    # One that fills its field would have no end.
    tracepoints = {f"__traceiter_{each.symbol}" for each in TRACEPOINTS}
    names = {*symbols(), *tracepoints, *callers_and_called()}
    assert max(map(len, names)) < 32


def test_a_function_ends_where_the_next_address_begins() -> None:
    names = ((16, "a"), (64, "f"), (64, "f_alias"), (96, "g"), (128, "f2"), (200, "g"))
    found = [Symbol(address, name, "") for address, name in names]
    assert extents(found, ["f", "g", "a", "none", "f2"]) == {
        "f": (64, 96),
        "a": (16, 64),
        "f2": (128, 200),
    }

"""The -D flags of a plan."""

from __future__ import annotations

import pytest

from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.plan import Wish, choose
from tests.fakes import capable, recorded, without

FENTRY, KPROBE = Mechanism.FENTRY, Mechanism.KPROBE
NO_BTF = {"btf_error": "gone", "offsets": {}, "prototypes": {}}


def flags(facts: Facts, wish: Wish = Wish.AUTO) -> set[str]:
    found = compile_flags(choose(facts, wish), facts, 4096)
    assert len(found) == len(set(found))
    return set(found)


def test_flags_name_the_mechanism_and_the_areas_position() -> None:
    assert {
        "-DMAX_ACCOUNTS=4096",
        "-DMACHINE_X86_64",
        "-DACCOUNT_MAP_FLAGS=1",
        "-DVIA_RMAP_ADD=FENTRY",
        "-DRMAP_ADD_VMA=3",
        "-DVIA_RMAP_REMOVE=FENTRY",
        "-DRMAP_REMOVE_VMA=3",
        "-DVIA_MERGE=FENTRY",
        "-DMERGE_ARGUMENTS=3",
        "-DOFF_page_mapping=24",
    } <= flags(capable())


def test_flags_by_kprobe_differ_in_nothing_but_the_mechanism() -> None:
    found = flags(capable(), Wish.KPROBE)
    assert {"-DVIA_RMAP_REMOVE=KPROBE", "-DRMAP_REMOVE_VMA=3"} <= found
    found = flags(recorded("6.1"), Wish.KPROBE)
    assert {"-DRMAP_ADD_VMA=1", "-DRMAP_REMOVE_VMA=1"} <= found


def test_casts_are_flags_where_there_are_any() -> None:
    assert {"-DCAST_FUNCTION=71539", "-DCAST_PAGE=85216"} <= flags(capable(), Wish.KPROBE)
    assert not [flag for flag in flags(without(casts={})) if "CAST" in flag]


def test_layout_flags_come_from_one_source() -> None:
    facts = without(**NO_BTF, headers="/lib/modules/x/build")
    found = flags(facts)
    assert {"-DLAYOUT_FROM_HEADERS", "-DHAVE_STRUCT_FOLIO_HOOKS"} <= found
    assert not any(flag.startswith("-DOFF_") for flag in found)
    assert "-DLAYOUT_FROM_HEADERS" not in flags(capable())


def test_before_bpf_mem_alloc_the_maps_are_preallocated() -> None:
    assert "-DACCOUNT_MAP_FLAGS=0" in flags(without(bpf_mem_alloc=False))


def test_ages_are_compiled_in_only_where_they_are_wanted_and_can_be_told() -> None:
    facts = capable()
    ages = {"-DAGES", "-DMAX_AGES=65536"}
    assert ages <= flags(facts)
    assert {"-DAGES", "-DMAX_AGES=8192"} <= flags(without(bpf_mem_alloc=False))
    unwanted = compile_flags(choose(facts, ages=False), facts, 4096)
    assert flags(facts) - set(unwanted) == ages
    assert not flags(facts, Wish.KPROBE) & ages


@pytest.mark.parametrize(
    ("nodes", "room"), [((), None), ((0,), None), ((0, 1), 2), ((0, 2), 4), ((0, 7), 8)]
)
def test_accounts_have_room_for_the_nodes_that_there_are(
    nodes: tuple[int, ...], room: int | None
) -> None:
    found = [flag for flag in flags(without(memory_nodes=nodes)) if flag.startswith("-DNODES")]
    assert found == ([] if room is None else [f"-DNODES={room}"])

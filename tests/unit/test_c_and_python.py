"""What the C programs and the Python modules share is the same in both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ksmwatch.kernel import struct_layout
from ksmwatch.kernel.events import EVENTS, STAND_INS
from ksmwatch.probes import age_maps, sources
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.map_records import (
    AGE_CLASSES,
    AGES_ROOM,
    ARRIVALS,
    DEPARTURES,
    WEAR,
    Account,
    Baseline,
    Movement,
    Total,
)
from ksmwatch.probes.plan import Wish, choose
from tests.fakes import KERNELS, recorded

# ---- C and Python ----


ROOT = Path(__file__).resolve().parents[2]


def c_source(*names: str) -> str:
    """Sources without comments."""
    text = "\n".join((ROOT / "bpf" / name).read_text() for name in names)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def c_body(kind: str, name: str) -> str:
    """The text between the braces of an enum or struct."""
    found = re.search(rf"{kind} {name} {{(.*?)}}", c_source("records.h"), re.DOTALL)
    assert found is not None
    return found[1]


def c_enum(name: str, known: dict[str, int]) -> dict[str, int]:
    """Values by name."""
    values: dict[str, int] = {}
    following = 0
    for item in filter(None, (part.strip() for part in c_body("enum", name).split(","))):
        word, _, value = (part.strip() for part in item.partition("="))
        values[word] = known[value] if value else following
        following = values[word] + 1
    return values


def c_members(name: str) -> set[str]:
    """Names of the members of a struct."""
    found = re.findall(r"(?:struct (\w+) )?(\w+)(?:\[\w+\])?;", c_body("struct", name))
    # A record inside it counts as its members.
    return {each for kind, member in found for each in (c_members(kind) if kind else {member})}


def test_movements_are_those_of_the_programs() -> None:
    values = c_enum("movement", {})
    assert values.pop("MOVEMENTS") == len(Movement)
    assert values == {
        **{f"IN_{m.name}": m.value for m in ARRIVALS},
        **{f"OUT_{m.name}": m.value for m in DEPARTURES},
    }


def test_totals_are_those_of_the_programs() -> None:
    values = c_enum("total", c_enum("movement", {}))
    assert values.pop("TOTALS") == len(Movement) + len(Total)
    assert values == {f"T_{t.name}": t.value for t in Total}


@pytest.mark.parametrize(("struct", "record"), [("account", Account), ("baseline", Baseline)])
def test_records_have_the_members_of_the_programs(
    struct: str, record: type[Account | Baseline]
) -> None:
    members = c_members(struct) - {"unused"}
    if record is Account:
        members = members - set(WEAR) | {"wear"}
    assert members == set(record._fields)


def test_maps_are_those_of_the_programs() -> None:
    text = c_source("accounts.c", "ages.c", "looks.c")
    declared = re.findall(r"^((?:BPF|MAPPED)_\w+)\((.*?)\);", text, re.MULTILINE)
    # Where the name is among the arguments.
    places = {"BPF_F_TABLE": 3, "MAPPED_RECORD": 1, "BPF_ARRAY": 0}
    names = {arguments.split(",")[places[macro]].strip() for macro, arguments in declared}
    assert names == set(sources.MAPS)


def test_ages_have_the_classes_and_the_room_of_the_programs() -> None:
    found = dict(re.findall(r"^#define (AGE\w+) (\d+)", c_source("records.h"), re.MULTILINE))
    assert int(found["AGE_CLASSES"]) == AGE_CLASSES
    assert int(found["AGES_ROOM"]) == AGES_ROOM
    # The classes and the sum for each reason; then what is held, and what was dropped.
    assert (AGE_CLASSES + 1) * len(DEPARTURES) + 2 <= AGES_ROOM
    (ratio,) = re.findall(r"GOLDEN_RATIO (0x\w+?)ULL", c_source("ages.c"))
    assert int(ratio, 16) == age_maps.GOLDEN_RATIO


def test_all_sources_are_compiled() -> None:
    assert set(sources.SOURCES) == {path.name for path in (ROOT / "bpf").glob("*.c")}


ALL = (*sources.SOURCES, *sources.HEADERS, "headers/include/asm/ptrace.h")


def fields_used() -> set[str]:
    """Members that the programs read, by a function that MEMBER() makes, PLACE() or OFF_."""
    text = c_source(*ALL)
    # Where the offsets and the means are made, not used.
    text = re.sub(r"#define (OFF_|PLACE|MEMBER).*(\\\n.*)*|#ifdef OFF_.*", "", text)
    made = {
        f"{kind}_{member}"
        for kind, member in re.findall(r"^MEMBER\((\w+), (\w+),", text, re.MULTILINE)
    }
    unused = {name for name in made if f"{name}(" not in text}
    assert unused == set()
    places = re.findall(r"\b(?:PLACE\([^()]+|DIRECT\([\w *]+, \w+), (\w+)\)", text)
    return made | set(re.findall(r"\bOFF_(\w+)", text)) | set(places) - {"member"}


def test_members_are_looked_up_if_and_only_if_the_programs_read_them() -> None:
    assert fields_used() == {member.name for member in struct_layout.MEMBERS}


def test_headers_give_the_same_members_as_btf() -> None:
    defined = set(re.findall(r"#define OFF_([a-z]\w*) offsetof", c_source("layout.h")))
    assert defined == {member.name for member in struct_layout.MEMBERS}


PROGRAMS = c_source(*sources.SOURCES)


def test_the_programs_are_those_of_the_events() -> None:
    events = {event.name.upper() for event in (*EVENTS, *STAND_INS)}
    programs = re.findall(r"^(?:int|u64) on_\w+\(CONTEXT\((\w+)\)", PROGRAMS, re.MULTILINE)
    assert set(programs) == events


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("wish", Wish)
def test_every_program_of_a_plan_is_in_the_sources(kernel: str, wish: Wish) -> None:
    plan = choose(recorded(kernel), wish)
    assert plan.obstacle is None
    for probe in plan.probes:
        for program in probe.programs:
            assert program.rest is None or f"u64 {program.rest}(" in PROGRAMS
            assert re.search(rf"^(int|u64) {program.name}\(", PROGRAMS, re.MULTILINE)


@pytest.mark.parametrize("wish", [Wish.FENTRY, Wish.KPROBE])
def test_every_flag_is_asked_for_by_the_sources(wish: Wish) -> None:
    facts = recorded("7.3")
    # By a macro that is given the event.
    text = c_source(*ALL).replace("event##", "EVENT").replace("PASTE(VIA_, event)", "VIA_EVENT")
    names = {flag[2:].split("=")[0] for flag in compile_flags(choose(facts, wish), facts, 16)}
    asked = {name for name in names if not name.startswith(("OFF_", "HAS_"))}
    asked = {
        re.sub("VIA_.*", "VIA_EVENT", re.sub(".*_ARGUMENTS", "EVENT_ARGUMENTS", n)) for n in asked
    }
    assert {name for name in asked if not re.search(rf"\b{name}\b", text)} == set()

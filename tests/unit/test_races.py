"""The parts of the directed interleavings that need no guest."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.races import places, run
from tests.races.code import Place, behind, behind_call, disassemble, end_of, inside, parse
from tests.races.gdb import GdbError, packet, stopped_thread, take_packet
from tests.races.guest import ROOT, parking
from tests.races.race import differences

# endbr64; call +0; movq $3,0x18(%rax); call 0x2000; ret
CODE = bytes.fromhex("f30f1efa e800000000 48c740180300 0000 e8ea0f0000 c3")
BEGIN = 0x1000


def found(place: Place) -> list[int]:
    return place.find(disassemble(CODE, BEGIN), {0x2000})


def test_a_packet_has_a_checksum_and_is_taken_from_a_stream() -> None:
    assert packet("g") == b"$g#67"
    assert take_packet(b"+$OK#9a$T0") == ("OK", b"$T0")
    assert take_packet(b"+") == (None, b"+")
    with pytest.raises(GdbError):
        take_packet(b"$OK#00")


def test_a_stop_names_its_cpu() -> None:
    assert stopped_thread("T05thread:02;") == 2
    assert stopped_thread("T02thread:p01.0a;") == 10


def test_places_are_found_by_what_stands_there() -> None:
    assert found(inside("f")) == [BEGIN + 9]
    assert found(behind("f", r"movq? +\$0x3,0x18\(%r\w+\)")) == [BEGIN + 17]
    assert found(behind_call("f", "g")) == [BEGIN + 22]
    assert found(end_of("f")) == [BEGIN + 22]


def test_a_parked_cpu_loops_until_the_way_out_is_opened() -> None:
    code = parking(0x5000, 0x9000)
    loop = disassemble(code, 0x5000)
    assert [each.text for each in loop[:1]] == ["pause"]
    assert (loop[1].target, loop[2].target) == (0x5000, 0x9000)


def test_listing_is_parsed() -> None:
    (call,) = parse("  1000:\tcall   0x2000 # comment\n")
    assert (call.address, call.target, call.calls) == (0x1000, 0x2000, True)


def document(**changes: object) -> dict[str, object]:
    return {"listed": [5, 6], "exact": [(5, 2)], "host": "exact"} | changes


def verdict(truth: list[tuple[int, int]], **changes: object) -> list[str]:
    return differences({"truth": truth, "snapshots": [document(**changes)]})


def test_only_counts_that_are_called_exact_can_be_wrong() -> None:
    assert not verdict([(5, 2), (6, 9)])
    assert verdict([(5, 1)]) == ["process 5: counted 2, true 1"]
    assert verdict([]) == ["process 5: counted 2, true 0"]
    assert verdict([(5, 2), (7, 1)]) == ["process 7: counted 0, true 1"]


def test_every_scenario_says_what_meets_what() -> None:
    assert shutil.which("objdump")
    files = {path.stem for path in (ROOT / "tests/races/scenarios").glob("[!_]*.py")}
    assert {each.__module__.rpartition(".")[2] for each in run.scenarios().values()} == files
    assert all(each.__doc__ for each in run.scenarios().values())
    assert str(places.PROTECTED) == "behind write_protect_page in try_to_merge_one_page"


def test_scenarios_that_the_documentation_names_are_there() -> None:
    text = (ROOT / "docs/exactness.md").read_text()
    named = set(re.findall(r"`((?:[a-z]+_){4,}[a-z]+)`", text))
    assert named
    assert named <= run.scenarios().keys()

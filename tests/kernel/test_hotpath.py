"""What the hooks cost: instructions, the same every time, so that a bound on them is a test.

Needs a guest of its own whose clock counts instructions (``tests/vm/run --icount``).
"""

from __future__ import annotations

from bench.hotpath import RATIO, ratio
from bench.hotpath_guest import Operation, check_ruler, measure_case, prepare
from tests.ksmctl import Ksm

PAGES = 5003
UNMAP = Operation("munmap", ("unmap", PAGES, 3), (1,), PAGES)


def test_awake_an_unmapped_page_costs_little_more_than_with_an_empty_program(ksm: Ksm) -> None:
    prepare()
    check_ruler()
    cases = ("nothing", "empty fentry", "fentry")
    costs = {case: measure_case(case, ksm, [UNMAP]) for case in cases}
    print(costs)
    # Not less either: then something was not attached.
    assert 1 < ratio(costs, "fentry") <= RATIO

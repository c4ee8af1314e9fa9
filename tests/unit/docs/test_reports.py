"""Public reports that were replayed: each wrong answer that was found has a test that names it.

On commit 8c729c5 the answers were wrong. The table names a test
function, or what stands in a table of cases (tests/unit/owners/*.toml, run by test_judgement.py).

 1  memory is offered and ksmd has never scanned: "no process has offered memory"
 2  only zero pages are merged: nothing saved, nobody merges
 3  a hypervisor whose launcher has renamed it is a unit
 4  a daemon in a cgroup name space of its own loses pods, QoS and guests
 5  a private file mapping that was only read: blames the heap
 6  memory in swap: "nothing to do"
 7  switches that limit merging (merge_across_nodes and others) are not named
 8  MemoryKSM= is advised where systemd ignores it
 9  the class of a machine scope is guessed from its name
10  runtimes whose directories were not known: kata, podman's pods by cgroupfs, ECS, Slurm
11  advice to write files that an advisor or a tuner holds
12  a prefork server's mappings are taken for savings
"""

from __future__ import annotations

import ast

import pytest

from tests.guests import ROOT

CAUSES = "tests/unit/diagnose/test_causes.py"
ADVICE = "tests/unit/diagnose/test_advice.py"
OWNERS = "tests/unit/owners"

TESTS: dict[int, tuple[tuple[str, str], ...]] = {
    1: ((CAUSES, "test_memory_is_offered_that_ksmd_has_never_seen"),),
    2: (
        (CAUSES, "test_zero_pages_are_merged_pages"),
        (
            "tests/kernel/test_savings.py",
            "test_zero_pages_are_savings_of_the_host_and_of_their_owner",
        ),
    ),
    3: ((f"{OWNERS}/vms.toml", "# microvm.nix: exec -a microvm@web"),),
    4: ((f"{OWNERS}/kubernetes.toml", "# inspektor-gadget#3085"),),
    5: ((CAUSES, "test_page_cache_of_a_private_mapping_is_no_fault_of_the_heap"),),
    6: ((CAUSES, "test_what_is_in_swap_cannot_merge"),),
    7: (
        (CAUSES, "test_switches_that_limit_merging_are_named"),
        (CAUSES, "test_merging_across_nodes_is_changed_after_unmerging"),
    ),
    8: ((ADVICE, "test_the_key_of_systemd_is_not_named_without_its_version"),),
    9: (
        (f"{OWNERS}/vms.toml", "machine-web.scope"),
        (f"{OWNERS}/containers.toml", "x2dweb.scope/payload/init.scope"),
    ),
    10: (
        (f"{OWNERS}/vms.toml", "/kata_overhead/"),
        (f"{OWNERS}/containers.toml", "/libpod_parent/"),
        (f"{OWNERS}/containers.toml", "/ecs/"),
    ),
    11: (
        (CAUSES, "test_who_holds_a_file_is_named"),
        (ADVICE, "test_a_running_tuner_is_found"),
        (ADVICE, "test_a_page_that_tells_to_set_ksm_says_who_else_may"),
    ),
    12: (
        (f"{OWNERS}/test_savings.py", "test_a_prefork_server_saves_what_it_saved_before"),
        (
            "tests/kernel/test_savings.py",
            "test_a_prefork_server_saves_what_it_saved_before_it_forked",
        ),
    ),
}


def test_no_fault_is_without_a_test() -> None:
    assert list(TESTS) == list(range(1, 13))


@pytest.mark.parametrize(
    ("path", "name"), [case for cases in TESTS.values() for case in cases], ids=lambda text: text
)
def test_the_test_is_there(path: str, name: str) -> None:
    text = (ROOT / path).read_text()
    if path.endswith(".py"):
        functions = {
            node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)
        }
        assert name in functions
    else:
        assert name in text

"""One probe per event, or the one sentence why not: a capable host minus one capability."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel.events import EVENTS, TRACEPOINTS, Mechanism, Tracepoint, symbols
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import LOOKER, Plan, Probe, Wish, choose
from tests.fakes import capable, recorded, without

FENTRY, KPROBE = Mechanism.FENTRY, Mechanism.KPROBE
NO_BTF = {"btf_error": "gone", "offsets": {}, "prototypes": {}}
REQUIRED = [event for event in EVENTS if event.required]
FLAGLESS = {name: at for name, at in capable().offsets.items() if name != "page_flags"}


def probe(plan: Plan, event: str) -> Probe:
    (found,) = (p for p in plan.probes if p.event == event)
    return found


def why(plan: Plan, event: str, mechanism: Mechanism, symbol: str) -> str:
    key = (event, mechanism, symbol)
    (found,) = (r.why for r in plan.rejected if (r.event, r.mechanism, r.symbol) == key)
    return found


# ---- choices ----


def test_a_capable_host_gets_fentry_everywhere_and_the_tracepoints() -> None:
    plan = choose(capable())
    assert [(p.event, p.mechanism.value, p.symbol) for p in plan.probes] == [
        ("mm_goes", "fentry", "__mmdrop"),
        ("owner", "fentry", "mm_update_next_owner"),
        ("emptied", "fentry", "exit_mmap"),
        ("enter", "fentry", "__ksm_enter"),
        ("migrate", "fentry", "migrate_pages"),
        ("rmap_add", "fentry", "folio_add_anon_rmap_ptes"),
        ("rmap_remove", "fentry", "folio_remove_rmap_ptes"),
        ("merge", "fentry", "try_to_merge_one_page"),
        ("protect", "fentry", "write_protect_page"),
        ("tree_grows", "fentry", "anon_rmap_tree_insert"),
        ("tree_shrinks", "fentry", "anon_rmap_tree_remove"),
        ("move", "fentry", "move_page_tables"),
        ("mm_opened", "fentry", "mm_access"),
        ("swapin", "fentry", "ksm_might_need_to_copy"),
        ("break_cow", "fentry", "break_cow"),
        ("fork", "raw_tracepoint", "sched_process_fork"),
        ("cgroup", "raw_tracepoint", "cgroup_attach_task"),
    ]
    assert plan.rejected == ()
    assert (plan.layout, plan.mechanisms) == ("btf", "fentry")


def test_asleep_only_those_probes_stay_that_see_ksm_wake_up() -> None:
    plan = choose(capable())
    assert {p.event for p in plan.probes if p.asleep} == {
        "break_cow",
        "cgroup",
        "merge",
        "migrate",
        "mm_opened",
        "protect",
        "swapin",
    }


@pytest.mark.parametrize(
    ("event", "mechanism", "programs"),
    [
        ("rmap_add", FENTRY, [("on_rmap_add", False)]),
        ("rmap_add", KPROBE, [("on_rmap_add", False)]),
        (
            "merge",
            FENTRY,
            [
                ("on_merge", False),
                ("on_merge_return", True),
            ],
        ),
        ("merge", KPROBE, [("on_merge", False), ("on_merge_return", True)]),
        ("mm_opened", FENTRY, [("on_mm_opened_return", True)]),
        ("mm_opened", KPROBE, [("on_mm_opened_return", True)]),
    ],
)
def test_program_names(event: str, mechanism: Mechanism, programs: list[tuple[str, bool]]) -> None:
    chosen = probe(choose(capable(), Wish(mechanism.value)), event)
    assert [(p.name, p.at_return) for p in chosen.programs] == programs
    assert {(p.mechanism, p.symbol) for p in chosen.programs} == {(mechanism, chosen.symbol)}


def test_a_wish_rules_the_other_mechanism_out() -> None:
    plan = choose(capable(), Wish.KPROBE)
    assert {p.mechanism for p in plan.probes} == {KPROBE, Mechanism.RAW_TRACEPOINT}
    assert plan.mechanisms == "kprobe"
    assert why(plan, "merge", FENTRY, "try_to_merge_one_page") == "--probes=kprobe"


def realtime(**changes: Any) -> Facts:
    """A host with PREEMPT_RT that can do everything."""
    offsets = {**capable().offsets, "rw_semaphore_rwbase": 0}
    return without(offsets=offsets, **changes)


def test_where_everything_can_be_preempted_kprobes_cannot() -> None:
    plan = choose(realtime())
    assert {p.mechanism for p in plan.probes} == {KPROBE, Mechanism.RAW_TRACEPOINT}
    assert "can preempt it" in (why(plan, "rmap_remove", FENTRY, "folio_remove_rmap_ptes") or "")
    # What the operator asks for is what he gets.
    assert choose(realtime(), Wish.FENTRY).mechanisms == "fentry"
    assert choose(realtime(kprobes=False)).mechanisms == "fentry"


def test_a_skipped_run_that_nobody_counts_is_worse_than_many_that_are_counted() -> None:
    assert choose(realtime(release="6.1.0-50-rt-amd64")).mechanisms == "fentry"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (choose(capable()), None),
        (
            choose(recorded("6.1").with_refusal("migrate", FENTRY, "migrate_pages", "error 524")),
            "one of its hooks is a kprobe",
        ),
        (choose(capable(), ages=False), "--ages.one-in=0"),
        (choose(capable(), Wish.KPROBE), "one of its hooks is a kprobe"),
        (choose(realtime(), Wish.FENTRY), "PREEMPT_RT"),
        (choose(without(symbols={**capable().symbols, "migrate_pages": 2})), "pages are migrated"),
    ],
)
def test_ages_are_kept_where_every_coming_and_going_is_seen(plan: Plan, words: str | None) -> None:
    assert plan.probes
    assert (plan.ageless is None) if words is None else words in (plan.ageless or "")


@pytest.mark.parametrize(
    ("facts", "nodes", "words"),
    [
        (capable(), (), None),
        (without(memory_nodes=(0,)), (), None),
        (without(memory_nodes=(0, 1)), (0, 1), None),
        (without(memory_nodes=(1, 7)), (1, 7), None),
        (without(memory_nodes=(0, 8)), (), "node 8"),
        (without(memory_nodes=(0, 1), offsets=FLAGLESS), (), "flags of a page"),
    ],
)
def test_mappings_are_counted_by_node_where_there_are_several(
    facts: Facts, nodes: tuple[int, ...], words: str | None
) -> None:
    plan = choose(facts)
    assert plan.nodes == nodes
    assert (plan.nodeless is None) if words is None else words in (plan.nodeless or "")


def test_where_hooks_are_kprobes_maps_are_not_read_by_system_calls() -> None:
    assert choose(capable()).access == (LOOKER,)
    plan = choose(capable(), Wish.KPROBE)
    assert [program.name for program in plan.access] == [
        "find_changed",
        "access_accounts",
        "access_baselines",
        "list_accounts",
        "list_baselines",
    ]
    assert set(plan.access) <= set(plan.kept) < set(plan.programs)
    refused = capable().with_refusal("access", "iterator", "list_accounts", "no")
    assert choose(refused, Wish.KPROBE).access == (LOOKER,)


def test_without_the_program_that_looks_maps_are_read_as_usual() -> None:
    refused = capable().with_refusal("access", "syscall", "find_changed", "no")
    assert choose(refused).access == ()
    assert len(choose(refused, Wish.KPROBE).access) == 4


def test_without_a_plan_there_is_no_mechanism() -> None:
    assert choose(without(ksm=False)).mechanisms == "none"


def test_a_wish_that_cannot_be_met_is_an_obstacle_that_says_so() -> None:
    plan = choose(without(trampolines=False), Wish.FENTRY)
    assert plan.obstacle is not None
    assert "__mmdrop by fentry: the kernel has no BPF trampolines" in plan.obstacle.sentence
    assert "--probes" not in plan.obstacle.sentence


@pytest.mark.parametrize(
    ("changes", "wish", "mechanism", "expected"),
    [
        ({"trampolines": False}, Wish.AUTO, FENTRY, "the kernel has no BPF trampolines"),
        (
            {"btf_error": "gone"},
            Wish.AUTO,
            FENTRY,
            "no kernel BTF: gone",
        ),
        ({"prototypes": {}}, Wish.AUTO, FENTRY, "not in the kernel's BTF"),
        (
            {"kprobes": False},
            Wish.KPROBE,
            KPROBE,
            "the kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)",
        ),
        (
            {"bpf_programs": {"kprobe": False, "tracing": True}},
            Wish.KPROBE,
            KPROBE,
            "the kernel refuses kprobe programs",
        ),
        (
            {"kprobes_disarmed": True},
            Wish.KPROBE,
            KPROBE,
            "kprobes are switched off (0 in /sys/kernel/debug/kprobes/enabled)",
        ),
        ({"symbols": {"__mmdrop": 2}}, Wish.AUTO, FENTRY, "2 functions have this name"),
        (
            {"symbols": {}},
            Wish.AUTO,
            KPROBE,
            "no such function in this kernel, or it is inlined",
        ),
    ],
)
def test_objections(
    changes: dict[str, Any], wish: Wish, mechanism: Mechanism, expected: str
) -> None:
    # Of the first event: what comes after the first obstacle is not looked at.
    assert why(choose(without(**changes), wish), "mm_goes", mechanism, "__mmdrop") == expected


def test_where_fentry_is_impossible_kprobes_take_over() -> None:
    plan = choose(without(trampolines=False))
    assert plan.obstacle is None
    assert {p.mechanism for p in plan.probes} == {KPROBE, Mechanism.RAW_TRACEPOINT}


def test_a_function_without_the_area_is_of_no_use() -> None:
    facts = recorded("6.1")
    # Before 5.18 (recorded 6.1 is what comes next to it) the function was this.
    prototypes = {**facts.prototypes, "page_remove_rmap": ("struct page *", "_Bool")}
    plan = choose(dataclasses.replace(facts, prototypes=prototypes))
    objection = "its arguments do not include the area (they do since 5.18), so the mm is unknown"
    for mechanism in (FENTRY, KPROBE):
        assert why(plan, "rmap_remove", mechanism, "page_remove_rmap") == objection
    assert plan.obstacle is not None
    assert "folio_remove_rmap_ptes" not in plan.obstacle.sentence
    assert objection in plan.obstacle.sentence


def test_a_refused_probe_is_planned_around_and_named() -> None:
    facts = capable().with_refusal("rmap_add", "fentry", "folio_add_anon_rmap_ptes", "too dear")
    plan = choose(facts)
    assert probe(plan, "rmap_add").mechanism is KPROBE
    assert probe(plan, "rmap_remove").mechanism is FENTRY
    expected = "the kernel refused it: too dear"
    assert why(plan, "rmap_add", FENTRY, "folio_add_anon_rmap_ptes") == expected


def test_when_everything_was_refused_the_kernels_words_are_the_obstacle() -> None:
    facts = capable()
    for mechanism in (FENTRY, KPROBE):
        facts = facts.with_refusal("merge", mechanism, "try_to_merge_one_page", f"no {mechanism}")
    obstacle = choose(facts).obstacle
    assert obstacle is not None
    assert obstacle.sentence == (
        "No probe is possible where ksmd tries to merge a page (without a kpage: by conversion) "
        "(try_to_merge_one_page by fentry: the kernel refused it: no fentry; "
        "try_to_merge_one_page by kprobe: the kernel refused it: no kprobe)."
    )


@pytest.mark.parametrize("tracepoint", TRACEPOINTS, ids=lambda each: each.event)
def test_without_a_tracepoint_live_accounting_goes_on(tracepoint: Tracepoint) -> None:
    event, symbol = tracepoint.event, tracepoint.symbol
    others = capable().tracepoints - {symbol}
    for facts, expected in (
        (without(tracepoints=others), "no such tracepoint in this kernel"),
        (
            capable().with_refusal(event, "raw_tracepoint", symbol, "no"),
            "the kernel refused it: no",
        ),
    ):
        plan = choose(facts)
        assert plan.obstacle is None
        assert {each.event for each in TRACEPOINTS} - {p.event for p in plan.probes} == {event}
        assert why(plan, event, Mechanism.RAW_TRACEPOINT, symbol) == expected


# ---- without BTF ----


def test_headers_stand_in_for_btf() -> None:
    plan = choose(without(**NO_BTF, headers="/lib/modules/x/build"))
    assert plan.obstacle is None
    assert plan.layout == "/lib/modules/x/build"
    assert plan.mechanisms == "kprobe"
    assert probe(plan, "rmap_add").vma == 3
    assert probe(plan, "rmap_remove").vma == 3


def test_without_btf_a_signature_that_once_changed_is_not_trusted() -> None:
    facts = dataclasses.replace(recorded("6.1"), btf_error="gone", offsets={}, prototypes={})
    plan = choose(dataclasses.replace(facts, headers="/lib/modules/x/build"))
    assert plan.obstacle is not None
    assert "its arguments do not include the area" in why(
        plan, "rmap_remove", KPROBE, "page_remove_rmap"
    )


# ---- whatever the host ----

_CANDIDATES = [(e.name, m.value, s) for e in EVENTS for m in (FENTRY, KPROBE) for s in e.symbols]


@given(
    counts=st.fixed_dictionaries({name: st.sampled_from([0, 1, 1, 1, 2]) for name in symbols()}),
    refused=st.lists(st.sampled_from(_CANDIDATES), max_size=6),
    wish=st.sampled_from(Wish),
)
def test_a_plan_has_one_possible_probe_per_event_and_a_reason_for_the_rest(
    counts: dict[str, int], refused: list[tuple[str, str, str]], wish: Wish
) -> None:
    facts = without(symbols={name: n for name, n in counts.items() if n})
    for candidate in refused:
        facts = facts.with_refusal(*candidate, "no")
    plan = choose(facts, wish)
    chosen = [(p.event, p.mechanism.value, p.symbol) for p in plan.probes]
    if plan.obstacle is not None:
        assert not chosen
        return
    # Two probes for one event would count it twice.
    assert len({event for event, _, _ in chosen}) == len(chosen)
    assert {event.name for event in REQUIRED} <= {event for event, _, _ in chosen}
    assert not set(chosen) & set(refused)
    assert not set(chosen) & {(r.event, r.mechanism.value, r.symbol) for r in plan.rejected}
    assert all(counts.get(symbol, 1) == 1 for _, _, symbol in chosen)


@pytest.mark.parametrize(
    ("release", "wish", "told"),
    [
        ("6.1.0-50-amd64", Wish.FENTRY, True),
        ("6.1.0-50-amd64", Wish.KPROBE, False),
        ("6.6.99", Wish.KPROBE, False),
        ("6.7.0", Wish.KPROBE, True),
        ("7.3.4+deb13-amd64", Wish.KPROBE, True),
        ("unreadable", Wish.KPROBE, False),
    ],
)
def test_the_plan_says_whether_skipped_runs_are_told(
    release: str, wish: Wish, *, told: bool
) -> None:
    assert choose(dataclasses.replace(capable(), release=release), wish).tells_missed is told


@pytest.mark.parametrize("mechanism", [FENTRY, KPROBE])
def test_a_migration_that_was_seen_to_begin_is_seen_to_end(mechanism: Mechanism) -> None:
    chosen = probe(choose(capable(), Wish(mechanism.value)), "migrate")
    assert [program.at_return for program in chosen.programs] == [True, False]

"""One probe per event, or the one sentence why not: a capable host minus one capability."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.errors import Exit, NoKsmError, NoLiveError, PrivilegeError
from ksmwatch.kernel.events import EVENTS, FORK_TRACEPOINT, Mechanism, symbols
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.obstacles import Obstacle
from ksmwatch.probes.plan import Plan, Probe, Wish, choose
from ksmwatch.probes.shortcomings import warnings
from tests.fakes import capable, recorded

FENTRY, KPROBE = Mechanism.FENTRY, Mechanism.KPROBE
NO_BTF = {"btf_error": "gone", "offsets": {}, "prototypes": {}}
REQUIRED = [event for event in EVENTS if event.required]
OPTIONAL = [event for event in EVENTS if not event.required]


def without(**changes: Any) -> Facts:
    return dataclasses.replace(capable(), **changes)


def without_symbols(*names: str) -> Facts:
    facts = capable()
    kept = {name: n for name, n in facts.symbols.items() if name not in names}
    return dataclasses.replace(facts, symbols=kept)


def probe(plan: Plan, event: str) -> Probe:
    (found,) = (p for p in plan.probes if p.event == event)
    return found


def why(plan: Plan, event: str, mechanism: Mechanism, symbol: str) -> str:
    key = (event, mechanism, symbol)
    (found,) = (r.why for r in plan.rejected if (r.event, r.mechanism, r.symbol) == key)
    return found


# ---- obstacles ----


OBSTACLES: list[tuple[dict[str, Any], Exit, str]] = [
    (
        {"ksm": False, "release": "9.9"},
        Exit.NO_KSM,
        (
            "This kernel (9.9) has no KSM: /sys/kernel/mm/ksm does not exist, so there is nothing "
            "to watch."
        ),
    ),
    (
        {"capabilities": frozenset({"CAP_BPF"}), "uid": 1000},
        Exit.PRIVILEGE,
        "Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as uid 1000.",
    ),
    (
        {"capabilities": frozenset({"CAP_PERFMON"})},
        Exit.PRIVILEGE,
        (
            "Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as root without "
            "the capabilities."
        ),
    ),
    (
        {"lockdown": "confidentiality"},
        Exit.NO_LIVE,
        ("Kernel lockdown is in confidentiality mode, so BPF programs may not read kernel memory."),
    ),
    (
        {"bpf_error": "libbpf cannot be loaded (why)"},
        Exit.NO_LIVE,
        "BPF programs cannot be loaded: libbpf cannot be loaded (why).",
    ),
    (
        {"bpf_programs": {"kprobe": False, "raw_tracepoint": False, "tracing": False}},
        Exit.NO_LIVE,
        (
            "The kernel refuses BPF programs, although ksmwatch has the capabilities for them "
            "(a security module, seccomp, or a kernel without CONFIG_BPF_SYSCALL)."
        ),
    ),
    (
        {"kallsyms_error": "Permission denied", "symbols": {}},
        Exit.NO_LIVE,
        (
            "/proc/kallsyms cannot be read (Permission denied), so it is unknown which functions "
            "this kernel has."
        ),
    ),
    (
        {"bcc": None, "bcc_error": "not there"},
        Exit.NO_LIVE,
        "bcc is missing (not there): install the package python3-bpfcc.",
    ),
    (
        NO_BTF,
        Exit.NO_LIVE,
        (
            "This kernel has no BTF (gone), and its headers are not installed, so the layout of "
            "its structures is unknown."
        ),
    ),
    (
        {"offsets": {n: o for n, o in capable().offsets.items() if n != "mm_struct_owner"}},
        Exit.NO_LIVE,
        "This kernel's BTF has no mm_struct_owner, which the BPF programs must read.",
    ),
]


@pytest.mark.parametrize(("changes", "status", "sentence"), OBSTACLES)
def test_an_obstacle_is_one_sentence_and_a_status(
    changes: dict[str, Any], status: Exit, sentence: str
) -> None:
    plan = choose(without(**changes))
    assert plan.obstacle == Obstacle(sentence, status)
    assert plan.probes == ()


def test_of_many_obstacles_the_most_basic_is_named() -> None:
    wrong: dict[str, Any] = {}
    for changes, status, sentence in reversed(OBSTACLES):
        wrong.update(changes)
        assert choose(without(**wrong)).obstacle == Obstacle(sentence, status)


@pytest.mark.parametrize(
    "capabilities", [{"CAP_SYS_ADMIN"}, {"CAP_BPF", "CAP_PERFMON"}], ids=["old", "new"]
)
def test_enough_capabilities_are_enough_without_root(capabilities: set[str]) -> None:
    assert choose(without(capabilities=frozenset(capabilities), uid=1000)).obstacle is None


def test_integrity_lockdown_is_no_obstacle() -> None:
    assert choose(without(lockdown="integrity")).obstacle is None


@pytest.mark.parametrize("event", REQUIRED, ids=lambda event: event.name)
def test_an_event_that_cannot_be_seen_is_an_obstacle(event: Any) -> None:
    plan = choose(without_symbols(*event.symbols))
    assert plan.obstacle is not None
    assert plan.obstacle.status is Exit.NO_LIVE
    assert plan.obstacle.sentence.startswith(f"No probe is possible where {event.meaning} (")
    assert "no such function in this kernel, or it is inlined" in plan.obstacle.sentence


@pytest.mark.parametrize("event", OPTIONAL, ids=lambda event: event.name)
def test_an_event_that_is_not_required_may_be_absent(event: Any) -> None:
    plan = choose(without_symbols(*event.symbols))
    assert plan.obstacle is None
    assert event.name not in {p.event for p in plan.probes}
    assert event.name in {r.event for r in plan.rejected}


def test_the_sentence_names_only_the_nearest_candidates() -> None:
    plan = choose(without(trampolines=False, kprobes=False))
    assert plan.obstacle is not None
    assert plan.obstacle.sentence == (
        "No probe is possible where the last reference to an mm is dropped (__mmdrop by fentry: "
        "the kernel has no BPF trampolines; __mmdrop by kprobe: the kernel has no kprobes "
        "(CONFIG_KPROBES, CONFIG_KPROBE_EVENTS))."
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Exit.NO_KSM, NoKsmError),
        (Exit.PRIVILEGE, PrivilegeError),
        (Exit.NO_LIVE, NoLiveError),
    ],
)
def test_an_obstacle_becomes_the_error_with_its_status(status: Exit, kind: type[Exception]) -> None:
    error = Obstacle("Why.", status).error()
    assert type(error) is kind
    assert (error.status, str(error)) == (status, "Why.")


# ---- choices ----


def test_a_capable_host_gets_fentry_everywhere_and_the_fork_tracepoint() -> None:
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
    ]
    assert plan.rejected == ()
    assert (plan.layout, plan.mechanisms) == ("btf", "fentry")


def test_asleep_only_those_probes_stay_that_see_ksm_wake_up() -> None:
    plan = choose(capable())
    assert {p.event for p in plan.probes if p.asleep} == {
        "break_cow",
        "merge",
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


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (without(tracepoints=frozenset()), "no such tracepoint in this kernel"),
        (
            capable().with_refusal("fork", "raw_tracepoint", FORK_TRACEPOINT, "no"),
            "the kernel refused it: no",
        ),
    ],
)
def test_without_the_fork_tracepoint_live_accounting_goes_on(facts: Facts, expected: str) -> None:
    plan = choose(facts)
    assert plan.obstacle is None
    assert "fork" not in {p.event for p in plan.probes}
    assert why(plan, "fork", Mechanism.RAW_TRACEPOINT, FORK_TRACEPOINT) == expected


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


# ---- flags ----


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


# ---- warnings ----


def test_a_host_that_can_do_everything_has_no_warnings() -> None:
    assert warnings(capable()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"foreign_reads": False}, "(/proc/1/smaps_rollup is denied)"),
        (
            {
                "foreign_reads": False,
                "capabilities": frozenset({"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}),
            },
            "(CAP_SYS_PTRACE is missing)",
        ),
        ({"capabilities": frozenset({"CAP_SYS_ADMIN"})}, "Without CAP_NET_ADMIN"),
    ],
)
def test_what_will_be_missed_is_said(changes: dict[str, Any], words: str) -> None:
    (warning,) = warnings(without(**changes))
    assert words in warning
    assert warning.endswith(".")


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

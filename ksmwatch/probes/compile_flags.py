"""The -D flags with which the BPF programs of a plan are compiled. Pure."""

from __future__ import annotations

from ksmwatch.kernel.events import EVENTS, STAND_INS, Mechanism
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import Plan

# Of sampled pages: with the bookkeeping of the kernel about a hundred bytes each. A map that cannot
# allocate as it grows takes all of its memory at once.
_MAX_AGES, _MAX_AGES_AT_ONCE = 1 << 16, 1 << 13


def compile_flags(plan: Plan, facts: Facts, max_accounts: int) -> list[str]:
    """The -D flags that select the programs and tell them the layout."""
    flags = [f"-DMAX_ACCOUNTS={max_accounts}"]
    # BPF_F_NO_PREALLOC: memory per KSM process, not for the whole map. Allocating in a
    # tracing program is safe since 6.1 (bpf_mem_alloc); before, the map is preallocated.
    flags.append(f"-DACCOUNT_MAP_FLAGS={1 if facts.bpf_mem_alloc else 0}")
    if plan.ageless is None:
        largest = _MAX_AGES if facts.bpf_mem_alloc else _MAX_AGES_AT_ONCE
        flags += ["-DAGES", f"-DMAX_AGES={largest}"]
    if plan.nodes:
        # By number. An even one keeps the records whole words.
        flags.append(f"-DNODES={plan.nodes[-1] // 2 * 2 + 2}")
    if plan.layout == "btf":
        flags += [f"-DOFF_{name}={offset}" for name, offset in facts.offsets.items()]
    else:
        flags.append("-DLAYOUT_FROM_HEADERS")
        if "folio_remove_rmap_ptes" in facts.symbols:
            flags.append("-DHAVE_STRUCT_FOLIO_HOOKS")
    flags.append(f"-DMACHINE_{facts.machine.upper()}")
    flags += [f"-DCAST_{name.upper()}={number}" for name, number in facts.casts.items()]
    mechanisms = {probe.event: probe.mechanism for probe in plan.probes}
    for event in (*EVENTS, *STAND_INS):
        # All programs are compiled, but only those of the plan are loaded.
        via = mechanisms.get(event.name, Mechanism.FENTRY)
        flags.append(f"-DVIA_{event.name.upper()}={via.upper()}")
    for probe in plan.probes:
        flags.append(f"-DHAS_{probe.event.upper()}")
        if probe.arguments is not None:
            flags.append(f"-D{probe.event.upper()}_ARGUMENTS={probe.arguments}")
        if probe.vma is not None:
            flags.append(f"-D{probe.event.upper()}_VMA={probe.vma}")
    return flags

"""Which backend, and planning around what the kernel refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from ksmwatch import config
from ksmwatch.config import Config
from ksmwatch.counting import choose_backend
from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.choose_backend import Nothing, start_backend, start_live
from ksmwatch.counting.polling_backend import Poll
from ksmwatch.errors import NoKsmError, NoLiveError, PrivilegeError, SourceError
from ksmwatch.probes import handover
from ksmwatch.probes.attachments import AttachError
from ksmwatch.probes.loader import ProgramRefusedError
from ksmwatch.probes.persistence import Nowhere
from ksmwatch.probes.plan import LOOKER, Plan, Wish, choose
from ksmwatch.probes.programs import Programs
from tests.fakes import capable

# ---- planning around what the kernel refuses ----


class FakeLive:
    """What start_live makes of a loaded plan; some probes cannot be attached."""

    unattachable: tuple[str, ...] = ()
    unlistable: bool = False
    stopped: list[Plan]

    def __init__(self, kept: handover.Kept, reader: object, **options: Any) -> None:
        if type(self).unlistable and len(kept.plan.access) > 1:
            raise ProgramRefusedError("list_accounts", "Operation not permitted")
        self.plan, self.policy = kept.plan, options["policy"]

    def start(self) -> None:
        """Attach, or not."""
        for probe in self.plan.probes:
            if f"{probe.event} {probe.mechanism}" in type(self).unattachable:
                raise AttachError(probe, OSError(22, "Invalid argument"))

    def discard(self) -> None:
        """Detach."""
        type(self).stopped.append(self.plan)


class Kernel:
    """A loader whose kernel refuses some programs by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: set[str] = set()
        self.loads: list[Plan] = []
        monkeypatch.setattr(Programs, "load", lambda _, *what: self._load(*what))
        monkeypatch.setattr(choose_backend, "make_live", FakeLive)
        monkeypatch.setattr(handover, "load", lambda *_, **__: None)
        monkeypatch.setattr(handover, "save", lambda *_: None)
        monkeypatch.setattr(FakeLive, "unattachable", ())
        monkeypatch.setattr(FakeLive, "unlistable", False)
        monkeypatch.setattr(FakeLive, "stopped", [], raising=False)

    def _load(self, plan: Plan, flags: Sequence[str]) -> object:
        assert "-DMAX_ACCOUNTS=65536" in flags
        self.loads.append(plan)
        for probe in plan.probes:
            for program in probe.programs:
                name, mechanism = program.name, program.mechanism
                if {name, f"{name} by {mechanism}"} & self.refuses:
                    raise ProgramRefusedError(program.name, "Permission denied")
        return object()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def settings(**changes: Any) -> Config:
    return config.make({}, changes)


def mechanisms(plan: Plan) -> dict[str, str]:
    return {probe.event: probe.mechanism.value for probe in plan.probes}


def test_nothing_is_refused(kernel: Kernel) -> None:
    live, plan = start_live(capable(), settings(audit_cpu_percent="2", audit_heal="false"))
    assert len(kernel.loads) == 1
    assert mechanisms(plan)["rmap_add"] == "fentry"
    assert isinstance(live, FakeLive)
    assert live.policy == Policy(share=0.02, heal=False)


def test_a_refused_program_is_planned_around(kernel: Kernel) -> None:
    kernel.refuses = {"on_rmap_add by fentry", "on_mm_opened_return by fentry"}
    _, plan = start_live(capable(), settings())
    chosen = mechanisms(plan)
    # With the age of mappings, and without.
    assert len(kernel.loads) == 4
    assert (chosen["rmap_add"], chosen["mm_opened"]) == ("kprobe", "kprobe")
    assert chosen["rmap_remove"] == "fentry"
    assert [r.why for r in plan.rejected if r.event == "mm_opened"] == [
        "the kernel refused it: Permission denied"
    ]


def test_programs_that_tell_ages_and_are_refused_are_loaded_without(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Programs, plan: Plan, flags: Sequence[str]) -> object:
        kernel.loads.append(plan)
        if "-DAGES" in flags:
            raise ProgramRefusedError("on_rmap_remove", "Argument list too long")
        return object()

    monkeypatch.setattr(Programs, "load", load)
    _, plan = start_live(capable(), settings())
    assert len(kernel.loads) == 2
    assert set(mechanisms(plan).values()) == {"fentry", "raw_tracepoint"}
    assert plan.ageless == (
        "the kernel refused the programs that would tell: Argument list too long"
    )


def test_a_map_that_cannot_be_listed_is_planned_around(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLive, "unlistable", True)
    _, plan = start_live(capable(), settings(probes="kprobe"))
    assert [len(each.access) for each in kernel.loads] == [5, 1]
    assert mechanisms(plan)["rmap_add"] == "kprobe"


def test_where_nothing_can_be_linked_the_last_plan_says_why(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLive, "unlistable", True)
    monkeypatch.setattr(FakeLive, "unattachable", ("mm_goes fentry", "mm_goes kprobe"))
    plans: list[Plan] = []
    with pytest.raises(NoLiveError, match="No probe is possible"):
        start_live(capable(), settings(), planned=plans.append)
    assert {r.mechanism.value for r in plans[-1].rejected if r.tried} == {"fentry", "kprobe"}


def test_a_kept_map_that_cannot_be_listed_is_dropped(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keep(Nowhere):
        cleared = False

        def clear(self) -> None:
            self.cleared = True

    monkeypatch.setattr(FakeLive, "unlistable", True)
    wish = settings(probes="kprobe")
    old = handover.Kept(cast(Any, None), {}, choose(capable(), Wish.KPROBE))
    monkeypatch.setattr(handover, "load", lambda *_, **__: old)
    keep = Keep()
    _, plan = start_live(capable(), wish, keep)
    assert keep.cleared
    assert plan.access == (LOOKER,)


def test_each_plan_is_told_before_it_is_tried(kernel: Kernel) -> None:
    kernel.refuses = {"on_rmap_add"}
    plans: list[Plan] = []
    with pytest.raises(NoLiveError):
        start_live(capable(), settings(), planned=plans.append)
    assert plans[:-1] == kernel.loads
    tried = [(r.mechanism.value, r.tried) for r in plans[-1].rejected if r.event == "rmap_add"]
    assert ("fentry", True) in tried
    assert ("kprobe", True) in tried


def test_a_probe_that_cannot_be_attached_is_planned_around(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLive, "unattachable", ("merge fentry",))
    _, plan = start_live(capable(), settings())
    assert mechanisms(plan)["merge"] == "kprobe"
    # The first attempt was taken down before the second.
    assert [mechanisms(p)["merge"] for p in FakeLive.stopped] == ["fentry"]


def test_nothing_is_loaded_where_nothing_can_be_read(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(proc: object, *, smaps_ksm: bool) -> None:
        raise SourceError("No exact read is possible.")

    monkeypatch.setattr(choose_backend, "choose_reader", impossible)
    with pytest.raises(SourceError):
        start_live(capable(), settings())
    # What had been loaded would stay: nothing has its descriptors.
    assert kernel.loads == []


def test_an_optional_probe_is_left_out(kernel: Kernel) -> None:
    kernel.refuses = {"on_break_cow"}
    _, plan = start_live(capable(), settings())
    assert "break_cow" not in mechanisms(plan)
    assert mechanisms(plan)["merge"] == "fentry"


def test_no_way_is_left_for_a_required_event(kernel: Kernel) -> None:
    kernel.refuses = {"on_mm_goes"}
    with pytest.raises(NoLiveError) as caught:
        start_live(capable(), settings())
    assert str(caught.value) == (
        "No probe is possible where the last reference to an mm is dropped "
        "(__mmdrop by fentry: the kernel refused it: Permission denied; "
        "__mmdrop by kprobe: the kernel refused it: Permission denied)."
    )


def test_a_wish_is_not_planned_around(kernel: Kernel) -> None:
    kernel.refuses = {"on_mm_goes by fentry"}
    with pytest.raises(NoLiveError, match="refused it: Permission denied"):
        start_live(capable(), settings(probes="fentry"))


def test_a_program_of_no_probe(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(programs: Programs, plan: Plan, flags: Sequence[str]) -> object:
        raise ProgramRefusedError("stranger", "Invalid argument")

    monkeypatch.setattr(Programs, "load", load)
    with pytest.raises(NoLiveError, match=r"could not be loaded: Invalid argument\.$"):
        start_live(capable(), settings())


def test_a_kernel_that_refuses_for_ever_is_given_up(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_backend, "_refuse", lambda facts, plan, program, why: facts)
    kernel.refuses = {"on_fork"}
    with pytest.raises(NoLiveError, match=r"^The kernel refused every probe that was tried\.$"):
        start_live(capable(), settings())
    assert len(kernel.loads) == 12


# ---- what may pass ----


def test_a_refused_attachment_may_be_taken_later(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLive, "unattachable", ("merge fentry", "merge kprobe"))
    _, obstacle = start_backend(capable(), settings())
    assert obstacle is not None
    assert obstacle.passing


@pytest.mark.parametrize(("why", "passing"), [("Cannot allocate memory", True), ("No.", False)])
def test_a_program_may_find_memory_later(
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
    passing: bool,  # noqa: FBT001
) -> None:
    def load(programs: Programs, plan: Plan, flags: Sequence[str]) -> object:
        raise ProgramRefusedError("on_mm_goes", why)

    monkeypatch.setattr(Programs, "load", load)
    _, obstacle = start_backend(capable(), settings())
    assert obstacle is not None
    assert obstacle.passing is passing


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (NoLiveError("Timed out.").but_it_may_pass(), True),
        (NoLiveError("No BTF."), False),
        (NoLiveError("The BPF programs could not be compiled: MemoryError."), True),
        (SourceError("No luck."), False),
        (OSError(24, "Too many open files"), True),
        (OSError(1, "Operation not permitted"), False),
    ],
)
def test_why_live_failed_says_whether_it_may_pass(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    passing: bool,  # noqa: FBT001
) -> None:
    refuse_live(monkeypatch, error)
    backend, obstacle = start_backend(capable(), settings())
    assert backend.mode is Mode.POLL
    assert obstacle is not None
    assert obstacle.passing is passing


def test_what_a_fact_lacked_may_be_there_later() -> None:
    short = replace(capable(), kallsyms_error="Too many open files")
    _, obstacle = start_backend(short, settings())
    assert obstacle is not None
    assert obstacle.passing


def test_what_a_host_cannot_do_is_for_ever() -> None:
    _, obstacle = start_backend(replace(capable(), kprobes=False, offsets={}), settings())
    assert obstacle is not None
    assert not obstacle.passing


# ---- which backend ----


def refuse_live(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def start(*_: object) -> object:
        raise error

    monkeypatch.setattr(choose_backend, "start_live", start)


def test_live_where_possible(kernel: Kernel) -> None:
    backend, obstacle = start_backend(capable(), settings())
    assert isinstance(backend, FakeLive)
    assert obstacle is None


def test_polling_on_demand_is_without_excuse(kernel: Kernel) -> None:
    backend, obstacle = start_backend(capable(), settings(backend="poll"))
    assert isinstance(backend, Poll)
    assert obstacle is None
    assert kernel.loads == []


@pytest.mark.parametrize("error", [NoLiveError("No luck."), SourceError("No luck.")])
def test_auto_polls_when_live_fails_and_bpf_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refuse_live(monkeypatch, error)
    backend, obstacle = start_backend(capable(), settings())
    assert backend.mode is Mode.POLL
    assert obstacle is not None
    assert obstacle.sentence == "No luck."
    with pytest.raises(NoLiveError, match=r"^No luck\.$"):
        start_backend(capable(), settings(backend="bpf"))


def test_without_privileges(kernel: Kernel) -> None:
    facts = dataclasses.replace(capable(), uid=1000, capabilities=frozenset())
    backend, obstacle = start_backend(facts, settings())
    assert backend.mode is Mode.POLL
    assert obstacle is not None
    assert obstacle.sentence.endswith("ksmwatch runs as uid 1000.")
    with pytest.raises(PrivilegeError):
        start_backend(facts, settings(backend="bpf"))


def test_without_ksm(kernel: Kernel) -> None:
    facts = dataclasses.replace(capable(), ksm=False)
    backend, obstacle = start_backend(facts, settings())
    assert isinstance(backend, Nothing)
    assert obstacle is not None
    assert "has no KSM" in obstacle.sentence
    for demanded in ("bpf", "poll"):
        with pytest.raises(NoKsmError):
            start_backend(facts, settings(backend=demanded))

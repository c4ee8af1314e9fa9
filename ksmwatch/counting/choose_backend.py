"""Chooses and starts the backend of this host: live, polling or none."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ksmwatch.config import Config
from ksmwatch.counting.assembly import make_live
from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Backend, Budget, Counted, Eventless, Evidence
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.comeback import may_pass
from ksmwatch.counting.exact_read import Readers
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.live_backend import Live
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.errors import NoLiveError, PrivilegeError, SourceError
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.node_reader import NodeReader
from ksmwatch.kernel.page_tables import choose_reader
from ksmwatch.log import logger
from ksmwatch.probes import handover
from ksmwatch.probes.attachments import AttachError
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.configured_plan import plan_for
from ksmwatch.probes.loader import Loaded, ProgramRefusedError
from ksmwatch.probes.obstacles import Obstacle
from ksmwatch.probes.persistence import FdStore, Keep, Nowhere
from ksmwatch.probes.pins import Pins
from ksmwatch.probes.plan import ACCESS, AGES, Plan, Probe
from ksmwatch.probes.programs import Programs
from ksmwatch.systemd import Manager

if TYPE_CHECKING:
    from ksmwatch.counting.polling_backend import Poll

# There cannot be more refusals than there are probes to choose from.
_ATTEMPTS = 12
# Errors of a start that do not end the daemon.
OBSTACLES = (NoLiveError, SourceError, OSError, MemoryError)


class Nothing(Eventless):
    """The backend of a kernel without KSM, with nothing to count."""

    mode = Mode.NONE
    asleep = True
    doubt = None

    def __init__(self) -> None:
        self.losses: Counter[str] = Counter()
        self.run = RunWatch(time.monotonic)

    def configure(self, settings: Config) -> None:
        """No setting applies."""

    def tick(self, budget: Budget) -> bool:
        """Nothing is due."""
        return False

    def refresh(self, budget: Budget) -> None:
        """Nothing is due."""

    def counts(self) -> list[Count]:
        return []

    def counted(self) -> Counted:
        return Counted(self.counts(), self.asleep, self.doubt)

    def evidence(self, count: Count) -> Evidence:
        return Evidence()

    def stop(self) -> None:
        """Nothing to stop."""


def start_live(
    facts: Facts,
    settings: Config,
    keep: Keep | None = None,
    progress: Callable[[], None] = lambda: None,
    loader: Callable[[Plan, Sequence[str]], Loaded] | None = None,
    planned: Callable[[Plan], None] = lambda _: None,
) -> tuple[Live, Plan]:
    """Plan, load, attach, and take the baseline. If the kernel refuses a probe, plan again.

    If an earlier daemon has kept its maps and attachments in `keep`, continue with those.
    `progress` is called again and again while something takes long, also later. `loader`: used in
    place of `Programs.load`. `planned`: receives each plan before it is tried.
    Raises NoLiveError if no plan works.
    """
    keep = keep or Nowhere()
    # Before anything is loaded, so that nothing has to be released.
    readers = Readers(choose_reader(Path("/proc"), smaps_ksm=facts.smaps_ksm), _node_reader(facts))

    def make(kept: handover.Kept) -> Live:
        policy = Policy.of(settings)
        return make_live(kept, readers, keep=keep, policy=policy, progress=progress)

    adopted = _adopt(facts, settings, keep, make)
    if adopted is not None:
        return adopted, adopted.plan
    loader = loader or Programs(facts, settings.state_programs_path).load
    # A refused attachment, or too little memory, may pass.
    passing = False
    for _ in range(_ATTEMPTS):
        plan = plan_for(facts, settings)
        planned(plan)
        if plan.obstacle is not None:
            raise NoLiveError(plan.obstacle.sentence).but_it_may_pass(passing)
        try:
            flags = compile_flags(plan, facts, settings.accounts_max)
            loaded = loader(plan, flags)
            live = make(handover.Kept(loaded, {}, plan))
        except ProgramRefusedError as error:
            passing |= may_pass(error.why)
            facts = _refuse(facts, plan, error.program, error.why)
            continue
        try:
            handover.save(loaded, flags, facts, keep)
            live.start()
        except AttachError as error:
            passing = True
            live.discard()
            facts = _with(facts, error.probe, str(error.strerror))
            continue
        return live, plan
    raise NoLiveError("The kernel refused every probe that was tried.").but_it_may_pass(passing)


def _node_reader(facts: Facts) -> NodeReader | None:
    """What reads on which nodes pages lie; None if that is impossible, or there is one node."""
    if len(facts.memory_nodes) < 2:
        return None
    # Most hosts have one node.
    from ksmwatch.kernel.frame_source import choose_frames
    from ksmwatch.kernel.memory_nodes import NodeOfFrame
    from ksmwatch.kernel.page_frames import AnyFrame

    try:
        frames, node_of = choose_frames(Path("/proc")), NodeOfFrame(Path("/sys"))
    except (OSError, SourceError, PrivilegeError) as error:
        why = str(error)
    else:
        if not isinstance(frames, AnyFrame):
            return NodeReader(frames, node_of)
        why = frames.why
    logger.info(
        "it is unknown on which nodes of memory pages lie that were merged before the start",
        extra={"why": why},
    )
    return None


def _adopt(
    facts: Facts, settings: Config, keep: Keep, make: Callable[[handover.Kept], Live]
) -> Live | None:
    kept = handover.load(facts, settings, keep)
    if kept is None:
        return None
    try:
        live = make(kept)
    except ProgramRefusedError:
        # What was kept is of no use to this daemon. The next plan does without.
        keep.clear()
        return None
    if live.adopt():
        return live
    live.discard()
    return None


def open_keep(path: str, manager: Manager) -> Keep:
    """Where objects can outlive us, if the host has such a place: systemd rather than pins."""
    if not path:
        return Nowhere()
    if manager.store_limit:
        return FdStore(manager)
    try:
        return Pins(Path(path))
    except OSError as error:
        logger.warning(
            "counts would be lost if the daemon were killed: the pin directory cannot be used",
            extra={"directory": path, "why": error.strerror},
        )
        return Nowhere()


def _with(facts: Facts, probe: Probe, why: str) -> Facts:
    return facts.with_refusal(probe.event, probe.mechanism, probe.symbol, why)


def _refuse(facts: Facts, plan: Plan, program: str, why: str) -> Facts:
    for probe in plan.probes:
        if any(p.name == program for p in probe.programs):
            # The verifier has to follow more ways if they tell ages. Counts do not need these.
            if plan.tells_ages(probe):
                return facts.with_refusal(AGES, probe.mechanism, probe.symbol, why)
            return _with(facts, probe, why)
    for each in plan.access:
        if each.name == program:
            return facts.with_refusal(ACCESS, each.mechanism, each.name, why)
    raise NoLiveError(f"The BPF programs could not be loaded: {why}.")


def start_poll(facts: Facts, interval: float) -> Poll:
    """The polling backend, with the best reader for this host."""
    # Most daemons never poll.
    from ksmwatch.counting.polling_backend import Poll

    try:
        reader = choose_reader(Path("/proc"), smaps_ksm=facts.smaps_ksm)
    except SourceError:
        reader = None
    return Poll(reader, interval, ksm_stat=facts.ksm_stat)


def start_backend(
    facts: Facts,
    settings: Config,
    keep: Keep | None = None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Backend, Obstacle | None]:
    """The requested backend, or polling and the obstacle to live accounting.

    Raises the obstacle's error if ``bpf`` was demanded.
    """
    backend = settings.backend
    plan = plan_for(facts, settings)
    if not facts.ksm:
        assert plan.obstacle is not None
        if backend != "auto":
            raise plan.obstacle.error()
        return Nothing(), plan.obstacle
    if backend == "poll":
        return start_poll(facts, settings.poll_interval), None
    obstacle = plan.obstacle
    if obstacle is not None:
        # A missing fact may have been caused by a lack of memory or descriptors.
        obstacle = obstacle._replace(passing=may_pass(obstacle.sentence))
    else:
        try:
            return start_live(facts, settings, keep, progress)[0], None
        except OBSTACLES as error:
            obstacle = obstacle_of(error)
    if backend == "bpf":
        raise obstacle.error()
    return start_poll(facts, settings.poll_interval), obstacle


def obstacle_of(error: NoLiveError | SourceError | OSError | MemoryError) -> Obstacle:
    """The obstacle, and whether it may pass."""
    if isinstance(error, MemoryError):
        return obstacle_of(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    if isinstance(error, OSError):
        sentence = f"Live accounting could not be started: {error.strerror or error}."
        return Obstacle(sentence, NoLiveError.status, may_pass(error))
    passing = isinstance(error, NoLiveError) and (error.passing or may_pass(str(error)))
    return Obstacle(str(error), NoLiveError.status, passing)

"""The steps that attach and detach hooks and read every process. `next_step` decides when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ksmwatch.counting.accounting import Accounting
from ksmwatch.counting.age_sampling import AgeSampling
from ksmwatch.counting.ages import AgeState
from ksmwatch.counting.controls import Controls
from ksmwatch.counting.findings import Sweep
from ksmwatch.counting.hooks import Hooks
from ksmwatch.counting.host import Host
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel import procfs
from ksmwatch.log import logger
from ksmwatch.probes.map_records import Total
from ksmwatch.probes.maps import Maps

# Sweeps take at most a fortieth of a core, plus these seconds in advance while a request waits.
# Renewals, before which nothing is known, take a fifth of the time.
_SWEEP_PATIENCE = 40
_ADVANCE_SECONDS = 3
_RENEWAL_PATIENCE = 4
# After these, any process may be wrong.
_SIGNS = (
    Total.FAMILIES_TRUNCATED,
    Total.FAMILIES_CHANGED,
    Total.CONVERSIONS_UNSEEN,
    Total.EVENTS_LOST,
)


class Done(NamedTuple):
    """The progress of sweeps and renewals, and when the next may begin.

    `sweep_at`: of a sweep if no request waits for it; `awaited_at`: of one if a request waits.
    `signs`, `alarms` and `stops` of hooks that the last sweep has followed; drift and resumes that
    the last renewal has made up for. `slept_at`: the stirrings when the hooks were detached; None
    if not all counts were known to be 0 then.
    """

    signs: int = 0
    alarms: int = 0
    stops: int = 0
    sweep_at: float = 0.0
    awaited_at: float = 0.0
    drift: int = 0
    resumes: int = 0
    renew_at: float = 0.0
    slept_at: int | None = None


class Steps:
    """Takes steps, each as a whole, and remembers what it has made up for."""

    def __init__(
        self,
        hooks: Hooks,
        maps: Maps,
        accounting: Accounting,
        progress: Callable[[], None],
        host: Host,
    ) -> None:
        self._hooks = hooks
        self._maps = maps
        self._accounting = accounting
        self.losses: Counter[str] = Counter()
        self._progress = progress
        self._host = host
        self._run_file = procfs.run_file(host.sys)
        self._ksmd = procfs.find_ksmd(host.proc)
        self._controls = Controls(maps, self._ksmd)
        # None if the programs do not keep ages.
        self._ages: AgeSampling | None = None
        if maps.ages is not None:
            self._ages = AgeSampling(maps.ages, maps.total, self._controls, host)
        self._done = Done()
        # Serial of the conversion in which ksmd slept at the last look.
        self._slept_in: int | None = None

    @property
    def done(self) -> Done:
        """The progress so far."""
        return self._done

    def signs(self) -> int:
        """Grows when something happened after which any process may be wrong.

        It belongs to the kernel: it continues from one daemon to the next.
        """
        return self._hooks.missed() + sum(self._maps.total(which) for which in _SIGNS)

    def stirrings(self) -> int:
        """Grows when a KSM page may have been mapped while nothing counted."""
        seen = self._maps.total(Total.MERGE_CONVERTED) + self._maps.total(Total.SWAPIN_KSM)
        # Nothing reports what stirs while probes are stopped.
        return seen + self._hooks.state.stops

    def happened(self) -> tuple[int, ...]:
        """Changes with whatever must be followed at once.

        Probes can be stopped and run again between two looks, so switches are always looked at. A
        probe that was taken off stays off.
        """
        self._hooks.look_at_switches()
        self._maps.look()
        doubts, alarms = self._maps.total(Total.DOUBTS), self._maps.alarms()
        return doubts, alarms, self.stirrings(), self._hooks.state.resumes

    def has_stirred(self) -> bool:
        """Whether a KSM page may be mapped although the hooks are off."""
        # PTEs may have turned. Asked first: what is over by then is among what has stirred.
        turning = self._maps.conversion().in_place
        return turning or self._done.slept_at != self.stirrings()

    # ---- beginning ----

    def see_run(self, watch: RunWatch) -> int | None:
        """Look at KSM's run state."""
        run = procfs.read_number(self._run_file.read)
        if run is None:
            self.losses["run_unreadable"] += 1
        watch.see(run)
        return run

    def start(self) -> None:
        """Attach everything and take the baseline. Raises AttachError."""
        self._controls.asleep()
        self._hooks.put_sentry_on()
        self.wake()

    def adopt(self) -> bool:
        """Continue where an earlier daemon stopped; False if its state is incomplete.

        If it knew nothing, or was killed while hooks were being attached or detached, they are
        reattached and every process is read. Otherwise the counts were kept all along. Each is
        trusted as soon as it has been compared with the page tables. Raises AttachError.
        """
        if not self._hooks.sentry_holds():
            return False
        left = self._maps.read_control()
        if left.opening_doubt or not self._hooks.adopt(left.calls_since):
            self.begin_anew()
            return True
        self._done = Done(signs=self._controls.adopt(left), alarms=left.alarms_swept)
        self._accounting.distrust()
        return True

    # ---- hooks on and off ----

    def wake(self) -> None:
        """Attach the remaining hooks and make every count known. Raises AttachError.

        If nothing stirred while asleep, no KSM page exists and all counts are 0, so nothing needs
        to be read. The hooks count what comes since then.
        """
        self._clear_ages()
        self._hooks.put_on()
        self._begin_ages()
        with self._controls.doubting():
            if self.has_stirred():
                self.sweep(Sweep(baseline=True))
            self._done = self._done._replace(slept_at=None)

    def begin_anew(self) -> None:
        """Detach all attached probes, attach all, and read every process.

        Raises AttachError.
        """
        self._take_all_off()
        self._controls.asleep()
        self._accounting.forget()
        self._made_good(self._hooks.state.resumes)
        self._hooks.put_sentry_on()
        self.wake()

    def renew(self, why: str) -> None:
        """Reattach all probes, and then take every count again.

        Accounts whose mm went meanwhile must be closed. Errors are exported and logged before,
        while there is something to compare with.
        """
        began = self._host.clock()
        self.losses["renewals"] += 1
        logger.warning("reattaching all probes and reading every process", extra={"why": why})
        resumes = self._hooks.state.resumes
        self._take_all_off()
        self._clear_ages()
        if self._hooks.attempt(self._hooks.put_all_on):
            self._begin_ages()
            self.sweep(Sweep(why))
            with self._controls.doubting():
                self._accounting.forget()
                self.sweep(Sweep(why, baseline=True))
            self._made_good(resumes)
        else:
            self._hooks.attempt(self.begin_anew)
        self._hooks.look()
        ended = self._host.clock()
        renew_at = ended + _RENEWAL_PATIENCE * (ended - began)
        self._done = self._done._replace(renew_at=renew_at)

    def _clear_ages(self) -> None:
        if self._ages is not None:
            self._ages.clear()

    def _begin_ages(self) -> None:
        if self._ages is not None:
            self._ages.begin()

    def _take_all_off(self) -> None:
        """Detach everything. Nothing sees the end of a conversion that is under way now."""
        self._hooks.take_all_off()
        self._maps.end_conversion()

    def see_conversion(self) -> None:
        """If ksmd sleeps, which it does not do in a conversion, the end of one was missed.

        Call it every few seconds. ksmd must sleep at two looks in the same conversion: at the first
        it may just have ended that, and begin another before we can say so.
        """
        now = self._maps.conversion()
        if not now.page or not self._ksmd or not procfs.sleeps(self._host.proc / str(self._ksmd)):
            self._slept_in = None
        elif self._slept_in != now.serial:
            self._slept_in = now.serial
        else:
            self._maps.end_conversion()

    def _made_good(self, resumes: int) -> None:
        """From now on, no count that was wrong is used."""
        drift = self._accounting.audited().drift
        self._done = self._done._replace(drift=drift, resumes=resumes, slept_at=None)

    def sleep(self, stirrings: int) -> None:
        """Detach the hooks: no KSM page exists, which is more than that none is mapped.

        A KSM page that is only in the swap cache can be mapped again, and keeps its stable node,
        which pages_shared counts until ksmd looks. What stirs between the look at the counts and
        the detachment shows later as a difference from `stirrings`.
        """
        self._controls.asleep()
        self._hooks.take_off()
        self._accounting.forget()
        self._done = self._done._replace(slept_at=stirrings)

    # ---- all processes ----

    def sweep(self, sweep: Sweep) -> None:
        """Read every process exactly. What happens after its beginning asks for another sweep."""
        began, spent = self._host.clock(), self._host.cpu()
        self._controls.sees_calls_since(self._hooks.calls_since())
        self._done = self._done._replace(
            signs=self.signs(),
            alarms=self._maps.alarms(),
            stops=self._hooks.state.stops,
        )
        self._accounting.sweep(sweep, self._progress)
        if not sweep.baseline:
            # Signs may never cease. Then no sweep makes anything known, and would only take time.
            pause = _SWEEP_PATIENCE * (self._host.cpu() - spent)
            at = max(self._done.sweep_at, began) + pause
            awaited_at = at - _SWEEP_PATIENCE * _ADVANCE_SECONDS
            self._done = self._done._replace(sweep_at=at, awaited_at=awaited_at)
        self.tell()

    # ---- ages of mappings, if the programs keep them ----

    def sample_ages(self, one_in: int) -> None:
        """Keep ages for at most one page in this many."""
        if self._ages is not None:
            self._ages.least = one_in

    def tick_ages(self, run: int | None) -> None:
        """Call it about every second."""
        if self._ages is not None:
            self._ages.tick(run)

    def age_state(self) -> AgeState | None:
        """How long mappings last; None if that is not known here."""
        return None if self._ages is None else self._ages.state()

    # ---- for a successor ----

    def tell(self) -> None:
        """Tell a successor the progress of sweeps, and whether a process is missing."""
        self._controls.swept(
            self._done.signs, self._done.alarms, complete=self._accounting.complete
        )

    def tell_unknown(self) -> None:
        """Say that nothing is known: if this daemon is killed now, a successor must begin anew."""
        self._controls.doubt()

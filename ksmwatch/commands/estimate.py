"""``ksmwatch estimate``: what merging would save, by reading pages and merging none."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ksmwatch.commands import estimate_subjects as subjects
from ksmwatch.commands import estimate_view
from ksmwatch.commands.estimate_view import Report, Spent
from ksmwatch.commands.progress import Progress, StoppedError
from ksmwatch.diagnose import content_sample, equal_pages
from ksmwatch.diagnose.content_sample import ContentSample, Domain, Strata
from ksmwatch.diagnose.equal_pages import Rules
from ksmwatch.diagnose.estimate import EstimateResult, Material, Seen, judge
from ksmwatch.diagnose.merge_cost import cost_of
from ksmwatch.diagnose.page_prints import ZERO_PRINT
from ksmwatch.diagnose.page_survey import Survey, Tools
from ksmwatch.diagnose.sharers import Label
from ksmwatch.errors import Exit, NoKsmError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.facts import version_of
from ksmwatch.kernel.frame_source import choose_frames, demand_frames, pinned_frames
from ksmwatch.kernel.memory_nodes import NodeOfFrame, read_memory_nodes
from ksmwatch.kernel.page_content import choose_source, zero_frame
from ksmwatch.kernel.page_frames import AnyFrame
from ksmwatch.kernel.page_tables import memory_is_poisoned

# So many pages are read whole without a thought: a gibibyte.
SMALL = 1 << 18
# The part of the contents that is read at least, where the budget allows.
_PART = 1 / 64
_LEAST_PART = 1 / 4096
# Of the budget, for looking at the beginning of each page.
_LOOKING = 0.5
# Reading a whole page costs at most this many times what its beginning costs. It is read twice.
_WHOLE_COST = 10 * 2
# How long between two readings, where ksmd's own pace is not in between.
_LEAST_WAIT, _MOST_WAIT = 1.0, 20.0
_STEP = 0.2
# Of /sys/kernel/mm/ksm: all that is merged.
_MERGED = ("pages_shared", "pages_sharing", "ksm_zero_pages")


@dataclass(frozen=True)
class EstimateWish:
    """What is wanted, and what it may cost.

    `subjects`: processes and owners that are compared with each other; none: all. `precision`: in
    percent of what is looked at. `budget`: seconds of CPU. `interval`: between two readings, None:
    as ksmd does. `seed`: of the sample, None: any.
    """

    subjects: tuple[str, ...]
    labels: tuple[Label, ...]
    precision: float
    budget: float
    interval: float | None
    seed: int | None


def run(
    wish: EstimateWish, *, as_json: bool, proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> Exit:
    """Print what merging would save. Raises KsmwatchError when nothing can be read."""
    ksm, _ = procfs.read_ksm(sys)
    if ksm is None:
        raise NoKsmError("This kernel has no KSM (CONFIG_KSM).")
    estimator = Estimator(wish, ksm, proc, sys)
    with estimator.progress.interruptible():
        estimator.read_all()
    after, _ = procfs.read_ksm(sys)
    report = estimator.report(after or {})
    shown = report.result.owners
    if as_json:
        print(json.dumps(estimate_view.document(report, shown), indent=1))
    else:
        print(estimate_view.text(report, shown))
    if estimator.progress.was_interrupted:
        raise KeyboardInterrupt
    return Exit.OK


def _tools(proc: Path, sys: Path, ksm: dict[str, int]) -> Tools:
    demand_frames(proc)
    source, why = choose_source(proc)
    frames = choose_frames(proc) if ksm.get("pages_shared") else None
    known = None if isinstance(frames, AnyFrame) else frames
    kernel = version_of((proc / "sys/kernel/osrelease").read_text())
    node_of = None
    if ksm.get("merge_across_nodes") == 0 and len(read_memory_nodes(sys)) > 1:
        node_of = NodeOfFrame(sys)
    pins = pinned_frames(proc)
    poisoned = memory_is_poisoned(proc)
    return Tools(proc, kernel, source, zero_frame(proc), known, pins, why, node_of, poisoned)


class Estimator:
    """Reads processes in three steps, and makes the report."""

    def __init__(self, wish: EstimateWish, ksm: dict[str, int], proc: Path, sys: Path) -> None:
        self._wish, self._ksm, self._proc = wish, ksm, proc
        self.progress = Progress(wish.budget)
        self._tools = _tools(proc, sys, ksm)
        self._parties, processes = subjects.find(proc, wish.subjects, wish.labels)
        self._survey = Survey(self._tools, processes, self.progress.tick)
        self._doubts: list[str] = []
        # Whether all that was chosen was read twice.
        self._complete = False
        self._part = 1.0
        self._seed = random.randrange(1 << 32) if wish.seed is None else wish.seed  # noqa: S311
        self._waited = 0.0
        # CPU seconds for the beginnings of all pages.
        self._looking = 0.0
        self._choice: ContentSample | None = None

    # ---- reading ----

    def read_all(self) -> None:
        """The three readings, as far as the budget and the user let them go."""
        try:
            self._look()
            self._read_twice()
        except StoppedError as stopped:
            self._doubts.append(f"{stopped}: equal pages were not compared whole")
        self.progress.end()

    def _look(self) -> None:
        processes = self._survey.processes
        total = sum(process.pages for process in processes)
        self.progress.begin("looking at pages", total, _LOOKING)
        for at, process in enumerate(processes):
            try:
                self._survey.look(process)
            except StoppedError as stopped:
                if self.progress.interrupted:
                    raise
                left = len(processes) - at
                self._doubts.append(f"{stopped}: {left} processes were not fully examined")
                break
        self._looking = self.progress.stage_cpu_seconds

    def _read_twice(self) -> None:
        choice = self._choose()
        self.progress.begin("reading pages", int(choice.pages))
        began = time.monotonic()
        contents = self._survey.read(choice)
        self._wait(began + self._interval())
        self._waited = time.monotonic() - began
        self.progress.begin("reading them again", int(choice.pages))
        self._survey.compare(contents)
        self._complete = True

    def _interval(self) -> float:
        """A full scan of what was read, as ksmd is set, within bounds."""
        if self._wish.interval is not None:
            return self._wish.interval
        batch, sleep = self._ksm.get("pages_to_scan", 0), self._ksm.get("sleep_millisecs", 0)
        scan = self._survey.pages / batch * sleep / 1000 if batch else 0.0
        return min(max(scan, _LEAST_WAIT), _MOST_WAIT)

    def _wait(self, until: float) -> None:
        """Wait. Ctrl-C ends the waiting, and a second one ends the steps after it."""
        self.progress.begin("waiting, to see what changes", int(self._interval() / _STEP))
        try:
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _STEP))
                self.progress.tick(1)
        except StoppedError:
            self._doubts.append("it was interrupted: pages that change may count as equal")
            self.progress.interrupted = False

    def _strata(self) -> Strata:
        buckets = content_sample.buckets_for(self._survey.pages)
        self._survey.sort(buckets)
        sizes = content_sample.count([p.buckets for p in self._survey.processes], buckets)
        return Strata(sizes, ZERO_PRINT & (buckets - 1))

    def _choose(self) -> ContentSample:
        survey, wish = self._survey, self._wish
        strata = self._strata()
        part = 1.0
        if wish.precision > 0 and survey.pages > SMALL:
            part = max(_PART, strata.part_for(wish.precision / 100 * survey.pages))
        affordable = self._affordable()
        self._part = part
        while self._part > _LEAST_PART and strata.pages_of(self._part) > affordable:
            self._part /= 2
        if self._part < part:
            self._doubts.append(
                f"the budget of {wish.budget:g} s of CPU was too small for that precision"
            )
        return self._take(strata)

    def _take(self, strata: Strata) -> ContentSample:
        self._choice = strata.choose(self._part, self._seed)
        self._survey.label(self._choice)
        return self._choice

    def _affordable(self) -> float:
        """Pages that can be read whole with what is left of the budget."""
        each = self._looking / max(1, self._survey.pages)
        return max(SMALL / 64, self.progress.left / max(1e-9, each * _WHOLE_COST))

    # ---- what is said ----

    def report(self, after: dict[str, int]) -> Report:
        """What is known by now. `after`: the files of KSM after the reading."""
        survey, progress = self._survey, self.progress
        # If it ended before some were chosen, all of them say the most that can be saved.
        choice = self._choice or self._take(self._strata())
        result = self._judge(choice)
        cpu = procfs.Ksmd(self._proc).cpu_seconds()
        twice, same = survey.read_twice()
        spent = Spent(
            processes=sum(process.begun for process in survey.processes),
            pages=survey.pages,
            whole=sum(process.whole for process in survey.processes),
            changed=twice - same if self._complete else 0,
            part=self._part,
            seed=self._seed,
            interval_seconds=round(self._waited, 3),
            seconds=round(progress.seconds, 3),
            cpu_seconds=round(progress.cpu_seconds, 3),
            read_by=self._tools.source.name,
            read_by_reason=self._tools.why,
        )
        doubts = (*self._doubts, *self._more_doubts(choice, after))
        unexamined = sum(process.unexamined for process in survey.processes)
        left_out = survey.left_out + Counter(unexamined=unexamined)
        return Report(result, cost_of(survey.pages, self._ksm, cpu), spent, doubts, dict(left_out))

    def _more_doubts(self, choice: ContentSample, after: dict[str, int]) -> Iterator[str]:
        if not choice.whole:
            yield f"a sample was read: at least 1 of {1 / self._part:.0f} contents"
        for reason, processes in Counter(self._survey.unread.values()).items():
            yield f"processes that were not read to the end: {processes} ({reason})"
        yield from self._pinned()
        if moved := sum(after.get(name, 0) - self._ksm.get(name, 0) for name in _MERGED):
            yield f"the number of merged pages changed by {moved} meanwhile"
        if self._tools.frames is None and self._ksm.get("pages_shared"):
            yield "KSM pages cannot be distinguished here, so what is saved now is not known"

    def _pinned(self) -> Iterator[str]:
        if held := sum(process.held for process in self._survey.processes):
            yield f"pinned pages that have copies: {held} (their copies may not merge either)"
        pinned = sum(process.pinned for process in self._survey.processes)
        if pinned and (self._tools.pins is None or not self._complete):
            yield f"pinned pages, which do not merge: {pinned} (which ones is not known)"

    def _judge(self, choice: ContentSample) -> EstimateResult:
        survey, ksm = self._survey, self._ksm
        told = self._tools.frames is not None or not ksm.get("pages_shared")
        frames: list[list[int]] = [[] for _ in self._parties]
        zero = [0] * len(self._parties)
        for process in survey.processes:
            if not process.ended:
                frames[process.party].extend(process.merged)
                zero[process.party] += process.zero_pages
        now, parts = equal_pages.saved_now(frames)
        seen = self._seen(choice, [part + own for part, own in zip(parts, zero, strict=True)])
        material = Material(
            self._parties,
            seen if told else [_without(each) for each in seen],
            survey.copies,
            survey.bucket_of,
            choice,
            self._complete,
            now + sum(zero) if told else None,
            sum(zero),
            ksm.get("run") == 1,
        )
        rules = Rules(
            ksm.get("max_page_sharing", 256),
            bool(ksm.get("use_zero_pages")),
            [party.tenant for party in self._parties],
        )
        return judge(material, rules)

    def _seen(self, choice: ContentSample, saved: list[float]) -> list[Seen]:
        survey = self._survey
        chosen: list[dict[int, float]] = [{} for _ in self._parties]
        for (bucket, party), pages in survey.party_pages.items():
            chosen[party][bucket] = float(pages)
        found = []
        for at in range(len(self._parties)):
            mine = [p for p in survey.processes if p.party == at and not p.ended]
            found.append(
                Seen(
                    sum(len(process.places) for process in mine),
                    sum(process.offered for process in mine),
                    sum(process.pinned for process in mine),
                    sum(process.unexamined for process in mine),
                    saved[at],
                    *survey.read_twice(at),
                    Domain(survey.totals(at, choice), chosen[at]),
                )
            )
        return found


def _without(seen: Seen) -> Seen:
    """The same, with the current saving unknown."""
    return replace(seen, saved_now=None)

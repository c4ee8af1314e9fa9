"""What merging would save: judgement on what was read of pages. Pure.

`would_save` and `would_save_all` are sums with what is saved now, so that after merging the one or
the other is what KSM says it saves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ksmwatch.diagnose.content_sample import (
    ContentSample,
    Domain,
    Interval,
    estimate,
    host_domain,
    unread,
    zero_domain,
)
from ksmwatch.diagnose.equal_pages import BY_OWNER, Copies, Gain, Risk, Rules
from ksmwatch.units import PAGE_SIZE

_MIB = 1 << 20
# A smaller saving is not worth advice: a part of an owner's pages, and pages in any case.
_WORTH_PART, _WORTH_PAGES = 0.01, 256
# Of the pages that were read twice, and of those that cannot merge.
_FAST = _MOSTLY = 0.5
# From this many MiB on, no fraction is written.
_MANY = 100


@dataclass(frozen=True)
class EstimateParty:
    """An owner, or a process by itself. `tenant`: equal within a border."""

    kind: str
    id: str
    name: str
    tenant: str


@dataclass(frozen=True)
class Seen:
    """The pages of a party that were read. `same`: those of `whole` that did not change.

    `saved_now`: None where KSM pages cannot be distinguished. `pinned`: pages that cannot merge, as
    the kernel counts them. `unexamined`: pages beside `pages` that were not read.
    """

    pages: int
    offered: int
    pinned: int
    unexamined: int
    saved_now: float | None
    whole: int
    same: int
    domain: Domain

    @property
    def changing(self) -> float:
        """The part of the pages read twice that changed."""
        return 1 - self.same / self.whole if self.whole else 0.0


@dataclass(frozen=True)
class Saving:
    """What merging saves, in pages. None: not known."""

    now: Interval | None
    offered: Interval | None
    everything: Interval | None


@dataclass(frozen=True)
class OwnerResult:
    """The result for an owner, and one sentence of advice."""

    party: EstimateParty
    seen: Seen
    saving: Saving
    advice: str


_Gains = defaultdict[tuple[Gain, int | None], defaultdict[int, float]]


@dataclass(frozen=True)
class EstimateResult:
    """What merging would save, in all and between whom."""

    saving: Saving
    zero: Interval
    within_owners: Interval
    within_tenants: Interval
    across_tenants: Interval
    owners: tuple[OwnerResult, ...]


@dataclass(frozen=True)
class Material:
    """What was read. `saved_now`: of the host. `copies`: by content, and node of memory or None.

    `zero_now`: zero pages that KSM has placed. `merging`: whether ksmd scans.
    """

    parties: Sequence[EstimateParty]
    seen: Sequence[Seen]
    copies: Mapping[tuple[int, int | None], Copies]
    bucket_of: Sequence[int]
    choice: ContentSample
    complete: bool
    saved_now: float | None
    zero_now: int
    merging: bool


def _is_sure(gain: Gain, risk: Risk) -> bool:
    # Zero pages are counted, whether or not they merge.
    return gain is Gain.ZERO or risk < (Risk.OFFERED if gain is Gain.OFFERED else Risk.IF_OFFERED)


class _Sums:
    """Gains by bucket. `sure`: without contents at risk; None if there are none."""

    def __init__(self, material: Material, rules: Rules) -> None:
        self._choice = material.choice
        self._all: _Gains = defaultdict(lambda: defaultdict(float))
        risks = {
            place: risk
            for place, copies in material.copies.items()
            if (risk := copies.risk(rules, zero=place[0] == 0))
        }
        self._sure: _Gains | None = defaultdict(lambda: defaultdict(float)) if risks else None
        for place, copies in material.copies.items():
            content, _ = place
            bucket = material.bucket_of[content]
            for key, value in copies.gains(rules, zero=content == 0).items():
                self._all[key][bucket] += value
                if self._sure is not None and _is_sure(key[0], risks.get(place, Risk.NONE)):
                    self._sure[key][bucket] += value

    def of(self, gain: Gain, party: int | None, domain: Domain) -> Interval:
        """What all buckets have of such a gain."""
        found = estimate(self._all[gain, party], domain, self._choice)
        if self._sure is None:
            return found
        return replace(found, low=estimate(self._sure[gain, party], domain, self._choice).low)


def judge(material: Material, rules: Rules) -> EstimateResult:
    """The owners that have most to gain first."""
    sums = _Sums(material, rules) if material.complete else None
    unexamined = sum(seen.unexamined for seen in material.seen)

    def interval(gain: Gain, party: int | None, domain: Domain) -> Interval:
        found = unread(domain) if sums is None else sums.of(gain, party, domain)
        if party is None:
            return found.more(unexamined)
        return _with_unexamined(found, material.seen[party], unexamined)

    host = host_domain(material.choice)
    owners = []
    for at, (party, seen) in enumerate(zip(material.parties, material.seen, strict=True)):
        more = {gain: interval(gain, at, seen.domain) for gain in BY_OWNER}
        saving = _saving(seen.saved_now, seen.unexamined, more)
        owners.append(OwnerResult(party, seen, saving, _advise(seen, more, material)))
    more = {gain: interval(gain, None, host) for gain in BY_OWNER}
    tenants = interval(Gain.TENANTS, None, host)
    # What does not merge in a tenant by itself may merge with what others have.
    across = interval(Gain.ACROSS, None, host).more(tenants.value - tenants.low)
    return EstimateResult(
        _saving(material.saved_now, unexamined, more),
        interval(Gain.ZERO, None, zero_domain(material.choice)) + material.zero_now,
        interval(Gain.OWNERS, None, host),
        tenants,
        across,
        tuple(sorted(owners, key=_order)),
    )


def _order(owner: OwnerResult) -> tuple[float, str, str]:
    everything = owner.saving.everything
    return -(everything.value if everything else 0), owner.party.kind, owner.party.id


def _with_unexamined(found: Interval, seen: Seen, unexamined: int) -> Interval:
    """What an owner can save if pages were not examined, its own and those of others.

    A page of another owner adds at most half a page to its part, but no page saves more than
    itself.
    """
    added = seen.unexamined + (unexamined - seen.unexamined) / 2
    most = max(found.high, seen.pages + seen.unexamined)
    return found.more(min(added, most - found.high))


def _saving(now: float | None, unexamined: int, more: Mapping[Gain, Interval]) -> Saving:
    if now is None:
        return Saving(None, None, None)
    known = Interval.exactly(now).more(unexamined)
    return Saving(known, more[Gain.OFFERED] + now, more[Gain.MORE] + now)


def amount(interval: Interval) -> str:
    """MiB, with how far it may be off; from low to high if that is not the same on both sides."""
    value, low, high = (each * PAGE_SIZE / _MIB for each in vars(interval).values())
    digits = 0 if value >= _MANY else 1
    below, above = (f"{off:.{digits}f}" for off in (value - low, high - value))
    if below != above:
        digits = 0 if high >= _MANY else 1
        return f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{value:.{digits}f}" + (f" ± {above}" if high > low else "")


def _doubt(material: Material) -> str:
    """Why nothing can be decided."""
    if any(seen.unexamined for seen in material.seen):
        return "not all memory was examined"
    return "copies are pinned" if material.choice.whole else "ask for more precision"


def _mib(pages: float) -> str:
    return amount(Interval.exactly(pages))


def _advise(seen: Seen, more: Mapping[Gain, Interval], material: Material) -> str:
    """One sentence: the first that is right."""
    everything, offered = more[Gain.MORE], more[Gain.OFFERED]
    worth = max(_WORTH_PAGES, _WORTH_PART * seen.pages)
    of = f"of {_mib(seen.pages)} MiB"
    now = seen.saved_now or 0.0
    further = everything.value - offered.value
    ready = offered.low >= worth
    all_of_it = f"; if all of it were offered, {amount(everything)} MiB" if further >= worth else ""
    choices = (
        (not seen.pages and not seen.unexamined, "Unknown: it has ended."),
        (not material.complete, "Unknown: no page of it was read whole."),
        (
            seen.pinned > _MOSTLY * seen.pages,
            f"Leave it: {_mib(seen.pinned)} MiB {of} are pinned and cannot merge.",
        ),
        (
            further >= worth and everything.low >= worth and (further > offered.value or not ready),
            f"Offer it: saves {amount(everything)} MiB more {of}.",
        ),
        (
            ready and material.merging,
            f"Wait: it is offered, and ksmd can save {amount(offered)} MiB more {of}{all_of_it}.",
        ),
        (
            ready,
            f"Start ksmd: it is offered, and saves {amount(offered)} MiB more {of}{all_of_it}.",
        ),
        (
            seen.unexamined > _MOSTLY * (seen.pages + seen.unexamined),
            f"Unknown: {_mib(seen.unexamined)} MiB of it were not examined.",
        ),
        (
            everything.high >= worth > everything.low,
            f"Undecided: saves {amount(everything)} MiB more {of}; {_doubt(material)}.",
        ),
        (
            seen.changing > _FAST,
            f"Leave it: {seen.changing:.0%} of its pages that may have a copy change too fast.",
        ),
        (now >= worth, f"Keep it: it saves {_mib(now)} MiB {of} already."),
    )
    return next(
        (text for right, text in choices if right),
        "Leave it: hardly any of its pages has a copy.",
    )

"""What merging would save, as a table or JSON. Pure: from a result to text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypedDict

from ksmwatch.diagnose.content_sample import Interval
from ksmwatch.diagnose.estimate import EstimateResult, OwnerResult, Saving, amount
from ksmwatch.diagnose.merge_cost import MergeCost
from ksmwatch.schema_marks import Fields
from ksmwatch.terminal_text import clean, fit
from ksmwatch.units import PAGE_SIZE

SCHEMA: Final = "ksmwatch.estimate/1"
_MIB = 1 << 20
_WIDTH = 80
_OWNERS = 20
_NAME, _KIND, _NUMBER = 19, 9, 16


@dataclass(frozen=True)
class Spent:
    """The cost of the estimate. `pages`: examined; `whole`: the part that was read whole, twice.

    `seed`, `part`: the sample, and the part of the contents that it has. `read_by`: kcore or mem;
    `read_by_reason`: why not kcore.
    """

    processes: int
    pages: int
    whole: int
    changed: int
    part: float
    seed: int
    interval_seconds: float
    seconds: float
    cpu_seconds: float
    read_by: str
    read_by_reason: str


@dataclass(frozen=True)
class Report:
    """A result, with its cost and origin. `doubts`: why it is not exact."""

    result: EstimateResult
    cost: MergeCost
    spent: Spent
    doubts: tuple[str, ...]
    left_out: dict[str, int]

    @property
    def confidence(self) -> Literal["exact", "estimated"]:
        """Exact or estimated."""
        return "estimated" if self.doubts else "exact"


# ---- table ----


def text(report: Report, shown: Sequence[OwnerResult]) -> str:
    """For people, in MiB."""
    result = report.result
    now, offered = _amount(result.saving.now), _amount(result.saving.offered)
    tenants, across = amount(result.within_tenants), amount(result.across_tenants)
    lines = [
        f"saved now        {now} MiB",
        f"would be saved   {offered} MiB, if what is offered to KSM were merged",
        f"                 {_amount(result.saving.everything)} MiB, if everything were offered",
        f"of that          {amount(result.zero)} MiB are pages of zeros",
        f"                 {amount(result.within_owners)} MiB within one owner",
        f"                 {tenants} MiB within one tenant, {across} MiB only across tenants",
        *_cost(report.cost),
        _spent(report.spent),
        f"confidence       {report.confidence}",
        *(f"because          {clean(doubt)}" for doubt in report.doubts),
        *(
            f"left out         {pages * PAGE_SIZE / _MIB:.1f} MiB: {reason}"
            for reason, pages in report.left_out.items()
        ),
    ]
    lines = [_wrap(line) for line in lines]
    if shown:
        head = ("NOW MIB", "OFFERED MIB", "ALL MIB")
        lines += ["", _row("OWNER", "KIND", *head)]
    for owner in shown[:_OWNERS]:
        found = owner.saving
        cells = _amount(found.now), _amount(found.offered), _amount(found.everything)
        lines += [_row(owner.party.name, owner.party.kind, *cells), f"    {owner.advice}"]
    if len(shown) > _OWNERS:
        lines += ["", f"{len(shown) - _OWNERS} more owners would save less; --json lists all."]
    return "\n".join(lines)


def _spent(spent: Spent) -> str:
    why = f" ({clean(spent.read_by_reason)})" if spent.read_by_reason else ""
    return (
        f"examined         {spent.pages} pages of {spent.processes} processes by {spent.read_by}"
        f"{why}, "
        f"{spent.whole} of them whole ({spent.changed} changed), in {spent.seconds:.1f} s with "
        f"{spent.cpu_seconds:.1f} s of CPU"
    )


def _wrap(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent=" " * 17, break_long_words=False)


def _row(name: str, kind: str, *cells: str) -> str:
    fixed = f"{fit(name, _NAME)} {fit(kind, _KIND)}"
    return (fixed + "".join(f" {cell:>{_NUMBER}}" for cell in cells)).rstrip()


def _amount(interval: Interval | None) -> str:
    return "unknown" if interval is None else amount(interval)


def _cost(cost: MergeCost) -> list[str]:
    size = cost.book_keeping_bytes / _MIB
    cpu = "unknown" if cost.ksmd_cpu_seconds is None else f"{cost.ksmd_cpu_seconds:.0f} s"
    until = cost.seconds_until_merged
    hour = cost.pages_to_scan_for_an_hour
    return [
        f"would cost       {size:.1f} MiB of ksmd's book-keeping, {cpu} of its CPU time",
        f"would take       {'unknown' if until is None else f'{until:.0f} s'}"
        + (", as ksmd is set now" if cost.ksmd_runs else " once ksmd is started, as it is set now")
        + ("" if hour is None else f"; an hour with pages_to_scan {hour}"),
    ]


# ---- JSON ----


class _Savings(TypedDict):
    """In pages."""

    saved_now: float | None
    saved_now_low: float | None
    saved_now_high: float | None
    would_save: float | None
    would_save_low: float | None
    would_save_high: float | None
    would_save_all: float | None
    would_save_all_low: float | None
    would_save_all_high: float | None


class _Owner(_Savings):
    kind: str
    name: str
    id: str
    tenant: str
    pages: int
    offered_pages: int
    changing: float
    advice: str


class EstimateDocument(TypedDict):
    """What `--json` prints."""

    schema: Literal["ksmwatch.estimate/1"]
    confidence: Literal["exact", "estimated"]
    reasons: list[str]
    page_size: int
    host: _Savings
    owners: list[_Owner]
    zero_pages: float
    zero_pages_low: float
    zero_pages_high: float
    within_owners: float
    within_owners_low: float
    within_owners_high: float
    within_tenants: float
    within_tenants_low: float
    within_tenants_high: float
    across_tenants: float
    across_tenants_low: float
    across_tenants_high: float
    cost: Annotated[dict[str, Any], Fields(MergeCost)]
    left_out: dict[str, int]
    spent: Annotated[dict[str, Any], Fields(Spent)]


def document(report: Report, shown: Sequence[OwnerResult]) -> EstimateDocument:
    """The same as JSON, in pages."""
    result = report.result
    zero, owners = result.zero, result.within_owners
    tenants, across = result.within_tenants, result.across_tenants
    return {
        "schema": SCHEMA,
        "confidence": report.confidence,
        "reasons": list(report.doubts),
        "page_size": PAGE_SIZE,
        "host": _savings(result.saving),
        "owners": [_owner(owner) for owner in shown],
        "zero_pages": _number(zero.value),
        "zero_pages_low": _number(zero.low),
        "zero_pages_high": _number(zero.high),
        "within_owners": _number(owners.value),
        "within_owners_low": _number(owners.low),
        "within_owners_high": _number(owners.high),
        "within_tenants": _number(tenants.value),
        "within_tenants_low": _number(tenants.low),
        "within_tenants_high": _number(tenants.high),
        "across_tenants": _number(across.value),
        "across_tenants_low": _number(across.low),
        "across_tenants_high": _number(across.high),
        "cost": dict(vars(report.cost)),
        "left_out": dict(report.left_out),
        "spent": dict(vars(report.spent)),
    }


def _number(pages: float) -> float:
    """An integer where it is whole. An owner's part of a saving need not be."""
    near = round(pages)
    return near if abs(pages - near) < 1e-6 else round(pages, 3)


def _savings(saving: Saving) -> _Savings:
    return {
        "saved_now": _of(saving.now, "value"),
        "saved_now_low": _of(saving.now, "low"),
        "saved_now_high": _of(saving.now, "high"),
        "would_save": _of(saving.offered, "value"),
        "would_save_low": _of(saving.offered, "low"),
        "would_save_high": _of(saving.offered, "high"),
        "would_save_all": _of(saving.everything, "value"),
        "would_save_all_low": _of(saving.everything, "low"),
        "would_save_all_high": _of(saving.everything, "high"),
    }


def _of(interval: Interval | None, name: str) -> float | None:
    return None if interval is None else _number(getattr(interval, name))


def _owner(owner: OwnerResult) -> _Owner:
    return {
        **_savings(owner.saving),
        "kind": owner.party.kind,
        "name": owner.party.name,
        "id": owner.party.id,
        "tenant": owner.party.tenant,
        "pages": owner.seen.pages,
        "offered_pages": owner.seen.offered,
        "changing": round(owner.seen.changing, 4),
        "advice": owner.advice,
    }

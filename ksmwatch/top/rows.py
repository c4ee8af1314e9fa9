"""Builds the rows of a view from two samples and the user's options: group, filter, sort. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ksmwatch.top.sample import Sample, SampledHolding, SampledOwner, SampledProcess
from ksmwatch.top.values import in_order, sum_if_known
from ksmwatch.top.view import Group, Grouping, Options, Row, RowKey, View


def build(sample: Sample, previous: Sample | None, options: Options) -> View:
    wanted = options.filter
    selected = [p for p in sample.processes if not wanted or matches(p, wanted)]
    empty = View(sample, previous, options, (), len(selected))
    if options.grouping is not Grouping.PROCESS:
        rows = tuple(_grouped(selected, empty))
    elif options.tree:
        rows = tuple(_tree(selected, empty))
    else:
        rows = tuple(Row(p.key, 0, p, "") for p in in_order(selected, empty))
    return replace(empty, rows=rows)


# -- Filter ----------------------------------------------------------------------------------


def matches_owner(owner: SampledOwner, text: str) -> bool:
    """Whether an owner has this text in a name or id, ignoring case."""
    return text.casefold() in owner.words


def matches(process: SampledProcess, text: str) -> bool:
    """Whether a process, or its owner, has this text in a name, ignoring case."""
    wanted = text.casefold()
    return (
        wanted in process.owner.words
        or wanted in process.name.casefold()
        or wanted in process.comm.casefold()
        or wanted == str(process.pid)
    )


# -- Groups ----------------------------------------------------------------------------------

_NO_UNIT, _NO_USER = "(no unit)", "(no user)"


def group_key(process: SampledProcess, grouping: Grouping) -> RowKey:
    """The key that processes of one group have in common."""
    owner = process.owner
    match grouping:
        case Grouping.KIND:
            return grouping, owner.kind
        case Grouping.UNIT:
            return grouping, owner.unit
        case Grouping.USER:
            return grouping, owner.uid
    return grouping, owner.kind, owner.id


def _title(process: SampledProcess, grouping: Grouping) -> tuple[str, str]:
    """Kind and name of a process's group."""
    owner = process.owner
    match grouping:
        case Grouping.KIND:
            return owner.kind, owner.kind
        case Grouping.UNIT:
            return "unit", owner.unit or _NO_UNIT
        case Grouping.USER:
            if owner.kind == "user":
                return "user", owner.name
            return "user", _NO_USER if owner.uid is None else f"uid {owner.uid}"
    return owner.kind, owner.name


def groups(processes: Iterable[SampledProcess], grouping: Grouping) -> list[Group]:
    return [_group(members, grouping) for members in _members(processes, grouping).values()]


def _members(
    processes: Iterable[SampledProcess], grouping: Grouping
) -> dict[RowKey, list[SampledProcess]]:
    by_key: dict[RowKey, list[SampledProcess]] = defaultdict(list)
    for process in processes:
        by_key[group_key(process, grouping)].append(process)
    return by_key


def _group(members: Sequence[SampledProcess], grouping: Grouping) -> Group:
    # Only an owner that is a user has the user's name.
    names = next((p for p in members if p.kind == "user"), members[0])
    return Group(
        group_key(members[0], grouping),
        *_title(names, grouping),
        tuple(members),
        len(members),
        sum(p.mappings for p in members),
        sum_if_known(p.kernel for p in members),
        sum_if_known(p.lag for p in members),
        sum_if_known(p.stray for p in members),
        all(p.exact for p in members),
        None,
    )


def owners(sample: Sample, processes: Iterable[SampledProcess], wanted: str) -> list[Group]:
    """The owners of these processes, and owners that match the filter by themselves.

    An owner with only some matching processes has the sums of these.
    """
    by_key = _members(processes, Grouping.OWNER)
    whole = Counter(p.owner.key for p in sample.processes) if wanted else {}
    found = []
    for holding in sample.owners:
        owner = holding.owner
        key = (Grouping.OWNER, *owner.key)
        members = by_key.pop(key, [])
        if members and wanted and len(members) < whole[owner.key]:
            found.append(_group(members, Grouping.OWNER))
        elif members or not wanted or matches_owner(owner, wanted):
            found.append(_held(key, holding, members))
    # Processes with an unknown owner.
    if not sample.owners:
        found += [_group(members, Grouping.OWNER) for members in by_key.values()]
    return found


def _held(key: RowKey, holding: SampledHolding, members: Sequence[SampledProcess]) -> Group:
    return Group(
        key,
        holding.owner.kind,
        holding.owner.name,
        tuple(members),
        holding.processes,
        holding.mappings,
        holding.kernel,
        holding.lag,
        holding.stray,
        holding.exact,
        holding,
    )


def _grouped(processes: Sequence[SampledProcess], view: View) -> Iterator[Row]:
    options = view.options
    if options.grouping is Grouping.OWNER:
        found = owners(view.sample, processes, options.filter)
    else:
        found = groups(processes, options.grouping)
    for group in in_order(found, view):
        unfolded = options.tree is not (group.key in options.turned)
        mark = "-" if unfolded else "+"
        yield Row(group.key, 0, group, mark if group.members else "")
        if unfolded:
            for process in in_order(group.members, view):
                yield Row((*group.key, process.key), 1, process, "")


def _tree(processes: Sequence[SampledProcess], view: View) -> Iterator[Row]:
    """Processes below their parents. Processes without a listed parent are on top.

    A parent that is younger than its child has reused the pid of one that ended. Parents of equal
    age could form a ring; the ring, and everything below it, is on top.
    """
    children: dict[int | None, list[SampledProcess]] = defaultdict(list)
    starts = {p.pid: p.start_time for p in processes}
    for process in processes:
        # Without a listed parent: a start before all others.
        start = starts.get(process.ppid or 0)
        known = start is not None and start <= process.start_time and process.ppid != process.pid
        children[process.ppid if known else None].append(process)
    seen: set[int] = set()
    # Depth first, without recursion: a chain of forks can be long.
    waiting = [(p, 0) for p in reversed(in_order(children.pop(None, []), view))]
    while waiting:
        process, depth = waiting.pop()
        seen.add(process.pid)
        below = children.pop(process.pid, [])
        folded = process.key in view.options.turned
        yield Row(process.key, depth, process, ("+" if folded else "-") if below else "")
        if folded:
            _skip(below, children, seen)
        else:
            waiting += [(p, depth + 1) for p in reversed(in_order(below, view))]
    for process in in_order([p for p in processes if p.pid not in seen], view):
        yield Row(process.key, 0, process, "")


def _skip(
    below: Iterable[SampledProcess],
    children: dict[int | None, list[SampledProcess]],
    seen: set[int],
) -> None:
    """Mark everything below a folded row as seen."""
    waiting = list(below)
    while waiting:
        process = waiting.pop()
        seen.add(process.pid)
        waiting += children.pop(process.pid, [])

"""Old moments are merged and forgotten; gaps stay gaps, and a clock that jumps costs little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.history.retention import Merge, Retention, Span, due_merges, merged, ripe

KEEP = Retention(fine=3600.0, coarse=7200.0, step=600.0, interval=10.0)


def spans(*times: float) -> list[Span]:
    """Moments of which each begins where the one before ended, the first one ten seconds before."""
    since = [times[0] - 10.0, *times]
    return [Span(n, since[n], time) for n, time in enumerate(times)]


def test_moments_of_ten_minutes_become_one() -> None:
    found = merged(spans(605.0, 615.0, 1200.0, 1210.0), 600.0)
    # What ends at a full step of the clock belongs to the time before it.
    assert found == [Merge(2, 595.0, (0, 1)), Merge(3, 1200.0, ())]


def test_a_gap_stays_a_gap() -> None:
    one, other = Span(1, 600.0, 610.0), Span(2, 800.0, 810.0)
    assert [merge.gone for merge in merged([one, other], 600.0)] == [(), ()]


def test_moments_merge_when_the_whole_step_is_old() -> None:
    batch = spans(*(600.0 + 10 * n for n in range(1, 200)))
    # The step from 600 to 1200 is old from 4800 on.
    assert due_merges(batch, 4799.0, KEEP) == []
    assert [len(merge.gone) for merge in due_merges(batch, 4801.0, KEEP)] == [59]


def test_the_last_of_a_batch_waits_for_the_rest_of_its_step() -> None:
    batch = spans(*(600.0 + 10 * n for n in range(1, 90)))
    assert [merge.id for merge in due_merges(batch, 1e9, KEEP)] == [59]


def test_a_moment_from_the_future_gets_old_with_those_after_it() -> None:
    future = Span(0, 9e9, 9e9)
    assert ripe([future, *spans(100.0, 110.0)], 150.0, 45.0) == 2
    assert ripe([future], 150.0, 45.0) == 0


@given(
    st.lists(
        st.tuples(st.floats(-100, 100), st.floats(0, 30)),
        min_size=1,
        max_size=80,
    )
)
def test_nothing_is_lost_but_moments_between(steps: list[tuple[float, float]]) -> None:
    # A clock that jumps, and gaps.
    found, time = [], 0.0
    for number, (jump, length) in enumerate(steps):
        time += (jump if number % 7 == 3 else 0.0) + length
        gap = 5.0 if number % 5 == 4 else 0.0
        found.append(Span(number, time - length + gap, time))
    merges = merged(found, 60.0)
    assert sorted(n for m in merges for n in (*m.gone, m.id)) == list(range(len(found)))
    by_id = {span.id: span for span in found}
    for merge in merges:
        first = by_id[min((*merge.gone, merge.id))]
        assert merge.since == first.since
        # One after the other, without a gap.
        assert max((*merge.gone, merge.id)) == merge.id

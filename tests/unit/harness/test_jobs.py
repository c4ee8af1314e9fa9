"""Which guest runs which kernel tests: each test once on each kernel that it is for."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.guests import SLOW, Guest
from tests.kernel.run import (
    COUNTING,
    EVERYWHERE,
    FILES,
    LACKING,
    LONG,
    LONG_SECOND_SHARE,
    NODES,
    ONCE_KERNEL,
    ONE_NODE,
    SECOND_SHARE,
    SPECIAL,
    Job,
    own_jobs,
    quick_jobs,
    rest_jobs,
    usual_jobs,
)

KERNELS = ["6.1", "6.12", "7.3"]
OTHERS = ["6.1", "7.3"]


def options(job: Job) -> tuple[str, ...]:
    """What pytest chooses by."""
    words = job.arguments
    return tuple(after for word, after in pairwise(words) if word in ("-m", "-k"))


def runs(jobs: list[Job]) -> Counter[tuple[str, str, str]]:
    """How often each file runs, by kernel and which of its tests."""
    return Counter(
        (job.kernel, ", ".join(options(job)) or "all", Path(word).name)
        for job in jobs
        for word in job.arguments
        if word.endswith(".py")
    )


def test_the_lists_name_files_that_exist_once_each() -> None:
    listed = [*SECOND_SHARE, *LONG, *LONG_SECOND_SHARE, *SPECIAL, COUNTING]
    assert Counter(listed) == Counter(set(listed))
    assert set(listed) <= set(FILES)
    assert {*EVERYWHERE} <= {*SECOND_SHARE}


def test_every_file_runs_once_and_what_counts_most_on_every_kernel() -> None:
    wanted = {(kernel, "not once, not kprobe", name) for kernel in OTHERS for name in EVERYWHERE}
    wanted |= {(ONCE_KERNEL, "all", name) for name in FILES}
    wanted -= {(ONCE_KERNEL, "all", name) for name in (*LONG, *LONG_SECOND_SHARE, *SPECIAL)}
    assert runs(usual_jobs(KERNELS)) == Counter(wanted)


def test_with_the_rest_all_that_depends_on_the_kernel_runs_on_every_kernel() -> None:
    wanted = {(ONCE_KERNEL, "all", name) for name in FILES}
    wanted |= {(kernel, "not once", name) for kernel in OTHERS for name in FILES}
    wanted -= {(kernel, "not once", name) for kernel in OTHERS for name in (COUNTING, *EVERYWHERE)}
    wanted -= {(kernel, "not once", name) for kernel, names in LACKING.items() for name in names}
    wanted |= {
        (kernel, f"not once, {probes}", name)
        for kernel in OTHERS
        for name in EVERYWHERE
        for probes in ("kprobe", "not kprobe")
    }
    wanted |= {(kernel, "all", COUNTING) for kernel in OTHERS}
    jobs = [*usual_jobs(KERNELS), *rest_jobs(KERNELS)]
    expected = Counter(each for each in wanted if each[2] not in SPECIAL)
    # Twice: with two nodes of memory, and with four.
    expected[ONCE_KERNEL, "all", NODES] += 1
    assert runs(jobs) == expected
    assert sorted(job.nodes for job in jobs if job.nodes > 2) == [4]


def test_quick_is_what_counts_most() -> None:
    assert runs(quick_jobs(["6.12"])) == Counter(("6.12", "not once", f) for f in EVERYWHERE)


def test_instructions_are_counted_by_another_clock() -> None:
    jobs = [*usual_jobs(KERNELS), *rest_jobs(KERNELS)]
    assert all(job.icount == any(COUNTING in word for word in job.arguments) for job in jobs)


def test_where_counts_by_node_would_hide_a_fault_there_is_one_node() -> None:
    path = f"tests/kernel/{ONE_NODE}"
    (usual,) = (job for job in usual_jobs(KERNELS) if any(ONE_NODE in w for w in job.arguments))
    assert (usual.arguments, usual.nodes) == ((path,), 1)
    assert {job.nodes for job in own_jobs(KERNELS, [path])} == {1}


def test_without_its_kernel_what_runs_once_runs_on_the_last() -> None:
    once = [job for job in usual_jobs(OTHERS) if "-m" not in job.arguments]
    assert {job.kernel for job in once} == {"7.3"}


def test_alone_a_kernel_runs_everything() -> None:
    everything = [job for job in usual_jobs(["6.1"]) if not job.icount]
    usual = {*FILES} - {COUNTING, *LONG, *LONG_SECOND_SHARE, *SPECIAL}
    assert runs(everything) == Counter(("6.1", "all", name) for name in usual)


def test_arguments_of_the_caller_go_to_one_guest_for_each_kernel() -> None:
    assert [job.arguments for job in own_jobs(KERNELS, ["-k", "x"])] == [("-k", "x")] * 3


def test_instructions_can_be_counted_on_each_kernel() -> None:
    jobs = own_jobs(KERNELS, [f"tests/kernel/{COUNTING}"])
    assert [(job.kernel, job.icount, job.nodes) for job in jobs] == [
        (kernel, True, 1) for kernel in KERNELS
    ]
    assert not any(job.icount for job in own_jobs(KERNELS, ["tests/kernel/test_fuzz.py"]))


def test_a_guest_is_as_slow_as_make_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW, "3")
    argv = Guest("6.12", environment={"A": "b c"}).argv("true")
    assert argv[argv.index("--slow") + 1] == "3"
    assert "--env=A=b c" in argv
    assert argv[-2:] == ["--", "true"]

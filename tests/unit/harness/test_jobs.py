"""Which guest runs which kernel tests: each test once on each kernel that it is for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.guests import SLOW, Guest
from tests.kernel.run import COUNTING, ELSEWHERE, ONCE_KERNEL, SECOND_SHARE, Job, jobs_for

KERNELS = ["6.1", "6.12", "7.3"]
FILES = {path.name for path in Path(__file__).parents[2].glob("kernel/test_*.py")} - {*ELSEWHERE}


def files_of(job: Job) -> set[str]:
    """The files that pytest looks at in a guest."""
    words = [word for word in job.arguments if "tests/kernel" in word]
    ignored = {*ELSEWHERE} | {
        word.rpartition("/")[2] for word in words if word.startswith("--ignore=")
    }
    named = {word.rpartition("/")[2] for word in words if word.endswith(".py")} - ignored
    return named - {*ELSEWHERE} or FILES - ignored


def runs(jobs: list[Job]) -> Counter[tuple[str, str, str]]:
    """How often each file runs, by kernel and mark."""
    return Counter(
        (job.kernel, "icount" if job.icount else job.arguments[-1], name)
        for job in jobs
        for name in files_of(job)
    )


def test_every_file_runs_once_and_what_counts_most_on_every_kernel() -> None:
    wanted = {(kernel, "not once", name) for kernel in KERNELS for name in SECOND_SHARE}
    wanted |= {(ONCE_KERNEL, "not once", name) for name in FILES - {COUNTING}}
    wanted |= {(ONCE_KERNEL, "once", name) for name in FILES - {COUNTING}}
    wanted |= {(ONCE_KERNEL, "icount", COUNTING)}
    assert runs(jobs_for(KERNELS, [])) == Counter(wanted)


def test_quick_is_what_depends_on_the_kernel() -> None:
    jobs = jobs_for(["6.12"], [], quick=True)
    assert runs(jobs) == Counter(("6.12", "not once", name) for name in FILES - {COUNTING})


def test_without_its_kernel_what_runs_once_runs_on_the_last() -> None:
    once = [job for job in jobs_for(["6.1", "7.3"], []) if "once" in job.arguments]
    assert {job.kernel for job in once} == {"7.3"}


def test_alone_a_kernel_runs_everything() -> None:
    marks = {job.arguments[-1] for job in jobs_for(["6.12"], []) if not job.icount}
    assert marks == {"once", "not once"}


def test_arguments_of_the_caller_go_to_one_guest_for_each_kernel() -> None:
    assert [job.arguments for job in jobs_for(KERNELS, ["-k", "x"])] == [("-k", "x")] * 3


def test_instructions_can_be_counted_on_each_kernel() -> None:
    jobs = jobs_for(KERNELS, [f"tests/kernel/{COUNTING}"])
    assert [(job.kernel, job.icount, job.nodes) for job in jobs] == [
        (kernel, True, 1) for kernel in KERNELS
    ]
    assert not any(job.icount for job in jobs_for(KERNELS, ["tests/kernel/test_fuzz.py"]))


def test_a_guest_is_as_slow_as_make_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW, "3")
    argv = Guest("6.12", environment={"A": "b c"}).argv("true")
    assert argv[argv.index("--slow") + 1] == "3"
    assert "--env=A=b c" in argv
    assert argv[-2:] == ["--", "true"]

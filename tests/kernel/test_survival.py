"""Counts continue while no daemon runs, and a new daemon continues with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.kernel_image import Image
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes import kept_image
from tests.kernel.compare import assert_exact, mappings
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import HOT, attached, mechanisms
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

PINS = Path("/sys/fs/bpf/ksmwatch-test")


@pytest.fixture
def pins() -> Iterator[str]:
    """A directory of pins, empty before and after."""
    yield f"--state.pin-path={PINS}"
    assert not list(PINS.iterdir()), "pins were left"
    PINS.rmdir()


def kill(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


@pytest.mark.parametrize("probes", mechanisms())
def test_a_successor_goes_on_where_a_killed_daemon_was(
    probes: str, pins: str, ksm: Ksm, tracefs: Path
) -> None:
    options = (pins, f"--probes={probes}", "--audit.cpu-percent=0")
    with Workload() as load:
        with Daemon(*options, http=False) as first:
            a, b, c = (mergeable(load, name, pages) for name, pages in NAMES)
            ksm.merge_all()
            before = assert_exact(first, {a.pid: 1009, b.pid: 1511, c.pid: 701})
            kill(first)
        assert len(attached(tracefs) & HOT) == 2
        a.write("heap", 0, 101)
        b.kill()
        d = c.fork("d")
        d.write("heap", 3, 13)
        truth = {a.pid: 908, c.pid: 701, d.pid: 688}
        with Daemon(*options, http=False) as second:
            after = assert_exact(second, truth)
            assert (before["map"]["adopted"], after["map"]["adopted"]) == (False, True)
            assert after["map"]["kept"] is True
            assert after["totals"]["copied"] == before["totals"]["copied"] + 101 + 13
            assert second.stop() == 0
    wait_until(lambda: not attached(tracefs), lambda: attached(tracefs))


def test_what_is_handed_over_about_the_kernel_is_what_the_kernel_says(pins: str) -> None:
    with Daemon(pins, http=False) as first:
        keep: Any = SimpleNamespace(open=lambda name: libbpf.obj_get(str(PINS / name)))
        assert kept_image.load(keep) == Image.of(read_facts())
        assert first.stop() == 0


NAMES = (("a", 1009), ("b", 1511), ("c", 701))


@pytest.mark.once
def test_other_settings_start_anew_and_count_right(pins: str, ksm: Ksm, tracefs: Path) -> None:
    with Workload() as load:
        with Daemon(pins, http=False) as first:
            a = mergeable(load, "a", 1009)
            ksm.merge_all()
            assert mappings(first.snapshot()) == {a.pid: 1009}
            kill(first)
        a.write("heap", 0, 101)
        with Daemon(pins, "--accounts.max=4096", http=False) as second:
            document = assert_exact(second, {a.pid: 908})
            assert document["map"]["adopted"] is False
            assert second.stop() == 0
    wait_until(lambda: not attached(tracefs), lambda: attached(tracefs))


def test_killed_asleep_and_woken_by_nobody(pins: str, ksm: Ksm, tracefs: Path) -> None:
    """KSM starts while no daemon runs: the successor reads what nothing has counted."""
    with Workload() as load:
        a = mergeable(load, "a", 1009)
        with Daemon(pins, http=False) as first:
            assert first.snapshot()["asleep"] is True
            kill(first)
        ksm.merge_all()
        with Daemon(pins, http=False) as second:
            document = assert_exact(second, {a.pid: 1009})
            assert document["map"]["adopted"] is True
            assert second.stop() == 0
    wait_until(lambda: not attached(tracefs), lambda: attached(tracefs))


@pytest.mark.once
def test_a_second_daemon_does_not_touch_the_pins_of_the_first(pins: str, ksm: Ksm) -> None:
    with Daemon(pins, http=False) as first, Workload() as load:
        with Daemon(pins, http=False) as second:
            assert second.snapshot()["map"]["kept"] is False
            assert second.stop() == 0
        a = mergeable(load, "a", 499)
        ksm.merge_all()
        assert assert_exact(first, {a.pid: 499})["map"]["kept"] is True
        assert first.stop() == 0

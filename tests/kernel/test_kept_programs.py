"""Programs that were compiled once are loaded again without a compiler, and count alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import outcome
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import HOT, attached, mechanisms
from tests.ksmctl import Ksm
from tests.workload import Workload, mergeable

BCC = Path("/usr/lib/python3/dist-packages/bcc")
PACKAGED = Path("/usr/lib/ksmwatch/programs")
# Where the library may be that brings LLVM.
LIBRARIES = sorted(Path("/usr/lib").glob("*-linux-gnu/libbcc.so.0"))


def without_bcc() -> tuple[str, ...]:
    """A prefix under which there is neither bcc nor its library."""
    hide = [f"mount -t tmpfs none {BCC}", *(f"mount --bind /dev/null {path}" for path in LIBRARIES)]
    return ("unshare", "--mount", "sh", "-c", f'{" && ".join(hide)} && exec "$@"', "sh")


def assert_lifecycle(daemon: Daemon, ksm: Ksm, tracefs: Path) -> None:
    """Every way in which mappings come and go is counted, asleep and awake."""
    with Workload() as load:
        assert daemon.snapshot()["asleep"] is True
        assert not attached(tracefs) & HOT
        a, b = mergeable(load, "a", 1009), mergeable(load, "b", 1511)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 1009, b.pid: 1511})
        a.write("heap", 0, 101)
        child = b.fork("child")
        child.write("heap", 7, 13)
        assert_exact(daemon, {a.pid: 908, b.pid: 1511, child.pid: 1498})
        b.kill()
        document = assert_exact(daemon, {a.pid: 908, child.pid: 1498})
        events = document["host"]["events"]
        assert (events["copied"], events["unattributed"]) == (101 + 13, 0)
        ksm.unmerge()
        assert_exact(daemon, {})
        assert daemon.snapshot()["asleep"] is True


@pytest.mark.parametrize("probes", mechanisms())
def test_the_second_start_needs_no_compiler(
    probes: str, ksm: Ksm, tracefs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "programs"
    options = (f"--state.programs-path={path}", f"--probes={probes}")
    assert LIBRARIES, "the library is somewhere else"
    with Daemon(*options) as first:
        assert first.snapshot()["map"]["programs"] == "compiled"
        assert 'ksmwatch_programs{origin="compiled"} 1.0' in first.metrics()
        assert_lifecycle(first, ksm, tracefs)
        assert first.stop() == 0
    assert list(path.iterdir()) != []
    with Daemon(*options, prefix=without_bcc()) as second:
        assert second.snapshot()["map"]["programs"] == "kept"
        assert 'ksmwatch_programs{origin="kept"} 1.0' in second.metrics()
        maps = Path(f"/proc/{second.process.pid}/maps").read_text()
        assert "libbpf" in maps
        assert not {"libbcc", "libLLVM", "libclang"} & set(maps.replace("/", ".").split("."))
        assert_lifecycle(second, ksm, tracefs)
        assert second.stop() == 0
    assert not attached(tracefs)


@pytest.fixture
def packaged() -> Iterator[Path]:
    """Where packages and images put programs; empty before and after."""
    PACKAGED.mkdir(parents=True)
    yield PACKAGED / "fleet.programs"
    for path in PACKAGED.iterdir():
        path.unlink()
    PACKAGED.rmdir()


@pytest.mark.once
def test_a_built_file_serves_an_equal_host_without_bcc(
    packaged: Path, ksm: Ksm, tracefs: Path, tmp_path: Path
) -> None:
    options = (f"--state.programs-path={tmp_path}/programs",)
    status, out = outcome(["ksmwatch", "build", *options, "--output", str(packaged)])
    assert (status, str(packaged) in out) == (0, True), out
    for path in (tmp_path / "programs").iterdir():
        path.unlink()
    (tmp_path / "programs").rmdir()
    with Daemon(*options, prefix=without_bcc(), http=False) as daemon:
        assert daemon.snapshot()["map"]["programs"] == "kept"
        assert_lifecycle(daemon, ksm, tracefs)
        assert daemon.stop() == 0
    status, out = outcome([*without_bcc(), "ksmwatch", "check", *options, "--json"])
    assert status == 0, out
    assert json.loads(out)["programs"] == "kept"


@pytest.mark.once
def test_a_file_that_others_may_write_is_not_loaded(ksm: Ksm, tmp_path: Path) -> None:
    options = (f"--state.programs-path={tmp_path}/programs", "--backend=bpf")
    with Daemon(*options, http=False) as first:
        assert first.stop() == 0
    (path,) = (tmp_path / "programs").iterdir()
    path.chmod(0o666)
    status, out = outcome([*without_bcc(), "ksmwatch", "run", *options, "--socket=/run/kept.sock"])
    assert status == 5, out
    assert "others than root may write it" in out
    assert "bcc is missing" in out
    # With a compiler it is made anew, and serves again.
    with Daemon(*options, http=False) as second:
        assert second.snapshot()["map"]["programs"] == "compiled"
        assert second.stop() == 0
    with Daemon(*options, http=False) as third:
        assert third.snapshot()["map"]["programs"] == "kept"
        assert third.stop() == 0

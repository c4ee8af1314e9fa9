"""What a user sees if something is missing: one sentence, the documented exit status."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.children import outcome
from tests.kernel.daemon import Daemon

pytestmark = pytest.mark.once

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
# With programs that were compiled before, bcc would not be needed.
NOTHING_KEPT = "--state.programs-path="
WITHOUT_BPF = (sys.executable, str(Path(__file__).with_name("seccomp.py")))
WITHOUT_ATTACHMENTS = (*WITHOUT_BPF, "--no-attachments")


@pytest.fixture(autouse=True, scope="module")
def checkout_for_everybody() -> None:
    """Other users must reach this checkout; the guest's changes to modes stay in the guest."""
    for directory in Path(__file__).resolve().parents:
        directory.chmod(directory.stat().st_mode | 0o011)


def hidden(directory: str) -> tuple[str, ...]:
    """A prefix under which a directory looks empty."""
    script = f'mount -t tmpfs none {directory} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def unreadable(*files: str) -> tuple[str, ...]:
    """A prefix under which reading these files fails, for root too."""
    mounts = " && ".join(f"mount --bind /proc/sysrq-trigger {file}" for file in files)
    return ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")


def said(command: Sequence[str]) -> tuple[int, str]:
    """Exit status and last line of a command."""
    status, out = outcome(command)
    return status, out.strip().splitlines()[-1] if out.strip() else ""


NO_BTF = "This kernel has no BTF (there is no /sys/kernel/btf/vmlinux), and its headers are not"
OBSTACLES = [
    (
        NOBODY,
        3,
        "Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as uid 65534.",
    ),
    (hidden("/sys/kernel/btf"), 5, NO_BTF),
    (
        hidden("/usr/lib/python3/dist-packages/bcc"),
        5,
        "bcc is missing (the Python module bcc is not installed): install the package",
    ),
    (WITHOUT_BPF, 5, "The kernel refuses BPF programs, although ksmwatch has the capabilities"),
    (hidden("/sys/kernel/mm/ksm"), 4, "has no KSM: /sys/kernel/mm/ksm does not exist, so there"),
]
NAMES = ["not-root", "no-btf", "no-bcc", "bpf-refused", "no-ksm"]


@pytest.mark.parametrize(("prefix", "status", "sentence"), OBSTACLES, ids=NAMES)
def test_check_says_why_live_accounting_is_impossible(
    prefix: tuple[str, ...], status: int, sentence: str
) -> None:
    got, last = said([*prefix, "ksmwatch", "check", NOTHING_KEPT])
    assert (got, sentence in last) == (status, True), last


@pytest.mark.parametrize(("prefix", "status", "sentence"), OBSTACLES, ids=NAMES)
def test_run_fails_with_the_same_sentence_when_bpf_is_demanded(
    prefix: tuple[str, ...], status: int, sentence: str
) -> None:
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        options = (
            NOTHING_KEPT,
            "--socket",
            f"{directory}/sock",
            "--web.listen-address=127.0.0.1:0",
        )
        got, last = said([*prefix, "ksmwatch", "run", "--backend=bpf", *options])
    assert (got, sentence in last) == (status, True), last
    assert last.startswith("ksmwatch: ")


def checked(*prefix: str) -> tuple[int, dict[str, Any]]:
    """Exit status of `ksmwatch check`, and its document, which warnings may precede."""
    status, out = outcome([*prefix, "ksmwatch", "check", "--json"])
    document: dict[str, Any] = json.loads(out[out.index("{\n") :])
    return status, document


def test_check_shows_no_probe_as_if_it_would_work_where_attaching_is_refused() -> None:
    status, document = checked(*WITHOUT_ATTACHMENTS)
    assert (status, document["live"], document["probes"]) == (5, False, [])
    # An iterator, by which maps are listed where hooks are kprobes, is refused in between.
    tried = {r["mechanism"] for r in document["rejected"] if r["tried"]}
    assert tried == {"fentry", "kprobe"}
    assert "Operation not permitted" in document["obstacle"]
    status, document = checked()
    assert (status, document["live"]) == (0, True)
    assert {probe["state"] for probe in document["probes"]} == {"works"}


def test_kallsyms_is_not_needed_where_a_program_can_walk_over_the_symbols() -> None:
    status, last = said([*unreadable("/proc/kallsyms"), "ksmwatch", "check"])
    assert (status, last) == (0, "Live accounting is possible.")


def test_without_kprobes_only_kprobes_are_impossible() -> None:
    prefix = hidden("/sys/bus/event_source/devices/kprobe")
    status, last = said([*prefix, "ksmwatch", "check", "--probes=kprobe"])
    assert status == 5
    assert "the kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)" in last
    status, last = said([*prefix, "ksmwatch", "check", "--probes=fentry"])
    assert (status, last) == (0, "Live accounting is possible.")


def test_run_as_another_user_says_that_it_needs_root() -> None:
    status, last = said([*NOBODY, "ksmwatch", "run"])
    assert status == 3
    assert last.startswith("ksmwatch: ksmwatch run needs root: uid 65534 may not create the socket")


def test_snapshot_as_another_user_without_a_daemon() -> None:
    status, last = said([*NOBODY, "ksmwatch", "snapshot"])
    assert status == 7
    assert last.startswith("ksmwatch: No daemon answers at /run/ksmwatch/ksmwatch.sock")


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, last = said(["ksmwatch", "run", "--web.listen-address", address])
    assert (status, last) == (
        6,
        f"ksmwatch: Cannot listen on {address}: Address already in use.",
    )


OF_THE_FRONT = ("ksmwatch_front_", "ksmwatch_http_")


def test_a_kernel_without_ksm_has_no_ksm_series() -> None:
    with Daemon(prefix=hidden("/sys/kernel/mm/ksm")) as daemon:
        series = [
            line.split("{")[0].split()[0]
            for line in daemon.metrics().splitlines()
            if line.startswith("ksmwatch_") and not line.startswith(OF_THE_FRONT)
        ]
        document = daemon.snapshot()
        assert daemon.stop() == 4
    assert set(series) == {
        "ksmwatch_build_info",
        "ksmwatch_config_last_reload_success_timestamp_seconds",
        "ksmwatch_config_last_reload_successful",
        "ksmwatch_ksm_supported",
        "ksmwatch_losses_total",
        "ksmwatch_mode",
        "ksmwatch_snapshot_duration_seconds",
        "ksmwatch_snapshot_timestamp_seconds",
    }
    assert document["mode"] == "none"
    assert document["sources"]["ksm"] is None


def test_where_bpf_is_refused_the_daemon_says_so_and_polls() -> None:
    with Daemon(prefix=WITHOUT_BPF) as daemon:
        document = daemon.snapshot()
        metrics = daemon.metrics()
        assert daemon.process.poll() is None
        warnings = [line["msg"] for line in daemon.log() if line["level"] == "warning"]
        assert daemon.stop() == 0
    assert document["mode"] == "poll"
    assert document["mode_reason"] == warnings[0]
    assert warnings[0].startswith("The kernel refuses BPF programs")
    assert 'ksmwatch_mode{mode="poll"} 1.0' in metrics
    assert document["host"]["confidence"] != "exact"


def test_a_process_that_cannot_be_read_is_a_loss_and_the_sum_is_not_called_known() -> None:
    with subprocess.Popen(["sleep", "infinity"]) as other:
        # Which of the two is read depends on the kernel.
        prefix = unreadable(f"/proc/{other.pid}/smaps_rollup", f"/proc/{other.pid}/smaps")
        with Daemon(prefix=prefix) as daemon:
            document = daemon.snapshot()
            other.kill()
            other.wait()
            after = daemon.snapshot()
            assert daemon.stop() == 0
    assert document["host"]["confidence"] == "unknown"
    assert document["host"]["reason"] == "1 process cannot be read"
    assert document["losses"]["reads_denied"] == 1
    assert after["host"]["confidence"] == "exact"


def test_without_the_capability_to_read_others_check_says_so() -> None:
    names = "-sys_ptrace,-perfmon,-sys_admin"
    prefix = ("setpriv", "--bounding-set", names, "--inh-caps", names)
    status, out = outcome([*prefix, "ksmwatch", "check", "--plan-only"])
    assert status == 3
    assert "Other processes cannot be read exactly (CAP_SYS_PTRACE is missing)" in out


def test_unreadable_sources_are_losses_and_absent_series() -> None:
    with Daemon(prefix=unreadable("/proc/vmstat")) as daemon:
        document = daemon.snapshot()
        metrics = daemon.metrics()
        assert daemon.stop() == 0
    assert document["sources"]["failures"] == ["/proc/vmstat"]
    assert document["losses"]["sources_unreadable"] >= 1
    assert "ksmwatch_kernel_cow_breaks_total" not in metrics

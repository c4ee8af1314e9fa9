"""What the DaemonSet grants the daemon is enough, and all of it is needed.

No container runtime runs here. The pod is made of what a runtime makes it of: name spaces, a
read-only root and sysfs, bounded capabilities, no new privileges.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

pytestmark = pytest.mark.once

MANIFEST = Path(__file__).resolve().parents[2] / "deploy/kubernetes/daemonset.yaml"
POD: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
CAPABILITIES = [
    name.lower() for name in POD["containers"][0]["securityContext"]["capabilities"]["add"]
]
WRITABLE = [mount["mountPath"] for mount in POD["containers"][0]["volumeMounts"]]


def pod(capabilities: Collection[str]) -> tuple[str, ...]:
    """A prefix that runs a command in something like the pod, with these capabilities."""
    # With what is mounted below: this checkout may lie in one of them.
    remain = " && ".join(f"mkdir -p {path} && mount --rbind {path} {path}" for path in WRITABLE)
    script = (
        f"{remain} && mount -o remount,bind,ro / && mount -o remount,bind,ro /sys"
        ' && umount /sys/kernel/debug /sys/kernel/tracing && exec "$@"'
    )
    bounded = "-all" + "".join(f",+{name}" for name in sorted(capabilities))
    return (
        *("unshare", "--mount", "--net", "--ipc", "--uts", "--cgroup", "sh", "-c", script, "sh"),
        *("setpriv", "--no-new-privs", f"--bounding-set={bounded}", f"--inh-caps={bounded}"),
    )


def said_in_pod(capabilities: Collection[str], *command: str) -> tuple[int, str]:
    """Exit status and output of a command in the pod."""
    done = subprocess.run(
        [*pod(capabilities), *command], stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stdout


def without(name: str) -> set[str]:
    return set(CAPABILITIES) - {name}


def test_the_daemon_counts_in_the_pod(ksm: Ksm) -> None:
    pins = "--state.pin-path=/sys/fs/bpf/ksmwatch-pod"
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        with Daemon(pins, "--backend=bpf", prefix=pod(CAPABILITIES)) as daemon:
            document = assert_exact(daemon, {a.pid: 211, b.pid: 101})
            assert document["map"]["kept"] is True
            a.write("heap", 0, 13)
            document = assert_exact(daemon, {a.pid: 198, b.pid: 101})
            assert {p["kernel_merging_pages"] for p in document["processes"]} >= {211, 101}
            assert daemon.stop() == 0


@pytest.mark.parametrize("name", ["bpf", "perfmon"])
def test_live_counts_need_both(name: str) -> None:
    status, said = said_in_pod(without(name), "ksmwatch", "check", "--plan-only")
    assert status == 3
    assert "Live accounting needs root, or CAP_BPF and CAP_PERFMON" in said


@pytest.mark.parametrize(
    ("name", "file"), [("sys_ptrace", "smaps_rollup"), ("dac_read_search", "ksm_stat")]
)
def test_files_of_other_users_need_the_others(name: str, file: str) -> None:
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "sleep", "600"]
    with subprocess.Popen(nobody) as process:
        try:
            path = f"/proc/{process.pid}/{file}"
            comm = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda: comm.read_text() == "sleep\n", "it is not executed")
            assert said_in_pod(CAPABILITIES, "cat", path)[0] == 0
            # Since 6.15 mm_access() lets CAP_PERFMON read too, which the daemon gives up.
            lacking = without(name) - {"perfmon"}
            assert said_in_pod({*lacking, name}, "cat", path)[0] == 0
            assert said_in_pod(lacking, "cat", path)[0] != 0
        finally:
            process.kill()

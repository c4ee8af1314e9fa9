"""The initramfs: its archive format and the scripts that carry a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import initramfs
from vmharness.errors import HarnessError
from vmharness.initramfs import Archive, Job


def entries(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive back: name to (mode, content)."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += 110 + fields[11]
        at += -at % 4
        content = data[at : at + fields[6]]
        at += fields[6]
        at += -at % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], content)


@pytest.mark.parametrize("content", [b"", b"1", b"12", b"123", b"1234", b"\0" * 4097])
def test_archive_reads_back(content: bytes) -> None:
    archive = Archive()
    archive.directory("d")
    archive.file("d/file", content, 0o755)
    archive.link("link", "d/file")
    assert entries(archive.bytes()) == {
        "d": (0o040755, b""),
        "d/file": (0o100755, content),
        "link": (0o120777, b"d/file"),
    }


def job(**changes: object) -> Job:
    settings: dict[str, object] = {
        "command": ["true"],
        "directory": "/",
        "environment": {},
        "token": "t",
        "modules": "/m",
    }
    return Job(**(settings | changes))  # type: ignore[arg-type]


def test_command_script_quotes_everything(tmp_path: Path) -> None:
    here = tmp_path / "it's $HOME"
    here.mkdir()
    wanted = job(
        command=["/bin/sh", "-c", 'echo "$1|$A|$(pwd)"', "x", "a b'\"\n;c"],
        directory=str(here),
        environment={"A": "x y'$(false)", "PATH": "/usr/bin:/bin"},
    )
    done = subprocess.run(
        ["/bin/sh"],
        input=initramfs.command_script(wanted),
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == f"a b'\"\n;c|x y'$(false)|{here}\n"


def test_settings_script_reads_back() -> None:
    script = initramfs.settings_script(job(keep=["/tmp/a b", "/tmp/$c"], network=True))
    done = subprocess.run(
        ["/bin/sh"],
        input=script + 'printf "%s|" "$KEEP" "$NETWORK" "$WRITABLE" "$TOKEN"',
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == "/tmp/a b\n/tmp/$c|1||t|"


def test_newline_in_a_directory_is_refused() -> None:
    with pytest.raises(HarnessError, match="newline"):
        initramfs.settings_script(job(writable=["/a\nb"]))


def test_network_modules_only_with_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initramfs, "busybox", lambda root: b"bb")
    modules = []
    for name in ("00-9p.ko", "01-failover.ko", "02-net_failover.ko", "03-virtio_net.ko"):
        (tmp_path / name).write_bytes(b"m")
        modules.append(tmp_path / name)
    alone = entries(initramfs.build(modules, job()))
    assert [name for name in alone if name.startswith("modules/")] == ["modules/00-9p.ko"]
    wired = entries(initramfs.build(modules, job(network=True)))
    assert len([name for name in wired if name.startswith("modules/")]) == 4
    assert alone["init"][0] == 0o100755


def test_modules_that_lead_to_a_disk_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "busybox", lambda root: b"bb")
    disk = [("virtio_blk", b"v"), ("mbcache", b"m"), ("ext4", b"e")]
    found = entries(initramfs.build((), job(disk=True), disk))
    names = [name for name in found if name.startswith("modules/")]
    assert names == sorted(names)
    assert [name[16:-3] for name in names] == ["virtio_blk", "mbcache", "ext4"]
    assert b"DISK=1" in found["vm/settings"][1]

"""The QEMU command line as a pure function, and what the user may say about it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import cli, emulator, machine
from vmharness.errors import HarnessError
from vmharness.machine import Machine, Publish, Share
from vmharness.platforms import PLATFORMS

IMAGE = Path("/k/vmlinux")


def argv(guest: Machine) -> list[str]:
    return machine.run_argv(guest, "/proc/self/fd/9", 10, (11, 12, 13, 14))


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_plain_machine_is_emulated_on_one_thread_and_has_no_network() -> None:
    words = argv(Machine(IMAGE))
    assert value(words, "-accel") == "tcg,thread=single"
    assert value(words, "-smp") == "2"
    assert value(words, "-nic") == "none"
    assert "-netdev" not in words
    assert "-no-reboot" in words


def test_cpus_run_in_parallel_only_by_the_emulator_that_can() -> None:
    command = emulator.command(Path("/t"))
    words = argv(Machine(IMAGE, parallel=command))
    assert value(words, "-accel") == "tcg,thread=multi"
    # The library that loads programs is a program itself: it takes the path of another.
    assert words[0] == "/t/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert words[3] == "/t/usr/bin/qemu-system-x86_64"
    assert argv(Machine(IMAGE))[0] == "qemu-system-x86_64"


def test_icount_counts_on_one_thread_even_if_kvm_works() -> None:
    words = argv(Machine(IMAGE, cpus=1, kvm=True, icount=True))
    assert value(words, "-accel") == "tcg,thread=single"
    assert value(words, "-icount") == "shift=0,sleep=on"
    assert "clock=vm" in value(words, "-rtc")


def test_debugger_and_words_for_the_kernel_only_on_demand() -> None:
    assert "-gdb" not in argv(Machine(IMAGE))
    words = argv(Machine(IMAGE, gdb=Path("/t/a,b"), append=("nowatchdog", "preempt=full")))
    assert value(words, "-gdb") == "unix:/t/a,,b,server=on,wait=off"
    assert value(words, "-append").endswith(" nowatchdog preempt=full")


def test_an_iommu_wants_another_board_and_has_a_device_behind_it() -> None:
    assert "intel-iommu" not in argv(Machine(IMAGE))
    words = argv(Machine(IMAGE, iommu=True))
    assert value(words, "-M").startswith("q35,")
    assert {"intel-iommu", "edu"} <= set(words)
    assert "intel_iommu=on" in value(words, "-append").split()


def test_each_node_has_its_share() -> None:
    words = argv(Machine(IMAGE, memory="3G", cpus=3, nodes=2))
    assert [words[at + 1] for at, word in enumerate(words) if word == "-object"] == [
        "memory-backend-ram,id=node0,size=1536M",
        "memory-backend-ram,id=node1,size=1536M",
    ]
    assert [words[at + 1] for at, word in enumerate(words) if word == "-numa"] == [
        "node,nodeid=0,memdev=node0,cpus=0,cpus=2",
        "node,nodeid=1,memdev=node1,cpus=1",
    ]


def test_kvm() -> None:
    words = argv(Machine(IMAGE, kvm=True))
    assert value(words, "-accel") == "kvm"
    assert value(words, "-cpu") == "host"


def test_published_port_is_on_loopback_and_the_guest_has_no_way_out() -> None:
    words = argv(Machine(IMAGE, publish=(Publish(18080, 80),)))
    netdev = value(words, "-netdev")
    assert "restrict=on" in netdev
    assert "hostfwd=tcp:127.0.0.1:18080-10.0.2.15:80" in netdev


def test_only_writable_shares_are_writable() -> None:
    words = argv(Machine(IMAGE, shares=cli.shares_of(None, ["/a,b"])))
    shares = [words[at + 1] for at, word in enumerate(words) if word == "-fsdev"]
    assert "readonly=on" in shares[0]
    assert "path=/," in shares[0]
    assert "readonly" not in shares[1]
    assert "path=/a,,b," in shares[1]


def test_a_root_of_another_machine_is_beside_the_hosts_files() -> None:
    assert cli.shares_of(Path("/tree"), ["/w"]) == (
        Share("root", "/tree", readonly=True),
        Share("host", "/", readonly=True),
        Share("writable0", "/w"),
    )


def test_virtiofs_has_a_socket_for_each_share_and_sees_the_memory() -> None:
    guest = Machine(IMAGE, virtiofs=True, shares=cli.shares_of(None, ["/w"]))
    words = machine.run_argv(guest, "/proc/self/fd/9", 10, (11, 12, 13, 14), (15, 16))
    assert "-fsdev" not in words
    assert "socket,id=root,fd=15" in words
    assert "vhost-user-fs-pci,chardev=writable0,tag=writable0" in words
    assert "memory-backend-memfd,share=on,id=node0,size=2048M" in words
    assert value(words, "-numa") == "node,nodeid=0,memdev=node0,cpus=0,cpus=1"


def test_words_of_the_caller_are_the_last_of_the_kernels() -> None:
    words = argv(Machine(IMAGE, append=("preempt=full", "a=b c")))
    assert value(words, "-append").endswith(" rdinit=/init preempt=full a=b c")


def test_an_arm_machine() -> None:
    words = argv(Machine(IMAGE, platform=PLATFORMS["arm64"]))
    assert words[0] == "qemu-system-aarch64"
    assert value(words, "-M").startswith("virt,")
    assert "console=ttyAMA0" in value(words, "-append").split()
    assert "ttyS0" not in value(words, "-append")
    assert "mte" not in value(words, "-M")
    words = argv(Machine(IMAGE, platform=PLATFORMS["arm64"], cpu="max,pauth-impdef=on"))
    assert value(words, "-cpu") == "max,pauth-impdef=on"
    # Only that processor has memory tags, and only with memory for them.
    assert value(words, "-M").endswith(",mte=on")
    assert "mte" not in value(argv(Machine(IMAGE, cpu="max")), "-M")


def test_each_port_has_its_own_descriptor() -> None:
    text = " ".join(argv(Machine(IMAGE)))
    assert "id=console,fd=10" in text
    for number, name in enumerate(machine.PORTS, start=1):
        assert f"id={name},fd={10 + number}" in text
        assert f"nr={number},chardev={name}" in text


def test_an_oops_ends_the_guest() -> None:
    assert {"panic=-1", "oops=panic"} <= set(value(argv(Machine(IMAGE)), "-append").split())


@pytest.mark.parametrize("text", ["80", "0:80", "80:65536", "a:b", "127.0.0.1:80:80", "80:80 "])
def test_bad_publish(text: str) -> None:
    with pytest.raises(HarnessError, match="HOSTPORT:GUESTPORT"):
        Publish.parse(text)


@pytest.mark.parametrize(("text", "want"), [("2G", "2G"), ("512", "512M"), ("768m", "768M")])
def test_memory(text: str, want: str) -> None:
    assert machine.parse_memory(text) == want


@pytest.mark.parametrize("text", ["", "0", "2T", "2G,slots=2", "-1"])
def test_bad_memory(text: str) -> None:
    with pytest.raises(HarnessError):
        machine.parse_memory(text)


def test_environment_is_little_of_ours() -> None:
    ours = {"TERM": "xterm", "CI": "true", "SECRET": "x", "HOME": "/home/me"}
    got = cli.guest_environment(ours, "6.1", ["A=b=c", "EMPTY="])
    assert got["TERM"] == "xterm"
    assert got["CI"] == "true"
    assert got["HOME"] == "/root"
    assert got["KSMWATCH_VM_KERNEL"] == "6.1"
    assert got["A"] == "b=c"
    assert got["EMPTY"] == ""
    assert "SECRET" not in got
    assert got["PATH"].split(":")[0].endswith("/.venv/bin")
    with pytest.raises(HarnessError):
        cli.guest_environment({}, "6.1", ["A"])


def test_command_is_all_after_the_first_dashes() -> None:
    assert cli.split_command(["--icount", "--", "a", "--", "b"]) == (
        ["--icount"],
        ["a", "--", "b"],
    )
    assert cli.split_command(["--fetch"]) == (["--fetch"], [])


def test_bad_usage_is_not_mistaken_for_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parser().parse_args(["--arch", "z80"])
    assert stop.value.code == 125
    assert cli.main(["--kernel", "2.4-z80", "--", "true"]) == 125
    assert "2.4-z80" in capsys.readouterr().err


def test_paths_kept_below_what_the_guest_covers() -> None:
    got = cli.kept_paths(["/work", "/tmp/a/b", "/tmp/a", "/tmpfoo", "/dev/shm/x", "/tmp"])
    assert got == ["/dev/shm/x", "/tmp/a"]


def test_a_root_of_its_own_is_a_disk_that_forgets_and_starts_the_command_by_systemd() -> None:
    words = argv(Machine(IMAGE, disk=Path("/roots/a,b.img")))
    drive = value(words, "-drive").replace(",,", "\0").split(",")
    assert "file=/roots/a\0b.img" in drive
    assert "snapshot=on" in drive
    assert "systemd.wants=ksmwatch-vm.service" in value(words, "-append").split()
    assert "-drive" not in argv(Machine(IMAGE))
    assert "systemd" not in value(argv(Machine(IMAGE)), "-append")

"""Which packages make a kernel, and what the machine's apt says about archives."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import debian, kernels, modindex, vmlinux
from vmharness.debian import Archives, Package
from vmharness.errors import HarnessError
from vmharness.modindex import Module

SHOW = """\
Package: linux-image-amd64
Version: 7.3.9-1~bpo13+1
Depends: linux-base-amd64 (= 7.3.9-1), linux-image-7.3.9+deb13-amd64 (= 7.3.9-1)
Description: meta
 with a Depends: line of its own

Package: linux-image-7.3.9+deb13-amd64
Version: 7.3.9-1
Depends: dracut | initramfs-tools (>= 0.1) | linux-initramfs-tool, \
linux-binary-7.3.9+deb13-amd64 (= 7.3.9-1) | linux-binary-unsigned-7.3.9+deb13-amd64, \
linux-modules-7.3.9+deb13-amd64 (= 7.3.9-1)
Size: 1900

Package: linux-binary-unsigned-7.3.9+deb13-amd64
Version: 7.3.9-1
Size: 14000000

Package: linux-modules-7.3.9+deb13-amd64
Version: 7.3.9-1
Depends: kmod, linux-base-7.3.9+deb13-amd64 (= 7.3.9-1)

Package: linux-base-7.3.9+deb13-amd64
Version: 7.3.9-1

Package: linux-image-6.1.0-50-amd64
Version: 6.1.176-1
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool
"""


def shelf(*without: str) -> Callable[[Sequence[str]], dict[str, Package]]:
    packages = debian.parse_packages(SHOW)
    return lambda names: {
        name: packages[name] for name in names if name in packages and name not in without
    }


def nothing(prefix: str) -> list[str]:
    return []


def test_meta_package_leads_to_all_parts_and_to_the_alternative_that_exists() -> None:
    release, chosen = kernels.choose_packages("linux-image-amd64", "7.3", shelf(), nothing)
    assert release == "7.3.9+deb13-amd64"
    assert [package.name for package in chosen] == [
        "linux-image-7.3.9+deb13-amd64",
        "linux-binary-unsigned-7.3.9+deb13-amd64",
        "linux-modules-7.3.9+deb13-amd64",
        "linux-base-7.3.9+deb13-amd64",
    ]


def test_old_style_kernel_is_one_package() -> None:
    names = ["linux-image-6.1.0-50-amd64-dbg", "linux-image-6.1.0-50-amd64"]
    release, chosen = kernels.choose_packages("gone", "6.1", shelf(), lambda prefix: names)
    assert release == "6.1.0-50-amd64"
    assert [package.version for package in chosen] == ["6.1.176-1"]


def test_a_suite_that_moved_on_says_so() -> None:
    with pytest.raises(HarnessError, match=r"no kernel 6\.12 .*7\.3\.9"):
        kernels.choose_packages("linux-image-amd64", "6.12", shelf(), nothing)


def test_a_missing_part_is_an_error() -> None:
    with pytest.raises(HarnessError, match="lacks linux-modules"):
        kernels.choose_packages(
            "linux-image-amd64", "7.3", shelf("linux-modules-7.3.9+deb13-amd64"), nothing
        )


@pytest.mark.parametrize(
    ("name", "series", "good"),
    [
        ("linux-image-6.1.0-50-amd64", "6.1", True),
        ("linux-image-6.12.117+deb12-amd64", "6.12", True),
        ("linux-image-6.12.117+deb12-amd64", "6.1", False),
        ("linux-image-6.1.0-50-cloud-amd64", "6.1", False),
        ("linux-image-6.1.0-50-rt-amd64", "6.1", False),
        ("linux-image-6.12.117+deb12-amd64-unsigned", "6.12", False),
        ("linux-image-6.12-amd64", "6.12", False),
    ],
)
def test_image_names(name: str, series: str, *, good: bool) -> None:
    assert kernels.image_in([name], series) == (name if good else None)


MAIN = "http://mirror.test/debian/"
SECURITY = "http://mirror.test/debian-security/"


def test_archives_of_a_plain_machine_with_a_third_party() -> None:
    rows = [
        ("http://vendor.test/debian/", "bookworm", "Vendor"),
        (MAIN, "bookworm-updates", "Debian"),
        (SECURITY, "bookworm-security", "Debian"),
        (MAIN, "bookworm", "Debian"),
    ]
    assert debian.pick_archives(rows) == Archives(MAIN, SECURITY)


def test_archives_before_the_first_update() -> None:
    text = (
        f"'{MAIN}dists/trixie/InRelease' x_InRelease 0 \n"
        f"'{SECURITY}dists/trixie-security/InRelease' y_InRelease 0 \n"
        "'http://vendor.test/node/dists/nodistro/InRelease' z 0 \n"
    )
    assert debian.pick_archives(debian.parse_print_uris(text)) == Archives(MAIN, SECURITY)


def test_unknown_origin_prints_as_the_field_itself() -> None:
    rows = debian.parse_index_targets(f"{MAIN}\ttrixie\t$(ORIGIN)\nnonsense\n")
    assert debian.pick_archives(rows) == Archives(MAIN, None)
    assert debian.pick_archives([]) is None


def entry(tmp_path: Path) -> Path:
    modules = tmp_path / "lib/modules/6.1.0-1-amd64/kernel"
    modules.mkdir(parents=True)
    (modules / "a.ko").write_bytes(b"a")
    (tmp_path / "vmlinux").write_bytes(b"kernel")
    complete = {
        "format": kernels.FORMAT,
        "series": "6.1",
        "release": "6.1.0-1-amd64",
        "modules": 1,
        "sizes": {"vmlinux": 6},
    }
    (tmp_path / "complete.json").write_text(json.dumps(complete))
    return tmp_path


def test_a_complete_cache_entry_loads(tmp_path: Path) -> None:
    kernel = kernels.load("6.1", entry(tmp_path), thorough=True)
    assert kernel is not None
    assert kernel.release == "6.1.0-1-amd64"
    assert kernels.load("6.12", tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "module", "json", "empty json", "nothing there"])
def test_a_damaged_cache_entry_does_not(tmp_path: Path, damage: str) -> None:
    entry(tmp_path)
    if damage == "truncate":
        (tmp_path / "vmlinux").write_bytes(b"")
    elif damage == "module":
        (tmp_path / "lib/modules/6.1.0-1-amd64/kernel/a.ko").unlink()
    elif damage == "json":
        (tmp_path / "complete.json").write_text('{"format"')
    elif damage == "empty json":
        (tmp_path / "complete.json").write_text("[]")
    else:
        (tmp_path / "complete.json").unlink()
    assert kernels.load("6.1", tmp_path, thorough=True) is None


def elf(modinfo: bytes) -> bytes:
    """A 64-bit ELF file of nothing but a .modinfo section."""
    names = b"\0.modinfo\0.shstrtab\0"
    names_at = 64 + len(modinfo)
    sections_at = names_at + len(names)
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 0x28, sections_at)
    struct.pack_into("<HHH", head, 0x3A, 64, 3, 2)

    def section(name: int, offset: int, size: int) -> bytes:
        data = bytearray(64)
        struct.pack_into("<I", data, 0, name)
        struct.pack_into("<QQ", data, 0x18, offset, size)
        return bytes(data)

    sections = bytes(64) + section(1, 64, len(modinfo)) + section(10, names_at, len(names))
    return bytes(head) + modinfo + names + sections


def test_modinfo() -> None:
    image = elf(b"license=GPL\0depends=net-core,lib\0alias=crypto-x\0alias=pci:v*\0\0")
    module = modindex.describe("kernel/a.ko", image)
    assert module == Module("kernel/a.ko", ("net_core", "lib"), ("crypto-x", "pci:v*"), ())
    with pytest.raises(HarnessError):
        modindex.modinfo(b"\xfd7zXZ\0")


def test_dependencies_come_in_loading_order() -> None:
    modules = {
        "a": Module("k/a.ko", ("b", "c"), (), ()),
        "b": Module("k/b.ko.xz", ("c",), ("bee",), ()),
        "c": Module("k/c.ko", (), (), ("pre: b",)),
    }
    assert modindex.load_order(["a"], modules) == ["c", "b", "a"]
    assert modindex.dep_text(modules).splitlines() == [
        "k/a.ko: k/b.ko.xz k/c.ko",
        "k/b.ko.xz: k/c.ko",
        "k/c.ko:",
    ]
    assert modindex.alias_text(modules) == "alias bee b\n"
    assert modindex.softdep_text(modules) == "softdep c pre: b\n"
    with pytest.raises(HarnessError, match="no module d"):
        modindex.load_order(["d"], modules)


def test_module_names() -> None:
    assert modindex.module_name("kernel/net/9p/9pnet-virtio.ko.xz") == "9pnet_virtio"


def test_an_unusual_image_is_left_alone() -> None:
    assert vmlinux.extract(b"\0" * 4096) is None


def test_what_leads_to_a_disk_is_loaded_in_order_and_once(tmp_path: Path) -> None:
    directory = tmp_path / "lib/modules/6.1-x"
    needs = {
        "a/virtio.ko": "",
        "a/virtio_blk.ko": "a/virtio.ko",
        "b/crc16.ko": "",
        "b/jbd2.ko": "b/crc16.ko",
        "b/ext4.ko": "b/jbd2.ko b/crc16.ko",
    }
    for path in needs:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(path.encode())
    lines = [f"{path}: {rest}" for path, rest in needs.items()]
    (directory / "modules.dep").write_text("\n".join(lines) + "\n")
    # virtio is loaded by then; crc32c_generic is built in.
    kernel = kernels.Kernel("6.1", "6.1-x", tmp_path, tmp_path, (tmp_path / "00-virtio.ko",))
    assert kernels.disk_modules(kernel) == [
        ("virtio_blk", b"a/virtio_blk.ko"),
        ("crc16", b"b/crc16.ko"),
        ("jbd2", b"b/jbd2.ko"),
        ("ext4", b"b/ext4.ko"),
    ]

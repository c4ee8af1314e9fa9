"""Which packages make a kernel, and what the machine's apt says about archives."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import debian, kernels, modindex, naming
from vmharness.debian import Archives, Package
from vmharness.errors import HarnessError
from vmharness.modindex import Module
from vmharness.naming import Wanted

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


def shelf(*without: str) -> dict[str, Package]:
    packages = debian.parse_packages(SHOW)
    return {name: package for name, package in packages.items() if name not in without}


def chosen(name: str, *without: str) -> tuple[str, list[str]]:
    image, packages = naming.choose(Wanted.parse(name), shelf(*without))
    return image.release, [package.name for package in packages]


@pytest.mark.parametrize("name", ["7.3", "7.3.9"])
def test_a_kernel_is_all_its_parts_and_the_alternative_that_exists(name: str) -> None:
    assert chosen(name) == (
        "7.3.9+deb13-amd64",
        [
            "linux-image-7.3.9+deb13-amd64",
            "linux-binary-unsigned-7.3.9+deb13-amd64",
            "linux-modules-7.3.9+deb13-amd64",
            "linux-base-7.3.9+deb13-amd64",
        ],
    )


@pytest.mark.parametrize("name", ["6.1", "6.1.176"])
def test_old_style_kernel_is_one_package_whose_name_does_not_tell_its_version(name: str) -> None:
    assert chosen(name) == ("6.1.0-50-amd64", ["linux-image-6.1.0-50-amd64"])


def test_the_newest_of_a_series_that_is_complete() -> None:
    packages = shelf("linux-modules-7.3.9+deb13-amd64")
    for version in ("7.3.8", "7.3.10"):
        name = f"linux-image-{version}+deb13-amd64"
        packages[name] = Package(name, f"{version}-1")
    assert naming.choose(Wanted("7.3"), packages)[0].upstream == "7.3.10"
    del packages["linux-image-7.3.10+deb13-amd64"]
    assert naming.choose(Wanted("7.3"), packages)[0].upstream == "7.3.8"
    assert [image.upstream for image, _ in naming.complete(packages, "amd64")] == [
        "7.3.8",
        "6.1.176",
    ]


def test_the_base_package_is_taken_where_there_is_one() -> None:
    assert "linux-base-7.3.9+deb13-amd64" not in chosen("7.3", "linux-base-7.3.9+deb13-amd64")[1]


def test_a_suite_that_moved_on_says_so() -> None:
    with pytest.raises(HarnessError, match=r"no kernel 6\.12 .*6\.1\.176, 7\.3\.9"):
        chosen("6.12")
    with pytest.raises(HarnessError, match=r"no kernel 7\.3-rt"):
        chosen("7.3-rt")


def test_a_missing_part_is_an_error() -> None:
    with pytest.raises(HarnessError, match="lacks linux-modules"):
        chosen("7.3", "linux-modules-7.3.9+deb13-amd64")


@pytest.mark.parametrize(
    ("package", "arch", "flavour"),
    [
        ("linux-image-6.1.0-50-amd64", "amd64", ""),
        ("linux-image-6.1.0-0.deb11.52-rt-amd64", "amd64", "rt"),
        ("linux-image-6.12.117+deb12-amd64", "amd64", ""),
        ("linux-image-6.1.0-50-cloud-amd64", "amd64", "cloud"),
        ("linux-image-6.12.117+deb12-amd64-unsigned", "amd64", None),
        ("linux-image-6.12.117+deb12-amd64-dbg", "amd64", None),
        ("linux-image-cloud-amd64", "amd64", None),
        ("linux-image-6.12.117+deb13-arm64", "amd64", None),
        ("linux-image-6.12.117+deb13-arm64", "arm64", ""),
        ("linux-image-6.12.117+deb13-arm64-16k", "arm64", "16k"),
        ("linux-image-6.12.117+deb13-rt-arm64", "arm64", "rt"),
    ],
)
def test_image_names(package: str, arch: str, flavour: str | None) -> None:
    found = naming.images({package: Package(package, "1-1")}, arch)
    assert [image.flavour for image in found] == ([] if flavour is None else [flavour])


def test_a_meta_package_is_no_kernel() -> None:
    leads_on = Package("linux-image-6.12-amd64", "6.12.1-1", (("linux-image-6.12.1-amd64",),))
    assert naming.images({leads_on.name: leads_on}, "amd64") == []


@pytest.mark.parametrize(
    ("name", "arch", "want"),
    [
        ("6.12", "amd64", Wanted("6.12")),
        ("6.16.12", "amd64", Wanted("6.16.12")),
        ("7.3-rt", "amd64", Wanted("7.3", "rt")),
        ("7.3~rc7-cloud", "amd64", Wanted("7.3~rc7", "cloud")),
        ("6.12-16k", "arm64", Wanted("6.12", "16k", "arm64")),
    ],
)
def test_names(name: str, arch: str, want: Wanted) -> None:
    assert Wanted.parse(name, arch) == want
    assert want.name == name
    assert want.entry == (name if arch == "amd64" else f"{arch}-{name}")


@pytest.mark.parametrize("name", ["", "6", "6.12-", "6.12-16k", "6.12-foo", "v6.12", "6.12/../x"])
def test_bad_names(name: str) -> None:
    with pytest.raises(HarnessError, match="--kernel"):
        Wanted.parse(name)


def test_where_to_look() -> None:
    assert Wanted("5.10.260").origins[0].suite == "bullseye-security"
    assert Wanted("6.1").origins[0].suite == "bookworm"
    assert Wanted("6.16.12").origins == naming.MOVING
    assert Wanted("7.3~rc7").origins == naming.MOVING


def test_a_release_candidate_is_no_release_of_the_series() -> None:
    assert not Wanted("7.3").is_met_by("7.3~rc7")
    assert Wanted("7.3~rc7").is_met_by("7.3~rc7")
    assert not Wanted("6.1").is_met_by("6.12.1")


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
    kernel = kernels.load(Wanted("6.1"), entry(tmp_path), thorough=True)
    assert kernel is not None
    assert kernel.release == "6.1.0-1-amd64"
    assert kernels.load(Wanted("6.12"), tmp_path) is None


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
    assert kernels.load(Wanted("6.1"), tmp_path, thorough=True) is None


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


@pytest.mark.parametrize(
    ("builtin", "present", "share"),
    [
        ("", ("9p", "9pnet_virtio", "virtiofs"), "9p"),
        ("kernel/fs/9p/9p.ko", ("9pnet_virtio",), "9p"),
        ("kernel/fs/fuse/virtiofs.ko", (), "virtiofs"),
        ("", ("virtiofs",), "virtiofs"),
        ("", (), None),
    ],
)
def test_how_files_are_shared_is_what_the_kernel_has(
    builtin: str, present: tuple[str, ...], share: str | None, tmp_path: Path
) -> None:
    names = (*kernels.BOOT_MODULES, *present)
    (tmp_path / "modules.builtin").write_text(builtin + "\n")
    for name in names:
        (tmp_path / f"{name}.ko").write_bytes(name.encode())
    modules = {name: Module(f"{name}.ko", (), (), ()) for name in names}
    if share is None:
        with pytest.raises(HarnessError, match="neither 9p nor virtiofs"):
            kernels.write_boot_modules(tmp_path, tmp_path / "boot", modules)
        return
    assert kernels.write_boot_modules(tmp_path, tmp_path / "boot", modules) == share
    found = {path.stem[3:] for path in (tmp_path / "boot").iterdir()}
    wanted = {*kernels.BOOT_MODULES, *kernels.SHARE_MODULES[share]}
    assert found == {name for name in wanted if name in names}

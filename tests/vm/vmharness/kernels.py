"""The kernels: which packages hold them, fetching, and the cache.

A cache entry is a directory:

    lib/modules/RELEASE/   the modules, with the index files that modprobe reads
    vmlinux or vmlinuz     what QEMU is given
    boot/NN-NAME.ko        the few modules that are needed to reach the root, in loading order
    complete.json          written last; says what must be there
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import debian, modindex, naming, vmlinux
from .cachedir import cache_root, filled_atomically, locked, say
from .debian import Archives, Package, PrivateApt, Source
from .errors import HarnessError
from .naming import Origin, Wanted

FORMAT = 1  # of a cache entry; raise it when the layout changes
BOOT_MODULES = ("virtio_pci", "virtio_console", "overlay", "virtio_net")
# What leads to the host's files, by how it is done. Debian's cloud kernels have no 9p.
SHARE_MODULES = {"9p": ("9pnet_virtio", "9p"), "virtiofs": ("virtiofs",)}
DISK_MODULES = ("virtio_blk", "crc32c_generic", "ext4")  # what leads to a root on a disk image


@dataclass(frozen=True)
class Kernel:
    """A kernel that is ready to boot."""

    name: str
    release: str
    directory: Path
    image: Path
    boot_modules: tuple[Path, ...]
    arch: str = "amd64"
    share: str = "9p"


def source_of(origin: Origin, archives: Archives, arch: str) -> Source | None:
    """Where to look, or None if this machine has no such archive."""
    uri = archives.main if origin.archive == "main" else archives.security
    return Source(uri, origin.suite, arch) if uri else None


def find_image(unpacked: Path) -> Path:
    """The kernel image, wherever this generation of packages puts it."""
    for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz*", "lib/modules/*/vmlinuz*"):
        for path in sorted(unpacked.glob(pattern)):
            if path.is_file():
                return path
    raise HarnessError("the fetched packages hold no kernel image")


def find_modules(unpacked: Path, release: str) -> list[Path]:
    """The directories that hold modules of the release (the packages may disagree on /usr)."""
    places = [unpacked / prefix / "lib/modules" / release for prefix in ("usr", ".")]
    found = [place for place in places if place.is_dir()]
    if not found:
        raise HarnessError("the fetched packages hold no modules")
    return found


def arrange(unpacked: Path, target: Path, name: str, release: str) -> None:
    """Turn unpacked packages into a cache entry."""
    image = find_image(unpacked).read_bytes()
    plain = vmlinux.extract(image)
    (target / ("vmlinux" if plain else "vmlinuz")).write_bytes(plain or image)

    directory = target / "lib/modules" / release
    directory.mkdir(parents=True)
    for place in find_modules(unpacked, release):
        for child in place.iterdir():
            if not child.name.startswith("vmlinuz"):
                shutil.move(child, directory / child.name)
    modules = modindex.scan(directory)
    modindex.write_index(directory, modules)
    share = write_boot_modules(directory, target / "boot", modules)

    kept = [
        path
        for path in target.rglob("*")
        if path.is_file() and (path.parent in (target, target / "boot", directory))
    ]
    complete = {
        "format": FORMAT,
        "series": name,
        "release": release,
        "modules": len(modules),
        "share": share,
        "sizes": {str(path.relative_to(target)): path.stat().st_size for path in kept},
    }
    (target / "complete.json").write_text(json.dumps(complete, indent=1) + "\n")


def write_boot_modules(directory: Path, target: Path, modules: dict[str, modindex.Module]) -> str:
    """Unpack what the initramfs loads, named in loading order; give how files are shared."""
    builtin = {
        modindex.module_name(line) for line in (directory / "modules.builtin").read_text().split()
    }
    share = next(
        (
            kind
            for kind, names in SHARE_MODULES.items()
            if all(name in modules or name in builtin for name in names)
        ),
        None,
    )
    if share is None:
        raise HarnessError("the kernel has neither 9p nor virtiofs to show it the host's files")
    wanted = [name for name in (*BOOT_MODULES, *SHARE_MODULES[share]) if name not in builtin]
    target.mkdir()
    for number, name in enumerate(modindex.load_order(wanted, modules)):
        image = modindex.read_module(directory / modules[name].path)
        (target / f"{number:02}-{name}.ko").write_bytes(image)
    return share


def disk_modules(kernel: Kernel) -> list[tuple[str, bytes]]:
    """Name and image of what leads to a disk, in loading order, less the boot modules."""
    directory = kernel.directory / "lib/modules" / kernel.release
    lines = (directory / "modules.dep").read_text().splitlines()
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in lines)}
    paths = {modindex.module_name(path): path for path in needs}
    # What is in no file is built in.
    wanted = [paths[name] for name in DISK_MODULES if name in paths]
    # What must be loaded first stands last.
    order = [each for path in wanted for each in (*reversed(needs[path]), path)]
    loaded = {path.stem.partition("-")[2] for path in kernel.boot_modules}
    return [
        (modindex.module_name(path), modindex.read_module(directory / path))
        for path in dict.fromkeys(order)
        if modindex.module_name(path) not in loaded
    ]


def load(wanted: Wanted, entry: Path, *, thorough: bool = False) -> Kernel | None:
    """The cache entry, if it is complete; `thorough` also counts the modules."""
    try:
        complete: dict[str, Any] = json.loads((entry / "complete.json").read_text())
        if complete["format"] != FORMAT or complete["series"] != wanted.name:
            return None
        for name, size in complete["sizes"].items():
            if (entry / name).stat().st_size != size:
                return None
        release = str(complete["release"])
        directory = entry / "lib/modules" / release
        if thorough and sum(1 for _ in directory.rglob("*.ko*")) != complete["modules"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    image = next((entry / name for name in ("vmlinux", "vmlinuz") if (entry / name).exists()), None)
    if image is None:
        return None
    return Kernel(
        wanted.name,
        release,
        entry,
        image,
        tuple(sorted((entry / "boot").glob("*.ko"))),
        wanted.arch,
        complete.get("share", "9p"),
    )


def fetch(wanted: Wanted, entry: Path) -> None:
    """Fill the cache entry from the first origin that has the kernel."""
    say(f"kernel {wanted.entry}: looking it up in the Debian archive")
    archives = debian.machine_archives()
    reasons: list[str] = []
    for origin in wanted.origins:
        source = source_of(origin, archives, wanted.arch)
        if source is None:
            reasons.append(f"no {origin.archive} archive is configured")
            continue
        try:
            fetch_from(wanted, source, entry)
        except HarnessError as error:
            reasons.append(f"{origin.suite}: {error}")
        else:
            return
    raise HarnessError(f"kernel {wanted.entry} could not be fetched: {'; '.join(reasons)}")


def packages_of(apt: PrivateApt) -> dict[str, Package]:
    """All packages of a suite that may be a kernel's."""
    apt.update()
    return apt.show([name for name in apt.names("linux-") if not name.endswith("-dbg")])


def fetch_from(wanted: Wanted, source: Source, entry: Path) -> None:
    """Fetch, unpack and arrange a kernel from one suite."""
    name = wanted.entry
    with filled_atomically(entry) as scratch:
        work = scratch / "work"
        apt = PrivateApt(work / "apt", [source], wanted.arch)
        image, packages = naming.choose(wanted, packages_of(apt))
        size = sum(package.size for package in packages) / 1e6
        say(f"kernel {name}: downloading {image.release} from {source.suite} ({size:.0f} MB)")
        debs = apt.download(packages)
        say(f"kernel {name}: unpacking")
        for deb in debs:
            debian.unpack(deb, work / "unpacked")
            deb.unlink()
        say(f"kernel {name}: indexing modules")
        arrange(work / "unpacked", scratch, wanted.name, image.release)
        shutil.rmtree(work)
    say(f"kernel {name}: ready in {entry}")


def listing(arch: str) -> Iterator[tuple[str, str, str]]:
    """Name, release and suite of every kernel that the suites have, as far as they can be read."""
    archives = debian.machine_archives()
    told: set[str] = set()
    for origin in naming.ORIGINS:
        source = source_of(origin, archives, arch)
        if source is None:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                packages = packages_of(PrivateApt(Path(scratch), [source], arch))
            except HarnessError as error:
                say(f"{origin.suite}: {error}")
                continue
        for image, _ in naming.complete(packages, arch):
            name = Wanted(image.upstream, image.flavour, arch).name
            if name not in told:
                told.add(name)
                yield name, image.release, origin.suite


def ensure(wanted: Wanted, *, thorough: bool = False) -> Kernel:
    """The kernel from the cache, fetched or repaired first if it must be."""
    name = wanted.entry
    entry = cache_root() / "kernels" / name
    kernel = load(wanted, entry, thorough=thorough)
    if kernel:
        return kernel
    try:
        with locked(entry):
            kernel = load(wanted, entry, thorough=thorough)
            if kernel is None:
                if entry.exists():
                    say(f"kernel {name}: the cached copy is incomplete, fetching it again")
                fetch(wanted, entry)
                kernel = load(wanted, entry, thorough=thorough)
    except OSError as error:
        raise HarnessError(f"kernel {name} could not be put into the cache: {error}") from error
    if kernel is None:
        raise HarnessError(f"kernel {name} was fetched, yet its cache entry is incomplete")
    return kernel

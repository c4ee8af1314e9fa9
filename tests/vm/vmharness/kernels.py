"""The kernels: which packages hold them, fetching, and the cache.

A cache entry is a directory:

    lib/modules/RELEASE/   the modules, with the index files that modprobe reads
    vmlinux or vmlinuz     what QEMU is given
    boot/NN-NAME.ko        the few modules that are needed to reach the root, in loading order
    complete.json          written last; says what must be there
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import debian, modindex, vmlinux
from .cachedir import cache_root, filled_atomically, locked, say
from .debian import Archives, Package, PrivateApt, Source
from .errors import HarnessError

FORMAT = 1  # of a cache entry; raise it when the layout changes
BOOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_net")
DISK_MODULES = ("virtio_blk", "crc32c_generic", "ext4")  # what leads to a root on a disk image


@dataclass(frozen=True)
class Origin:
    """A place to look for a kernel series: archive, suite and the meta package to follow."""

    archive: str  # "main" or "security"
    suite: str
    meta: str


ORIGINS: dict[str, tuple[Origin, ...]] = {
    "6.1": (Origin("main", "bookworm", "linux-image-amd64"),),
    "6.12": (
        Origin("security", "bookworm-security", "linux-image-6.12-amd64"),
        Origin("main", "trixie", "linux-image-amd64"),
    ),
    "7.3": (Origin("main", "trixie-backports", "linux-image-amd64"),),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel that is ready to boot."""

    series: str
    release: str
    directory: Path
    image: Path
    boot_modules: tuple[Path, ...]


def source_of(origin: Origin, archives: Archives) -> Source | None:
    """Where to look, or None if this machine has no such archive."""
    uri = archives.main if origin.archive == "main" else archives.security
    return Source(uri, origin.suite) if uri else None


def image_in(names: Sequence[str], series: str) -> str | None:
    """The image package of the series among package names (no -rt, -cloud, -dbg, -unsigned)."""
    pattern = re.compile(rf"^linux-image-{re.escape(series)}\.\d+[^-]*(?:-\d+)?-amd64$")
    return next((name for name in names if pattern.match(name)), None)


def choose_packages(
    meta: str,
    series: str,
    show: Callable[[Sequence[str]], dict[str, Package]],
    names: Callable[[str], Sequence[str]],
) -> tuple[str, list[Package]]:
    """Follow the meta package to (release, packages that hold this kernel's files).

    Of the dependencies only those are kept that carry the release in their name: image,
    binary, modules, base. When the meta package has moved on to another series, the suite may
    still have the wanted one under its own name.
    """
    found = show([meta]).get(meta)
    direct = [name for group in found.depends for name in group] if found else []
    image = image_in(direct, series) or image_in(names(f"linux-image-{series}"), series)
    if image is None:
        has = f"its {meta} is {found.version}" if found else f"it has no {meta}"
        raise HarnessError(f"the suite has no kernel {series} ({has})")
    release = image.removeprefix("linux-image-")
    chosen: dict[str, Package] = {}
    queue = [image]
    while queue:
        name = queue.pop(0)
        package = show([name]).get(name)
        if package is None:
            raise HarnessError(f"the suite lacks {name}, which kernel {series} needs")
        chosen[name] = package
        for group in package.depends:
            ours = [
                each for each in group if each.startswith("linux-") and each.endswith(f"-{release}")
            ]
            available = show(ours) if len(ours) > 1 else {}
            pick = next((each for each in ours if each in available), ours[0] if ours else None)
            if pick and pick not in chosen and pick not in queue:
                queue.append(pick)
    return release, list(chosen.values())


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


def arrange(unpacked: Path, target: Path, series: str, release: str) -> None:
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
    write_boot_modules(directory, target / "boot", modules)

    kept = [
        path
        for path in target.rglob("*")
        if path.is_file() and (path.parent in (target, target / "boot", directory))
    ]
    complete = {
        "format": FORMAT,
        "series": series,
        "release": release,
        "modules": len(modules),
        "sizes": {str(path.relative_to(target)): path.stat().st_size for path in kept},
    }
    (target / "complete.json").write_text(json.dumps(complete, indent=1) + "\n")


def write_boot_modules(directory: Path, target: Path, modules: dict[str, modindex.Module]) -> None:
    """Unpack what the initramfs loads, named in loading order."""
    builtin = {
        modindex.module_name(line) for line in (directory / "modules.builtin").read_text().split()
    }
    wanted = [name for name in BOOT_MODULES if name not in builtin]
    target.mkdir()
    for number, name in enumerate(modindex.load_order(wanted, modules)):
        image = modindex.read_module(directory / modules[name].path)
        (target / f"{number:02}-{name}.ko").write_bytes(image)


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


def load(series: str, entry: Path, *, thorough: bool = False) -> Kernel | None:
    """The cache entry, if it is complete; `thorough` also counts the modules."""
    try:
        complete: dict[str, Any] = json.loads((entry / "complete.json").read_text())
        if complete["format"] != FORMAT or complete["series"] != series:
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
    return Kernel(series, release, entry, image, tuple(sorted((entry / "boot").glob("*.ko"))))


def fetch(series: str, entry: Path) -> None:
    """Fill the cache entry from the first origin that has the series."""
    say(f"kernel {series}: looking it up in the Debian archive")
    archives = debian.machine_archives()
    reasons: list[str] = []
    for origin in ORIGINS[series]:
        source = source_of(origin, archives)
        if source is None:
            reasons.append(f"no {origin.archive} archive is configured")
            continue
        try:
            fetch_from(series, origin, source, entry)
        except HarnessError as error:
            reasons.append(f"{origin.suite}: {error}")
        else:
            return
    raise HarnessError(f"kernel {series} could not be fetched: {'; '.join(reasons)}")


def fetch_from(series: str, origin: Origin, source: Source, entry: Path) -> None:
    """Fetch, unpack and arrange a kernel from one suite."""
    with filled_atomically(entry) as scratch:
        work = scratch / "work"
        apt = PrivateApt(work / "apt", [source])
        apt.update()
        release, packages = choose_packages(origin.meta, series, apt.show, apt.names)
        size = sum(package.size for package in packages) / 1e6
        say(f"kernel {series}: downloading {release} from {origin.suite} ({size:.0f} MB)")
        debs = apt.download(packages)
        say(f"kernel {series}: unpacking")
        for deb in debs:
            debian.unpack(deb, work / "unpacked")
            deb.unlink()
        say(f"kernel {series}: indexing modules")
        arrange(work / "unpacked", scratch, series, release)
        shutil.rmtree(work)
    say(f"kernel {series}: ready in {entry}")


def ensure(series: str, *, thorough: bool = False) -> Kernel:
    """The kernel from the cache, fetched or repaired first if it must be."""
    entry = cache_root() / "kernels" / series
    kernel = load(series, entry, thorough=thorough)
    if kernel:
        return kernel
    try:
        with locked(entry):
            kernel = load(series, entry, thorough=thorough)
            if kernel is None:
                if entry.exists():
                    say(f"kernel {series}: the cached copy is incomplete, fetching it again")
                fetch(series, entry)
                kernel = load(series, entry, thorough=thorough)
    except OSError as error:
        raise HarnessError(f"kernel {series} could not be put into the cache: {error}") from error
    if kernel is None:
        raise HarnessError(f"kernel {series} was fetched, yet its cache entry is incomplete")
    return kernel

"""Names of kernels, as people say them: 6.12, 6.16.12, 7.3-rt, 6.12-cloud, and 6.12-16k on arm64.

A name is a series or an exact version, and a flavour. Which package it means is told by the
version of the package: the package of Debian's 6.1.176 is called 6.1.0-50.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .debian import Package
from .errors import HarnessError

NAME = re.compile(r"(?P<version>\d+\.\d+(?:\.\d+|~rc\d+)?)(?:-(?P<flavour>[a-z0-9]+))?")
# By architecture and flavour: how the names of Debian's packages end.
ENDINGS = {
    "amd64": {"": "-amd64", "rt": "-rt-amd64", "cloud": "-cloud-amd64"},
    "arm64": {"": "-arm64", "rt": "-rt-arm64", "cloud": "-cloud-arm64", "16k": "-arm64-16k"},
}
# What a test of everything runs on. 7.2 and later are built with their modules in a package apart.
SERIES = ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3")
SEVERAL = ("6.1", "6.12", "7.3")  # oldest, in between and newest of those with live counts


@dataclass(frozen=True)
class Origin:
    """A place to look for a kernel: "main" or "security", and the suite."""

    archive: str
    suite: str


# Where each series is at home; all others come and go in the last ones.
HOMES = {
    "5.10": (Origin("security", "bullseye-security"), Origin("main", "bullseye")),
    "6.1": (Origin("main", "bookworm"), Origin("security", "bookworm-security")),
    "6.12": (Origin("security", "bookworm-security"), Origin("main", "trixie")),
}
MOVING = tuple(Origin("main", suite) for suite in ("trixie-backports", "sid", "experimental"))
ORIGINS = (*dict.fromkeys(origin for home in HOMES.values() for origin in home), *MOVING)


@dataclass(frozen=True)
class Wanted:
    """A kernel that somebody asks for."""

    version: str
    flavour: str = ""
    arch: str = "amd64"

    @classmethod
    def parse(cls, name: str, arch: str = "amd64") -> Wanted:
        """Read VERSION[-FLAVOUR]."""
        match = NAME.fullmatch(name)
        if match is None:
            raise HarnessError(f"--kernel {name}: want a name such as 6.12, 6.16.12 or 7.3-rt")
        flavour = match["flavour"] or ""
        if flavour not in ENDINGS[arch]:
            known = ", ".join(each for each in ENDINGS[arch] if each)
            raise HarnessError(f"--kernel {name}: {arch} has {known}, and no {flavour}")
        return cls(match["version"], flavour, arch)

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.version}-{self.flavour}" if self.flavour else self.version

    @property
    def entry(self) -> str:
        """The name of the cache entry."""
        return self.name if self.arch == "amd64" else f"{self.arch}-{self.name}"

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where to look, in this order."""
        series = ".".join(re.split(r"[.~]", self.version)[:2])
        return HOMES.get(series, MOVING)

    def is_met_by(self, upstream: str) -> bool:
        """Whether a version is the wanted one, or of the wanted series; a candidate is of none."""
        return upstream == self.version or upstream.startswith(f"{self.version}.")


@dataclass(frozen=True)
class Image:
    """A package that is a kernel."""

    package: Package
    flavour: str

    @property
    def release(self) -> str:
        """What uname says."""
        return self.package.name.removeprefix("linux-image-")

    @property
    def upstream(self) -> str:
        """The version of Linux."""
        return self.package.version.rpartition("-")[0]

    @property
    def age(self) -> tuple[int, ...]:
        """Greater for what is newer, if it is of one series."""
        return tuple(int(number) for number in re.findall(r"\d+", self.package.version))


def images(packages: Mapping[str, Package], arch: str) -> list[Image]:
    """The kernels among packages, the newest first: no meta packages, nothing unsigned."""
    found = []
    for flavour, ending in ENDINGS[arch].items():
        # Either 6.12.117+deb12 or 6.1.0-50; a flavour has a hyphen before a letter.
        pattern = re.compile(rf"linux-image-\d[^-]*(?:-\d[^-]*)?{re.escape(ending)}")
        for name, package in packages.items():
            leads_on = any(
                each.startswith("linux-image-") for group in package.depends for each in group
            )
            if pattern.fullmatch(name) and not leads_on:
                found.append(Image(package, flavour))
    return sorted(found, key=lambda image: image.age, reverse=True)


def parts(image: Image, packages: Mapping[str, Package]) -> list[Package]:
    """All packages that hold the kernel's files: those that carry its release in their name.

    Up to 6.18 that is one; from 6.19 image, binary, modules and base. Suites lose the base package
    of 6.18, of which only the scripts are in it.
    """
    chosen: dict[str, Package] = {}
    queue = [image.package.name]
    while queue:
        name = queue.pop(0)
        if name not in packages:
            raise HarnessError(f"the suite lacks {name}, which {image.release} needs")
        chosen[name] = packages[name]
        for group in packages[name].depends:
            ours = [
                each
                for each in group
                if each.startswith("linux-")
                and each.endswith(f"-{image.release}")
                and (each in packages or not each.startswith("linux-base-"))
            ]
            pick = next((each for each in ours if each in packages), ours[0] if ours else None)
            if pick and pick not in chosen and pick not in queue:
                queue.append(pick)
    return list(chosen.values())


def complete(packages: Mapping[str, Package], arch: str) -> list[tuple[Image, list[Package]]]:
    """Kernels of which the suite has all parts; a suite may keep half of an old one."""
    found = []
    for image in images(packages, arch):
        try:
            found.append((image, parts(image, packages)))
        except HarnessError:
            continue
    return found


def choose(wanted: Wanted, packages: Mapping[str, Package]) -> tuple[Image, list[Package]]:
    """The newest complete kernel that is the wanted one, and its packages."""
    fitting = [
        image
        for image in images(packages, wanted.arch)
        if image.flavour == wanted.flavour and wanted.is_met_by(image.upstream)
    ]
    if not fitting:
        has = sorted({each.upstream for each in images(packages, wanted.arch)})
        raise HarnessError(
            f"the suite has no kernel {wanted.name} (it has {', '.join(has) or 'none'})"
        )
    for image in fitting:
        try:
            return image, parts(image, packages)
        except HarnessError as error:
            reason = error
    raise reason

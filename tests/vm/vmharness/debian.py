"""Fetch Debian packages through the machine's own apt set-up, without installing them.

Only directories and source lists are overridden, so the proxy, certificate and login settings
of the machine stay in force. No host name is hard-coded: the archives are those which the
machine itself uses.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import HarnessError

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
INDEX_FORMAT = "$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)"
SUITE = re.compile(
    r"^(bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)(-[a-z-]+)?(/updates)?$"
)
RELATION = re.compile(r"^\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\([^)]*\))?")


@dataclass(frozen=True)
class Archives:
    """The base URIs of the Debian archives that this machine is set up to use."""

    main: str
    security: str | None


@dataclass(frozen=True)
class Source:
    """One suite of one archive, as a line of a sources.list."""

    uri: str
    suite: str
    arch: str = "amd64"

    def line(self) -> str:
        """The line of a sources.list."""
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        signed = f" signed-by={keyring}" if keyring else ""
        return f"deb [arch={self.arch}{signed}] {self.uri} {self.suite} main\n"


@dataclass(frozen=True)
class Package:
    """What the choice of a kernel needs to know about a package."""

    name: str
    version: str
    depends: tuple[tuple[str, ...], ...] = ()
    size: int = 0


def pick_archives(rows: Iterable[tuple[str, str, str]]) -> Archives | None:
    """Choose the archives from rows of (base URI, release, origin).

    An origin that apt does not know yet is left out or printed as the unexpanded field name;
    then the release name must do, together with the customary last part of the path.
    """
    main: str | None = None
    security: str | None = None
    for uri, release, origin in rows:
        known_origin = bool(origin) and not origin.startswith("$(")
        path = uri.rstrip("/").rsplit("/", 1)[-1]
        if known_origin and origin != "Debian":
            continue
        if not known_origin and not (path.startswith("debian") or "mirror" in uri):
            continue
        if not SUITE.match(release):
            continue
        if "security" in release or release.endswith("/updates"):
            security = security or uri
        elif main is None or not release.endswith(("-updates", "-backports")):
            main = main or uri
    return Archives(main, security) if main else None


def parse_index_targets(text: str) -> list[tuple[str, str, str]]:
    """Rows of `apt-get indextargets` in INDEX_FORMAT."""
    rows = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3:
            rows.append((fields[0], fields[1], fields[2]))
    return rows


def parse_print_uris(text: str) -> list[tuple[str, str, str]]:
    """Rows from `apt-get update --print-uris`, which needs no downloaded lists."""
    found = re.findall(r"^'(\S+?/)dists/(\S+)/InRelease'", text, re.MULTILINE)
    return [(uri, release, "") for uri, release in found]


def run_apt(argv: Sequence[str], purpose: str, cwd: Path | None = None) -> str:
    """Run an apt tool, return its output; a failure carries the tool's own last words."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise HarnessError(f"cannot {purpose}: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise HarnessError(f"cannot {purpose}: {' '.join(words) or argv[0] + ' failed'}")
    return done.stdout


def machine_archives() -> Archives:
    """The archives of this machine, as apt itself understands its configuration."""
    text = run_apt(["apt-get", "indextargets", "--format", INDEX_FORMAT], "ask apt for its sources")
    archives = pick_archives(parse_index_targets(text))
    if archives is None:
        text = run_apt(["apt-get", "update", "--print-uris"], "ask apt for its sources")
        archives = pick_archives(parse_print_uris(text))
    if archives is None:
        raise HarnessError(
            "apt on this machine is not set up with a Debian archive, so no kernel can be fetched"
        )
    return archives


def parse_depends(field: str) -> tuple[tuple[str, ...], ...]:
    """The Depends field as groups of alternatives, names only."""
    groups = []
    for group in field.split(","):
        names = [m.group(1) for alt in group.split("|") if (m := RELATION.match(alt))]
        if names:
            groups.append(tuple(names))
    return tuple(groups)


def parse_packages(text: str) -> dict[str, Package]:
    """The stanzas of `apt-cache show`; of several versions the first (the candidate) counts."""
    packages: dict[str, Package] = {}
    for stanza in re.split(r"\n\s*\n", text):
        fields = {}
        for line in stanza.splitlines():
            key, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields[key] = value.strip()
        name = fields.get("Package")
        if name and name not in packages:
            packages[name] = Package(
                name,
                fields.get("Version", ""),
                parse_depends(fields.get("Depends", "")),
                int(fields.get("Size", "0")),
            )
    return packages


class PrivateApt:
    """An apt state of our own, below `root`, that knows only the given sources."""

    def __init__(self, root: Path, sources: Sequence[Source] | None, arch: str = "amd64") -> None:
        """With sources None the machine's own sources are kept, only the state is ours."""
        self.root = root
        for directory in ("lists/partial", "cache/archives/partial", "debs"):
            (root / directory).mkdir(parents=True)
        (root / "status").touch()
        overrides: dict[str, str] = {
            "Dir::State": str(root),
            "Dir::State::lists": str(root / "lists"),
            "Dir::State::status": str(root / "status"),
            "Dir::Cache": str(root / "cache"),
            "Dir::Cache::archives": str(root / "cache/archives"),
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root",  # the cache may be below /root
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if sources is not None:
            listing = root / "sources.list"
            listing.write_text("".join(source.line() for source in sources))
            overrides |= {
                "Dir::Etc::sourcelist": str(listing),
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
            }
        self.options = options_of(overrides)

    def update(self) -> None:
        """Read the package lists."""
        argv = ["apt-get", *self.options, "-q", "--error-on=any", "update"]
        run_apt(argv, "read the package lists of the Debian archive")

    def show(self, names: Sequence[str]) -> dict[str, Package]:
        """The named packages, as far as the archive has them."""
        done = subprocess.run(
            ["apt-cache", *self.options, "show", *names],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return parse_packages(done.stdout)

    def names(self, prefix: str) -> list[str]:
        """All package names that begin so."""
        text = run_apt(["apt-cache", *self.options, "pkgnames", prefix], "list packages")
        return sorted(text.split())

    def download(self, packages: Sequence[Package]) -> list[Path]:
        """Download exactly these versions; apt checks their hashes."""
        wanted = [f"{package.name}={package.version}" for package in packages]
        target = self.root / "debs"
        run_apt(
            ["apt-get", *self.options, "-q", "download", *wanted],
            f"download {', '.join(wanted)}",
            cwd=target,
        )
        return sorted(target.glob("*.deb"))


def options_of(overrides: Mapping[str, str]) -> list[str]:
    """The -o arguments for apt."""
    return [word for key, value in overrides.items() for word in ("-o", f"{key}={value}")]


def unpack(deb: Path, target: Path) -> None:
    """Unpack a package's files, running nothing of it."""
    target.mkdir(parents=True, exist_ok=True)
    run_apt(["dpkg-deb", "-x", str(deb), str(target)], f"unpack {deb.name}")

"""Performance Co-Pilot's collector with one agent, pmdaopenmetrics, from unpacked packages."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.children import Ending
from tests.debs import unpacked
from tests.kernel.daemon import free_port
from tests.waiting import wait_until

_LIBRARIES = ("libpcp3", "libpcp-pmda3", "libpcp-web1", "libpcp-archive1")
_MODULES = tuple(
    f"python3-{name}"
    for name in ("pcp", "requests", "urllib3", "idna", "chardet", "certifi", "six")
)
_DOMAIN = 144
_VALUE = re.compile(r'^ +(?:inst \[\d+ or "\d+ (?P<labels>.*)"\] )?value (?P<value>\S+)$')
_SEMANTICS = re.compile(r"^ +Semantics: (\w+) +Units: (.*)$")


def environment(directory: Path) -> dict[str, str]:
    """Where programs of PCP find what would lie below / if it were installed."""
    package = unpacked("pcp")
    places = {
        "PCP_ETC_DIR": unpacked("pcp-conf") / "etc",
        "PCP_SYSCONF_DIR": package / "etc/pcp",
        "PCP_BIN_DIR": package / "usr/bin",
        "PCP_BINADM_DIR": package / "usr/lib/pcp/bin",
        "PCP_SHARE_DIR": package / "usr/share/pcp",
        "PCP_VAR_DIR": directory / "var",
        "PCP_RUN_DIR": directory / "run",
        "PCP_LOG_DIR": directory / "log",
        "PCP_TMP_DIR": directory / "tmp",
        "PCP_TMPFILE_DIR": directory / "tmp",
        "PCP_PYTHON_PROG": "/usr/bin/python3",
        "PCP_PLATFORM": "linux",
        "PCP_USER": "root",
        "PCP_GROUP": "root",
    }
    conf = directory / "pcp.conf"
    conf.write_text("".join(f"{name}={value}\n" for name, value in places.items()))
    libraries = [unpacked(name) / "usr/lib" for name in _LIBRARIES]
    modules = [unpacked(name) / "usr/lib/python3/dist-packages" for name in _MODULES]
    # Python's ctypes asks ldconfig, which knows only installed libraries.
    loaded = [libraries[0] / "libpcp.so.3", libraries[1] / "libpcp_pmda.so.3"]
    return {
        "PATH": f"{package}/usr/bin:{os.environ['PATH']}",
        "PCP_CONF": str(conf),
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "LD_PRELOAD": ":".join(map(str, loaded)),
        "PYTHONPATH": ":".join(map(str, modules)),
    }


def agent(directory: Path, options: tuple[str, ...]) -> str:
    """The line of pmcd.conf, as the Install script of pmdaopenmetrics writes it."""
    package = unpacked("pcp")
    program = package / "usr/lib/pcp/pmdas/openmetrics/pmdaopenmetrics.python"
    command = [package / "usr/bin/pmpython", program, "-c", directory / "config.d"]
    words = [*command, "-l", directory / "log/openmetrics.log", *options]
    return " ".join(["openmetrics", str(_DOMAIN), "pipe binary notready", *map(str, words)]) + "\n"


@dataclass(frozen=True)
class Described:
    """What PCP believes about a metric."""

    semantics: str
    units: str


class Collector(Ending):
    """pmcd, and what it answers."""

    def __init__(self, directory: Path, source: str, *options: str) -> None:
        """`source`: the text of config.d/ksmwatch.url. `options`: of pmdaopenmetrics."""
        self._directory = directory
        self._environment = environment(directory)
        for name in ("config.d", "var/config/pmda", "var/pmns", "run", "log", "tmp"):
            (directory / name).mkdir(parents=True)
        (directory / "config.d/ksmwatch.url").write_text(source)
        (directory / "pmns").write_text(f"root {{\n openmetrics {_DOMAIN}:*:*\n}}\n")
        (directory / "pmcd.conf").write_text(agent(directory, options))
        self._host = f"127.0.0.1:{free_port()}"
        self._process = subprocess.Popen(
            [
                *(unpacked("pcp") / "usr/lib/pcp/bin/pmcd", "-f", "-U", "root"),
                *("-p", self._host.rpartition(":")[2], "-s", directory / "run/socket"),
                *("-c", directory / "pmcd.conf", "-n", directory / "pmns"),
                *("-l", directory / "log/pmcd.log"),
            ],
            stdin=subprocess.DEVNULL,
            env=self._environment,
            cwd=directory,
        )

    def end(self) -> None:
        # It ends its agent.
        self._process.terminate()
        self._process.wait()

    def _pminfo(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pminfo", "-h", self._host, *arguments, "openmetrics.ksmwatch"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            check=False,
            text=True,
        )
        return done.stdout

    def log(self) -> str:
        """What the agent complains of."""
        return (self._directory / "log/openmetrics.log").read_text()

    def wait(self) -> None:
        """Returns when the agent knows a metric of its source."""
        wait_until(lambda: "openmetrics.ksmwatch." in self._pminfo(), self._pminfo, every=1)

    def values(self) -> dict[str, dict[str, float]]:
        """Each metric's values, by the text of its labels."""
        found: dict[str, dict[str, float]] = {}
        for name, lines in _by_metric(self._pminfo("-f")):
            matches = filter(None, map(_VALUE.match, lines))
            found[name] = {match["labels"] or "": float(match["value"]) for match in matches}
        return found

    def described(self) -> dict[str, Described]:
        """What PCP believes about each metric."""
        return {
            name: Described(*match.groups())
            for name, lines in _by_metric(self._pminfo("-d"))
            for match in filter(None, map(_SEMANTICS.match, lines))
        }


def _by_metric(text: str) -> list[tuple[str, list[str]]]:
    """The paragraphs of pminfo, by the last part of the name that they begin with."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("openmetrics."):
            found.append((line.split()[0].rpartition(".")[2], []))
        elif found:
            found[-1][1].append(line)
    return found

"""Every option as data: its name, default, check and help.

Flags, the configuration file, man pages and completions are made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ksmwatch.option_values import (
    Choice,
    addresses,
    boolean,
    group,
    number,
    optional_path,
    path,
    telemetry_path,
    tenants,
    user,
)

DEFAULT_GROUP = "ksmwatch"
DEFAULT_SOCKET = "/run/ksmwatch/ksmwatch.sock"
# Free in the Prometheus project's list of default ports when it was chosen.
DEFAULT_LISTEN = ":10054"


# More are not spelt out in front of the help of a flag.
_LONG_WORDS = 20


@dataclass(frozen=True)
class Option:
    """One setting. `check` turns a raw value into the setting or raises ValueError.

    `reloads`: it can change while the daemon runs. `rare`: few need it, so the manual has it,
    and not the help of the daemon. `value`: what stands for a value in help. `more`: sentences
    for the manual.
    """

    flag: str
    default: Any
    check: Callable[[Any], Any]
    help: str
    repeatable: bool = False
    reloads: bool = False
    rare: bool = False
    value: str = "N"
    more: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The values that it can have, if they are few."""
        if isinstance(self.check, Choice):
            return self.check.names
        return ("true", "false") if self.check is boolean else ()

    @property
    def metavar(self) -> str:
        """What stands for its value in help; words in lower case are meant literally."""
        words = "|".join(self.words)
        if words and len(words) <= _LONG_WORDS:
            return words
        return "WORD" if words else self.value

    @property
    def field(self) -> str:
        """Its name in Config."""
        return self.flag.replace(".", "_").replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option(
        "web.listen-address",
        [DEFAULT_LISTEN],
        addresses,
        f"where HTTP is (repeatable; default {DEFAULT_LISTEN})",
        repeatable=True,
        value="ADDRESS",
        more="HOST:PORT or :PORT; empty: nowhere.",
    ),
    Option(
        "web.telemetry-path",
        "/metrics",
        telemetry_path,
        "of the metrics (default /metrics)",
        value="PATH",
    ),
    Option(
        "web.config.file",
        "",
        optional_path,
        "TLS and passwords (default none)",
        value="PATH",
        more="In the format of the Prometheus project's exporters; see docs/http.md.",
    ),
    Option(
        flag="web.systemd-socket",
        default=False,
        check=boolean,
        help="serve on systemd's sockets (default false)",
        rare=True,
        more="Those of ksmwatch.socket, instead of --web.listen-address.",
    ),
    Option(
        "web.user",
        "nobody",
        user,
        "who serves HTTP, as root (default nobody)",
        value="USER",
        rare=True,
        more="As root, the user that the process becomes which serves HTTP.",
    ),
    Option(
        "web.max-requests",
        40,
        number(1, 1000, int),
        "requests that are answered at a time (default 40)",
        rare=True,
    ),
    Option(
        "web.max-connections",
        256,
        number(1, 10000, int),
        "open connections (default 256)",
        rare=True,
        more="Others wait until one that does nothing was closed.",
    ),
    Option(
        "textfile.directory",
        "",
        optional_path,
        "ksmwatch.prom for node_exporter (default nowhere)",
        value="PATH",
        more="The file is for its textfile collector, which must be pointed at this directory.",
    ),
    Option(
        "textfile.interval",
        15.0,
        number(1, 3600),
        "seconds between writes of that file (default 15)",
        rare=True,
    ),
    Option(
        "socket",
        DEFAULT_SOCKET,
        path,
        f"default {DEFAULT_SOCKET}",
        value="PATH",
        more="The Unix socket on which the daemon answers other commands.",
    ),
    # Not socket.group: in TOML a key is a value or a table.
    Option(
        "socket-group",
        DEFAULT_GROUP,
        group,
        f"group that may use it (default {DEFAULT_GROUP})",
        rare=True,
        value="NAME",
        more="Where there is no such group, and when empty, only the daemon's user may.",
    ),
    Option(
        "backend",
        "auto",
        Choice("auto", "bpf", "poll"),
        "default auto: bpf if possible; poll: smaps",
        more="bpf: live, or fail. poll: smaps_rollup. auto: live where possible, else poll.",
    ),
    Option(
        "probes",
        "auto",
        Choice("auto", "fentry", "kprobe"),
        "default auto: fentry if possible",
        rare=True,
    ),
    Option(
        "accounts.max",
        65536,
        number(16, 1 << 22, int),
        "room for so many address spaces (default 65536)",
        rare=True,
    ),
    Option(
        "audit.cpu-percent",
        0.1,
        number(0, 100),
        "for reading page tables (default 0.1; 0: never)",
        more="In percent of a core: counts are compared with page tables, and healed.",
        reloads=True,
    ),
    Option(
        flag="audit.heal",
        default=True,
        check=boolean,
        help="false: read no page table after the start; counts in doubt stay estimated",
        reloads=True,
        rare=True,
    ),
    Option(
        "owners.top",
        50,
        number(0, 10000, int),
        "so many owners have series (default 50)",
        more="The largest; all others are one row. 0: none.",
        reloads=True,
    ),
    Option(
        flag="metrics.processes",
        default=False,
        check=boolean,
        help="series by process, unbounded (default false)",
        more="Their number has no bound.",
        reloads=True,
    ),
    Option(
        "peers.tenant",
        [],
        tenants,
        "one tenant: what has such a KIND:ID (repeatable)",
        repeatable=True,
        value="LABEL=PATTERN",
        rare=True,
        more="Of ksmwatch peers. The first pattern that matches gives an owner its label.",
    ),
    Option(
        "poll.interval",
        15.0,
        number(1, 3600),
        "seconds between rounds (default 15)",
        rare=True,
        reloads=True,
        more="Where live accounting is impossible.",
    ),
    Option(
        "poll.cpu-percent",
        1.0,
        number(0.01, 100),
        "CPU limit of polling (default 1)",
        rare=True,
        reloads=True,
    ),
    Option(
        "state.pin-path",
        "/sys/fs/bpf/ksmwatch",
        optional_path,
        "where counts outlive a killed daemon; empty: nowhere (default /sys/fs/bpf/ksmwatch)",
        rare=True,
        value="PATH",
    ),
    Option(
        "log.level",
        "info",
        Choice("debug", "info", "warning", "error"),
        "debug, info (default), warning or error",
        reloads=True,
    ),
    Option(
        "log.format",
        "logfmt",
        Choice("logfmt", "json"),
        "default logfmt",
        rare=True,
        reloads=True,
    ),
)

"""Every option as data: its name, default, check and help.

Flags, the configuration file, man pages and completions are generated from it.
"""

# Without `from __future__ import annotations`, see config.
from collections.abc import Callable
from typing import Any, NamedTuple

from ksmwatch.option_values import (
    AUTO,
    Choice,
    addresses,
    automatic_path,
    boolean,
    group,
    number,
    optional_path,
    path,
    telemetry_path,
    tenants,
    user,
    zero_or_power_of_two,
)

DEFAULT_GROUP = "ksmwatch"
DEFAULT_SOCKET = "/run/ksmwatch/ksmwatch.sock"
DEFAULT_HISTORY = "/var/lib/ksmwatch/history"
# Free in the Prometheus project's list of default ports when it was chosen.
DEFAULT_LISTEN = ":10054"


# Longer lists of values are not spelt out before the help of a flag.
_LONG_WORDS = 20


class Option(NamedTuple):
    """One setting. `check` turns a raw value into the setting, or raises ValueError.

    `reloads`: it can change while the daemon runs. `rare`: few users need it, so the manual
    describes it and `ksmwatch run --help` does not. `value`: the placeholder in help. `more`:
    further sentences for the manual.
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
        """The allowed values, if they are words."""
        if isinstance(self.check, Choice):
            return self.check.names
        return ("true", "false") if self.check is boolean else ()

    @property
    def metavar(self) -> str:
        """The placeholder of its value in help. Words in lower case are literal."""
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
        f"address to serve HTTP on (repeatable; default {DEFAULT_LISTEN})",
        repeatable=True,
        value="ADDRESS",
        more="HOST:PORT or :PORT. An empty value turns HTTP off.",
    ),
    Option(
        "web.telemetry-path",
        "/metrics",
        telemetry_path,
        "URL path of the metrics (default /metrics)",
        value="PATH",
    ),
    Option(
        "web.config.file",
        "",
        optional_path,
        "file with TLS and password settings (default none)",
        value="PATH",
        more="The format is that of the Prometheus project's exporters; see docs/http.md.",
    ),
    Option(
        flag="web.systemd-socket",
        default=False,
        check=boolean,
        help="serve on systemd's sockets (default false)",
        rare=True,
        more="Uses the sockets of ksmwatch.socket instead of --web.listen-address.",
    ),
    Option(
        "web.user",
        "nobody",
        user,
        "user that serves HTTP (default nobody)",
        value="USER",
        rare=True,
        more="Applies only when the daemon runs as root.",
    ),
    Option(
        "web.max-requests",
        40,
        number(1, 1000, int),
        "requests answered at the same time (default 40)",
        rare=True,
    ),
    Option(
        "web.max-connections",
        256,
        number(1, 10000, int),
        "open connections allowed (default 256)",
        rare=True,
        more="Further connections wait until an idle one is closed.",
    ),
    Option(
        "textfile.directory",
        "",
        optional_path,
        "directory for ksmwatch.prom (default none)",
        value="PATH",
        more="Point the textfile collector of node_exporter at the same directory.",
    ),
    Option(
        "textfile.interval",
        15.0,
        number(1, 3600),
        "seconds between writes of ksmwatch.prom (default 15)",
        rare=True,
    ),
    Option(
        "socket",
        DEFAULT_SOCKET,
        path,
        f"Unix socket (default {DEFAULT_SOCKET})",
        value="PATH",
        more="The daemon answers the other commands on it.",
    ),
    # Not socket.group: in TOML a key is a value or a table.
    Option(
        "socket-group",
        DEFAULT_GROUP,
        group,
        f"group that may use the socket (default {DEFAULT_GROUP})",
        rare=True,
        value="NAME",
        more="Without such a group, or if the value is empty, only the daemon's user may use it.",
    ),
    Option(
        "backend",
        "auto",
        Choice("auto", "bpf", "poll"),
        "how to count (default auto: bpf if possible)",
        more="bpf: live, or fail. poll: read smaps_rollup. auto: live if possible, else poll.",
    ),
    Option(
        "probes",
        "auto",
        Choice("auto", "fentry", "kprobe"),
        "probe mechanism (default auto: fentry, else kprobe; on PREEMPT_RT the reverse)",
        rare=True,
    ),
    Option(
        "accounts.max",
        65536,
        number(16, 1 << 22, int),
        "number of address spaces to make room for (default 65536)",
        rare=True,
    ),
    Option(
        "audit.cpu-percent",
        0.1,
        number(0, 100),
        "CPU share of the audit (default 0.1; 0: off)",
        more="Percent of one core. The audit compares counts with page tables and corrects them.",
        reloads=True,
    ),
    Option(
        flag="audit.heal",
        default=True,
        check=boolean,
        help="false: read no page tables after the start, so counts in doubt stay estimated",
        reloads=True,
        rare=True,
    ),
    Option(
        "ages.one-in",
        16,
        zero_or_power_of_two(1 << 16),
        "keep ages of mappings for one page in N (default 16; 0: for no page)",
        more="A power of two. If there are too many pages for the maps, fewer are followed.",
        rare=True,
    ),
    Option(
        "owners.top",
        50,
        number(0, 10000, int),
        "how many owners have series (default 50)",
        more="The largest owners have them; the others are added up. 0: no series by owner.",
        reloads=True,
    ),
    Option(
        flag="metrics.processes",
        default=False,
        check=boolean,
        help="series for each process (default false)",
        more="Their number has no limit.",
        reloads=True,
    ),
    Option(
        "peers.tenant",
        [],
        tenants,
        "owners of one tenant, by KIND:ID (repeatable)",
        repeatable=True,
        value="LABEL=PATTERN",
        rare=True,
        more="For ksmwatch peers. An owner gets the label of the first pattern that matches.",
    ),
    Option(
        "poll.interval",
        15.0,
        number(1, 3600),
        "seconds between rounds of polling (default 15)",
        rare=True,
        reloads=True,
        more="Used when live accounting is impossible.",
    ),
    Option(
        "poll.cpu-percent",
        1.0,
        number(0.01, 100),
        "CPU limit of polling, in percent of one core (default 1)",
        rare=True,
        reloads=True,
    ),
    Option(
        "state.pin-path",
        "/sys/fs/bpf/ksmwatch",
        optional_path,
        "BPF directory that keeps counts when the daemon is killed; empty: none "
        "(default /sys/fs/bpf/ksmwatch)",
        rare=True,
        value="PATH",
    ),
    Option(
        "state.programs-path",
        "/var/lib/ksmwatch/programs",
        optional_path,
        "directory that keeps compiled programs for later starts; empty: always compile "
        "(default /var/lib/ksmwatch/programs)",
        rare=True,
        value="PATH",
        more="Only root keeps programs, and only files that no other user can have written are "
        "used. Files in /usr/lib/ksmwatch/programs are used, too.",
    ),
    Option(
        "history.directory",
        AUTO,
        automatic_path,
        "directory of past counts (default auto)",
        rare=True,
        value="PATH",
        more=f"auto: under systemd {DEFAULT_HISTORY}, the service's state directory; otherwise "
        "none. An empty value: none. For ksmwatch history and ksmwatch top --at. Users who may use "
        "the socket may read it.",
    ),
    Option(
        "history.interval",
        10.0,
        number(1, 3600),
        "seconds between moments in the history (default 10)",
        rare=True,
    ),
    Option(
        "history.hours",
        24.0,
        number(0, 24 * 365),
        "hours for which each moment is kept (default 24)",
        rare=True,
        more="After that, one moment in ten minutes is kept.",
    ),
    Option(
        "history.days",
        30.0,
        number(0, 3660),
        "days for which the history is kept (default 30)",
        rare=True,
    ),
    Option(
        "history.max-mb",
        100,
        number(1, 1 << 20, int),
        "size of the history in millions of bytes (default 100)",
        rare=True,
        more="When it is full, the oldest moments go first.",
    ),
    Option(
        "log.level",
        "info",
        Choice("debug", "info", "warning", "error"),
        "debug, info, warning or error (default info)",
        reloads=True,
    ),
    Option(
        "log.format",
        "logfmt",
        Choice("logfmt", "json"),
        "logfmt or json (default logfmt)",
        rare=True,
        reloads=True,
    ),
)

"""Configuration: one table of options makes the flags, the TOML keys and the checks.

The flag ``--web.listen-address`` is the key ``listen-address`` in the table ``[web]``; a flag
without a dot is a key at the top. Flags win over the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ksmwatch.errors import ConfigError

DEFAULT_GROUP = "ksmwatch"
DEFAULT_SOCKET = "/run/ksmwatch/ksmwatch.sock"
# Free in the Prometheus project's list of default ports when it was chosen.
DEFAULT_LISTEN = ":10054"


@dataclass(frozen=True)
class Address:
    """Where to listen. An empty host is every address of the machine."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """``host:port``, ``:port`` or ``[v6]:port``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must be HOST:PORT or :PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address must stand in brackets")
    return Address(host, int(port))


class _Choice:
    """One of some words."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, value: Any) -> str:
        if value not in self.names:
            raise ValueError(f"must be one of {', '.join(self.names)}")
        return str(value)


def _number(low: float, high: float, kind: type = float) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("must be a number")  # noqa: TRY004 - one kind for the caller
        number = kind(value)
        if isinstance(value, float) and number != value:
            raise ValueError("must be a whole number")
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}")
        return number

    return check


def flag_number(text: str, flag: str, kind: type, low: float, high: float) -> Any:
    """The number that was given to a flag that is no setting. Raises ConfigError."""
    try:
        number = kind(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is not a number.") from error
    if not low <= number <= high:
        raise ConfigError(f"{flag}: {text!r} must be between {low:g} and {high:g}.")
    return number


def _boolean(value: Any) -> bool:
    if value not in (True, False, "true", "false") or not isinstance(value, (bool, str)):
        raise ValueError("must be true or false")
    return value in (True, "true")


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def _optional_path(value: Any) -> str:
    return "" if value == "" else _path(value)


def _addresses(value: Any) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else value
    if texts == [""]:
        return ()
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("must be an address or a list of addresses")
    return tuple(parse_address(text) for text in texts)


def _tenants(value: Any) -> tuple[tuple[str, str], ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("must be LABEL=PATTERN or a list of these")
    pairs = [text.partition("=") for text in texts]
    if not all(label and ":" not in label and pattern for label, _, pattern in pairs):
        raise ValueError("must be LABEL=PATTERN, without a colon in the label")
    return tuple((label, pattern) for label, _, pattern in pairs)


def _telemetry_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError("must begin with / and not be /")
    return value


def _group(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be the name of a group")  # noqa: TRY004 - one kind for the caller
    return value


def _user(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a user")
    return value


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
        if isinstance(self.check, _Choice):
            return self.check.names
        return ("true", "false") if self.check is _boolean else ()

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
        _addresses,
        f"where HTTP is (repeatable; default {DEFAULT_LISTEN})",
        repeatable=True,
        value="ADDRESS",
        more="HOST:PORT or :PORT; empty: nowhere.",
    ),
    Option(
        "web.telemetry-path",
        "/metrics",
        _telemetry_path,
        "of the metrics (default /metrics)",
        value="PATH",
    ),
    Option(
        "web.config.file",
        "",
        _optional_path,
        "TLS and passwords (default none)",
        value="PATH",
        more="In the format of the Prometheus project's exporters; see docs/http.md.",
    ),
    Option(
        flag="web.systemd-socket",
        default=False,
        check=_boolean,
        help="serve on systemd's sockets (default false)",
        rare=True,
        more="Those of ksmwatch.socket, instead of --web.listen-address.",
    ),
    Option(
        "web.user",
        "nobody",
        _user,
        "who serves HTTP, as root (default nobody)",
        value="USER",
        rare=True,
        more="As root, the user that the process becomes which serves HTTP.",
    ),
    Option(
        "web.max-requests",
        40,
        _number(1, 1000, int),
        "requests that are answered at a time (default 40)",
        rare=True,
    ),
    Option(
        "web.max-connections",
        256,
        _number(1, 10000, int),
        "open connections (default 256)",
        rare=True,
        more="Others wait until one that does nothing was closed.",
    ),
    Option(
        "textfile.directory",
        "",
        _optional_path,
        "ksmwatch.prom for node_exporter (default nowhere)",
        value="PATH",
        more="The file is for its textfile collector, which must be pointed at this directory.",
    ),
    Option(
        "textfile.interval",
        15.0,
        _number(1, 3600),
        "seconds between writes of that file (default 15)",
        rare=True,
    ),
    Option(
        "socket",
        DEFAULT_SOCKET,
        _path,
        f"default {DEFAULT_SOCKET}",
        value="PATH",
        more="The Unix socket on which the daemon answers other commands.",
    ),
    # Not socket.group: in TOML a key is a value or a table.
    Option(
        "socket-group",
        DEFAULT_GROUP,
        _group,
        f"group that may use it (default {DEFAULT_GROUP})",
        rare=True,
        value="NAME",
        more="Where there is no such group, and when empty, only the daemon's user may.",
    ),
    Option(
        "backend",
        "auto",
        _Choice("auto", "bpf", "poll"),
        "default auto: bpf if possible; poll: smaps",
        more="bpf: live, or fail. poll: smaps_rollup. auto: live where possible, else poll.",
    ),
    Option(
        "probes",
        "auto",
        _Choice("auto", "fentry", "kprobe"),
        "default auto: fentry if possible",
        rare=True,
    ),
    Option(
        "accounts.max",
        65536,
        _number(16, 1 << 22, int),
        "room for so many address spaces (default 65536)",
        rare=True,
    ),
    Option(
        "audit.cpu-percent",
        0.1,
        _number(0, 100),
        "for reading page tables (default 0.1; 0: never)",
        more="In percent of a core: counts are compared with page tables, and healed.",
        reloads=True,
    ),
    Option(
        flag="audit.heal",
        default=True,
        check=_boolean,
        help="false: read no page table after the start; counts in doubt stay estimated",
        reloads=True,
        rare=True,
    ),
    Option(
        "owners.top",
        50,
        _number(0, 10000, int),
        "so many owners have series (default 50)",
        more="The largest; all others are one row. 0: none.",
        reloads=True,
    ),
    Option(
        flag="metrics.processes",
        default=False,
        check=_boolean,
        help="series by process, unbounded (default false)",
        more="Their number has no bound.",
        reloads=True,
    ),
    Option(
        "peers.tenant",
        [],
        _tenants,
        "one tenant: what has such a KIND:ID (repeatable)",
        repeatable=True,
        value="LABEL=PATTERN",
        rare=True,
        more="Of ksmwatch peers. The first pattern that matches gives an owner its label.",
    ),
    Option(
        "poll.interval",
        15.0,
        _number(1, 3600),
        "seconds between rounds (default 15)",
        rare=True,
        reloads=True,
        more="Where live accounting is impossible.",
    ),
    Option(
        "poll.cpu-percent",
        1.0,
        _number(0.01, 100),
        "CPU limit of polling (default 1)",
        rare=True,
        reloads=True,
    ),
    Option(
        "state.pin-path",
        "/sys/fs/bpf/ksmwatch",
        _optional_path,
        "where counts outlive a killed daemon; empty: nowhere (default /sys/fs/bpf/ksmwatch)",
        rare=True,
        value="PATH",
    ),
    Option(
        "log.level",
        "info",
        _Choice("debug", "info", "warning", "error"),
        "debug, info (default), warning or error",
        reloads=True,
    ),
    Option(
        "log.format",
        "logfmt",
        _Choice("logfmt", "json"),
        "default logfmt",
        rare=True,
        reloads=True,
    ),
)


@dataclass(frozen=True)
class Config:
    """The checked settings of the daemon."""

    web_listen_address: tuple[Address, ...]
    web_telemetry_path: str
    web_config_file: str
    web_systemd_socket: bool
    web_user: str
    web_max_requests: int
    web_max_connections: int
    textfile_directory: str
    textfile_interval: float
    socket: str
    socket_group: str
    backend: str
    probes: str
    accounts_max: int
    audit_cpu_percent: float
    audit_heal: bool
    owners_top: int
    metrics_processes: bool
    peers_tenant: tuple[tuple[str, str], ...]
    poll_interval: float
    poll_cpu_percent: float
    state_pin_path: str
    log_level: str
    log_format: str


def add_flags(
    parser: argparse.ArgumentParser, only: tuple[str, ...] = (), *, rare: bool = False
) -> int:
    """Give a parser the flags of all options, or of `only` some.

    The help of those that few need is hidden unless `rare`, or a command asks for them by
    name; returns how many are.
    """
    hidden = 0
    for option in OPTIONS:
        if only and option.flag not in only:
            continue
        hide = option.rare and not rare and not only
        hidden += hide
        parser.add_argument(
            f"--{option.flag}",
            dest=option.field,
            action="append" if option.repeatable else "store",
            metavar=option.metavar,
            help=argparse.SUPPRESS if hide else option.help,
        )
    return hidden


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of nested tables by flag name."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a TOML file by flag name. Raises ConfigError for what it does not know."""
    # Here: it takes ten milliseconds of every start, and most have no file.
    import tomllib

    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    flat = flatten(table)
    known = {option.flag for option in OPTIONS}
    for name in flat:
        if name not in known:
            raise ConfigError(f"{path}: there is no setting {name!r}.")
    return flat


def make(file: Mapping[str, Any], flags: Mapping[str, Any], path: str = "") -> Config:
    """Flags over file over defaults, all checked. Raises ConfigError."""
    settings = {}
    for option in OPTIONS:
        value, where = option.default, f"--{option.flag}"
        if flags.get(option.field) is not None:
            value = flags[option.field]
        elif option.flag in file:
            value, where = file[option.flag], f"{path}: {option.flag}"
        try:
            settings[option.field] = option.check(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigError(f"{where}: {value!r} {_complaint(error)}.") from error
    return Config(**settings)


@dataclass(frozen=True)
class Reload:
    """How the last reading of the configuration ended, and when one was taken (Unix time)."""

    successful: bool
    taken_at: float


def reloaded(now: Config, wanted: Config) -> tuple[Config, list[str]]:
    """What of `wanted` a running daemon takes, and the settings that it needs a restart for."""
    changed = [o for o in OPTIONS if getattr(now, o.field) != getattr(wanted, o.field)]
    taken = {o.field: getattr(wanted, o.field) for o in changed if o.reloads}
    return replace(now, **taken), [o.flag for o in changed if not o.reloads]


def _complaint(error: Exception) -> str:
    text = str(error)
    return text if text.startswith(("must", "an ")) else "is not a number"

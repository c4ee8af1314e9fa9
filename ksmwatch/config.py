"""Configuration: one table of options makes the flags, the TOML keys and the checks.

The flag ``--web.listen-address`` is the key ``listen-address`` in the table ``[web]``; a flag
without a dot is a key at the top. Flags win over the file.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ksmwatch.errors import ConfigError

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


def _choice(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return str(value)

    return check


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


def _boolean(value: Any) -> bool:
    if value not in (True, False, "true", "false") or not isinstance(value, (bool, str)):
        raise ValueError("must be true or false")
    return value in (True, "true")


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def _pin_path(value: Any) -> str:
    return "" if value == "" else _path(value)


def _addresses(value: Any) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else value
    if texts == [""]:
        return ()
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("must be an address or a list of addresses")
    return tuple(parse_address(text) for text in texts)


def _telemetry_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError("must begin with / and not be /")
    return value


def _user(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a user")
    return value


@dataclass(frozen=True)
class Option:
    """One setting. `check` turns a raw value into the setting or raises ValueError.

    `reloads`: it can change while the daemon runs.
    """

    flag: str
    default: Any
    check: Callable[[Any], Any]
    help: str
    repeatable: bool = False
    reloads: bool = False

    @property
    def field(self) -> str:
        """Its name in Config."""
        return self.flag.replace(".", "_").replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option(
        "web.listen-address",
        [DEFAULT_LISTEN],
        _addresses,
        f"where HTTP is served (repeatable; empty: nowhere; default {DEFAULT_LISTEN})",
        repeatable=True,
    ),
    Option("web.telemetry-path", "/metrics", _telemetry_path, "path of the metrics"),
    Option(
        "web.user",
        "nobody",
        _user,
        "as root, the user that the process becomes which serves HTTP (default nobody)",
    ),
    Option(
        "web.max-requests",
        40,
        _number(1, 1000, int),
        "requests that are answered at a time (default 40)",
    ),
    Option(
        "web.max-connections",
        256,
        _number(1, 10000, int),
        "open connections; beyond them the least busy one is closed (default 256)",
    ),
    Option(
        "socket", DEFAULT_SOCKET, _path, f"Unix socket for snapshots (default {DEFAULT_SOCKET})"
    ),
    Option(
        "backend",
        "auto",
        _choice("auto", "bpf", "poll"),
        "bpf: live or fail; poll: smaps_rollup; auto: bpf where possible (default)",
    ),
    Option(
        "probes",
        "auto",
        _choice("auto", "fentry", "kprobe"),
        "allow only one kind of probe (default auto: fentry where possible)",
    ),
    Option(
        "accounts.max",
        65536,
        _number(16, 1 << 22, int),
        "room for so many address spaces with KSM pages (default 65536)",
    ),
    Option(
        "audit.cpu-percent",
        0.5,
        _number(0, 100),
        "CPU limit of comparing counts with page tables (default 0.5; 0: never)",
        reloads=True,
    ),
    Option(
        flag="audit.heal",
        default=True,
        check=_boolean,
        help="false: read no page table after the start; counts in doubt stay estimated",
        reloads=True,
    ),
    Option(
        "owners.top",
        50,
        _number(0, 10000, int),
        "series for so many owners, the largest; the rest are one (default 50; 0: none)",
        reloads=True,
    ),
    Option(
        flag="metrics.processes",
        default=False,
        check=_boolean,
        help="series by process, without bound: true or false (default)",
        reloads=True,
    ),
    Option(
        "poll.interval",
        15.0,
        _number(1, 3600),
        "seconds between polling rounds (default 15)",
        reloads=True,
    ),
    Option(
        "poll.cpu-percent",
        1.0,
        _number(0.01, 100),
        "CPU limit of polling (default 1)",
        reloads=True,
    ),
    Option(
        "state.pin-path",
        "/sys/fs/bpf/ksmwatch",
        _pin_path,
        "where maps and attachments outlive a killed daemon; empty: nowhere "
        "(default /sys/fs/bpf/ksmwatch)",
    ),
    Option(
        "log.level",
        "info",
        _choice("debug", "info", "warning", "error"),
        "(default info)",
        reloads=True,
    ),
    Option("log.format", "logfmt", _choice("logfmt", "json"), "(default logfmt)", reloads=True),
)


@dataclass(frozen=True)
class Config:
    """The checked settings of the daemon."""

    web_listen_address: tuple[Address, ...]
    web_telemetry_path: str
    web_user: str
    web_max_requests: int
    web_max_connections: int
    socket: str
    backend: str
    probes: str
    accounts_max: int
    audit_cpu_percent: float
    audit_heal: bool
    owners_top: int
    metrics_processes: bool
    poll_interval: float
    poll_cpu_percent: float
    state_pin_path: str
    log_level: str
    log_format: str


def add_flags(parser: argparse.ArgumentParser, only: tuple[str, ...] = ()) -> None:
    """Give a parser the flags of all options, or of `only` some."""
    for option in OPTIONS:
        if only and option.flag not in only:
            continue
        parser.add_argument(
            f"--{option.flag}",
            dest=option.field,
            action="append" if option.repeatable else "store",
            metavar="VALUE",
            help=option.help,
        )


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


def reloaded(now: Config, wanted: Config) -> tuple[Config, list[str]]:
    """What of `wanted` a running daemon takes, and the settings that it needs a restart for."""
    changed = [o for o in OPTIONS if getattr(now, o.field) != getattr(wanted, o.field)]
    taken = {o.field: getattr(wanted, o.field) for o in changed if o.reloads}
    return replace(now, **taken), [o.flag for o in changed if not o.reloads]


def _complaint(error: Exception) -> str:
    text = str(error)
    return text if text.startswith(("must", "an ")) else "is not a number"

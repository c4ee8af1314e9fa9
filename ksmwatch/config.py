"""Configuration: one table of options makes the flags, the TOML keys and the checks.

The flag ``--web.listen-address`` is the key ``listen-address`` in the table ``[web]``. A flag
without a dot is a top-level key. Flags override the file.
"""

# Without `from __future__ import annotations`, here and in other modules that every command loads:
# NamedTuple compiles annotations that are strings, and in a short command nothing else is compiled.
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ksmwatch.errors import ConfigError
from ksmwatch.option_values import Address
from ksmwatch.options import OPTIONS

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


# No dataclass here and in what is imported here: that would load `inspect`, and be more work than
# all else of a command that asks the daemon.
class Config(NamedTuple):
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
    ages_one_in: int
    owners_top: int
    metrics_processes: bool
    peers_tenant: tuple[tuple[str, str], ...]
    poll_interval: float
    poll_cpu_percent: float
    state_pin_path: str
    state_programs_path: str
    history_directory: str
    history_interval: float
    history_hours: float
    history_days: float
    history_max_mb: int
    log_level: str
    log_format: str


def add_flags(
    parser: "argparse.ArgumentParser", only: tuple[str, ...] = (), *, rare: bool = False
) -> int:
    """Give a parser the flags of all options, or of those in `only`.

    The help of rare flags is hidden unless `rare` is set, or a command asks for them by name.
    Returns the number of hidden flags.
    """
    from argparse import SUPPRESS

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
            help=SUPPRESS if hide else option.help,
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


def read_file(path: "Path") -> dict[str, Any]:
    """The settings of a TOML file by flag name. Raises ConfigError for an unknown setting."""
    # Imported here: it takes ten milliseconds, and most starts need no file.
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


def reloaded(now: Config, wanted: Config) -> tuple[Config, list[str]]:
    """What a running daemon takes of `wanted`, and the settings that need a restart."""
    changed = [o for o in OPTIONS if getattr(now, o.field) != getattr(wanted, o.field)]
    taken = {o.field: getattr(wanted, o.field) for o in changed if o.reloads}
    return now._replace(**taken), [o.flag for o in changed if not o.reloads]


def _complaint(error: Exception) -> str:
    text = str(error)
    return text if text.startswith("must") else "is not a number"

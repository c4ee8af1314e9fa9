"""The checks of option values: each returns the setting, or raises ValueError."""

# Without `from __future__ import annotations`, see config.
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from ksmwatch.errors import ConfigError

AUTO = "auto"


class Address(NamedTuple):
    """Where to listen. An empty host means every address of the machine."""

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
        raise ValueError("must have its IPv6 address in brackets")
    return Address(host, int(port))


class Choice:
    """A check for one of several words."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, value: Any) -> str:
        """The word, if it is allowed."""
        if value not in self.names:
            raise ValueError(f"must be one of {', '.join(self.names)}")
        return str(value)


def number(low: float, high: float, kind: type = float) -> Callable[[Any], Any]:
    """A check for a number within bounds."""

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


def zero_or_power_of_two(high: int) -> Callable[[Any], int]:
    """A check for 0 or a power of two, up to this one."""
    within = number(0, high, int)

    def check(value: Any) -> int:
        found: int = within(value)
        if found & found - 1:
            raise ValueError("must be 0 or a power of two")
        return found

    return check


def flag_number(text: str, flag: str, kind: type, low: float, high: float) -> Any:
    """The number given to a flag that is not a setting. Raises ConfigError."""
    try:
        number = kind(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is not a number.") from error
    if not low <= number <= high:
        raise ConfigError(f"{flag}: {text!r} must be between {low:g} and {high:g}.")
    return number


def boolean(value: Any) -> bool:
    """A truth value, possibly written as a word."""
    if value not in (True, False, "true", "false") or not isinstance(value, (bool, str)):
        raise ValueError("must be true or false")
    return value in (True, "true")


def path(value: Any) -> str:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def optional_path(value: Any) -> str:
    """An absolute path, or the empty string."""
    return "" if value == "" else path(value)


def automatic_path(value: Any) -> str:
    """An absolute path, or the empty string, or `auto`."""
    return AUTO if value == AUTO else optional_path(value)


def addresses(value: Any) -> tuple[Address, ...]:
    """Addresses to listen on; the empty string means none."""
    texts = [value] if isinstance(value, str) else value
    if texts == [""]:
        return ()
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("must be an address or a list of addresses")
    return tuple(parse_address(text) for text in texts)


def tenants(value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a label and a pattern."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("must be LABEL=PATTERN or a list of these")
    pairs = [text.partition("=") for text in texts]
    if not all(label and ":" not in label and pattern for label, _, pattern in pairs):
        raise ValueError("must be LABEL=PATTERN, without a colon in the label")
    return tuple((label, pattern) for label, _, pattern in pairs)


def telemetry_path(value: Any) -> str:
    """The URL path of the metrics."""
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError("must be a path below /")
    return value


def group(value: Any) -> str:
    """The name of a group, or the empty string."""
    if not isinstance(value, str):
        raise ValueError("must be the name of a group")  # noqa: TRY004 - one kind for the caller
    return value


def user(value: Any) -> str:
    """The name of a user."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a user")
    return value


class OutputForm(StrEnum):
    """How a command prints."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


def output_form(*, json: bool, csv: bool) -> OutputForm:
    """The form that --json and --csv ask for. Raises ConfigError."""
    if json and csv:
        raise ConfigError("--json and --csv cannot be combined.")
    if json:
        return OutputForm.JSON
    return OutputForm.CSV if csv else OutputForm.TEXT

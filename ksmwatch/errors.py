"""ksmwatch's errors have one root, and each has an exit status.

Every error that a user can meet is a subclass. Its message is one sentence. Only ``cli.main``
turns an error into a line on stderr and an exit status.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of the command line. The table in the README is checked against this."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    PRIVILEGE = 3
    NO_KSM = 4
    NO_LIVE = 5
    LISTEN = 6
    NO_DAEMON = 7
    NO_HISTORY = 8


class KsmwatchError(Exception):
    """The root of all errors. An error ends a command with one sentence."""

    status: Exit = Exit.INTERNAL


class ConfigError(KsmwatchError):
    """A flag, a configuration key or a value is wrong."""

    status = Exit.USAGE


class PrivilegeError(KsmwatchError):
    """Not enough privilege: not root, or a capability is missing."""

    status = Exit.PRIVILEGE


class NoKsmError(KsmwatchError):
    """The running kernel was built without CONFIG_KSM."""

    status = Exit.NO_KSM


class NoLiveError(KsmwatchError):
    """Live accounting is impossible here; polling may still be possible.

    `passing`: the cause may go away, so trying again makes sense.
    """

    status = Exit.NO_LIVE
    passing = False

    def but_it_may_pass(self, passing: bool = True) -> NoLiveError:  # noqa: FBT001, FBT002
        """Set `passing` and return the error."""
        self.passing = passing
        return self


class ListenError(KsmwatchError):
    """ksmwatch cannot listen on an address, port or socket path."""

    status = Exit.LISTEN


class NoDaemonError(KsmwatchError):
    """No daemon answers at the socket."""

    status = Exit.NO_DAEMON


class HistoryError(KsmwatchError):
    """There is no history, or none of that time."""

    status = Exit.NO_HISTORY


class SourceError(KsmwatchError):
    """A kernel file exists but cannot be read or parsed."""

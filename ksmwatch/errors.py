"""The one root of ksmwatch's errors, and the exit status of each.

Every error that a user can meet is a subclass whose message is one sentence. ``cli.main``
is the only place that turns one into a line on stderr and an exit status.
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


class KsmwatchError(Exception):
    """Anything that ends a command with one sentence."""

    status: Exit = Exit.INTERNAL


class ConfigError(KsmwatchError):
    """A flag, a configuration key or a value is wrong."""

    status = Exit.USAGE


class PrivilegeError(KsmwatchError):
    """The kernel would answer another user, or a process with more capabilities."""

    status = Exit.PRIVILEGE


class NoKsmError(KsmwatchError):
    """The running kernel was built without CONFIG_KSM."""

    status = Exit.NO_KSM


class NoLiveError(KsmwatchError):
    """Live accounting by BPF is impossible here; polling may still be possible.

    `passing`: for want of something that there may be later.
    """

    status = Exit.NO_LIVE
    passing = False

    def but_it_may_pass(self, passing: bool = True) -> NoLiveError:  # noqa: FBT001, FBT002
        """The same; it is worth trying again, or not."""
        self.passing = passing
        return self


class ListenError(KsmwatchError):
    """An address, port or socket path cannot be listened on."""

    status = Exit.LISTEN


class NoDaemonError(KsmwatchError):
    """No daemon answers at the socket."""

    status = Exit.NO_DAEMON


class SourceError(KsmwatchError):
    """A kernel source exists but cannot be read or understood."""

"""Which fronts there are, by the settings, and what each is given."""

from __future__ import annotations

import os
import pwd
import socket
from collections import Counter
from collections.abc import Callable

from ksmwatch import channel, metrics, usage
from ksmwatch.channel import Answer, Begin
from ksmwatch.config import Address, Config
from ksmwatch.errors import ConfigError, ListenError
from ksmwatch.keeper import Keeper
from ksmwatch.metrics import Series
from ksmwatch.service import Desk

_BACKLOG = 128
_PROCESS = "process"
SPECS = usage.specs(_PROCESS, "the daemon")


def listen(address: Address) -> socket.socket:
    """A socket that listens. Raises ListenError."""
    host = address.host
    if not host:
        # Every address: of both families where there is IPv6.
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
    six = ":" in host
    try:
        return socket.create_server(
            (host, address.port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=six and not address.host,
        )
    except OSError as error:
        # create_server adds the address to the words of the system.
        named = isinstance(error, socket.gaierror)
        words = error.strerror if named or error.errno is None else os.strerror(error.errno)
        raise ListenError(
            f"{address.host}:{address.port} cannot be listened on: {words}."
        ) from error


def user_of(name: str) -> tuple[int, int] | None:
    """Uid and gid that a front shall have, None for the daemon's own: only root can choose.

    Raises ConfigError when there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"--web.user: there is no user {name!r}.") from None
    return entry.pw_uid, entry.pw_gid


def make_web(
    current: Callable[[], Config], sockets: list[socket.socket], desk: Desk, losses: Counter[str]
) -> Keeper:
    """The front that serves HTTP, by the settings that are `current`. Raises ConfigError."""
    config = current()

    def answer(max_age: float) -> Answer:
        snapshot, taken = desk.ask_dated(max_age)
        settings = current()
        series = Series(settings.owners_top, processes=settings.metrics_processes)
        return Answer(taken, [*metrics.samples(snapshot, series), *usage.samples(_PROCESS)])

    begin = Begin(
        channel.Web(
            sockets=tuple(sock.fileno() for sock in sockets),
            telemetry_path=config.web_telemetry_path,
            max_requests=config.web_max_requests,
            max_connections=config.web_max_connections,
        ),
        specs=(*metrics.CATALOGUE, *SPECS),
        user=user_of(config.web_user),
        log_level=config.log_level,
        log_format=config.log_format,
    )
    return Keeper(begin, answer, losses)

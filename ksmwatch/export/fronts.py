"""The fronts that the settings ask for, and their inputs."""

from __future__ import annotations

import os
import pwd
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ksmwatch.config import Config
from ksmwatch.errors import ConfigError, ListenError
from ksmwatch.export import catalogue, front_channel, own_resources
from ksmwatch.export.front_channel import Answer, Begin
from ksmwatch.export.front_keeper import Keeper
from ksmwatch.export.metric_family import Spec
from ksmwatch.export.samples import KeptSamples, Series, samples
from ksmwatch.export.web_config import WebConfig
from ksmwatch.option_values import Address
from ksmwatch.snapshot.desk import Desk
from ksmwatch.systemd import Manager

if TYPE_CHECKING:
    from ksmwatch.export.web_config_watch import WebFiles

# Clients that connect while there is no room wait here.
_BACKLOG = 1024
_PROCESS = "process"
_SOCKET_UNIT = "ksmwatch.socket"
_CONFIG_VALID = Spec(
    "ksmwatch_web_config_valid",
    "gauge",
    "1 while the current files of --web.config.file are in use. 0 while they are invalid "
    "and their previous content is in use. Absent without that setting.",
)
SPECS = (*own_resources.specs(_PROCESS, "the daemon"), _CONFIG_VALID)


def listen(address: Address) -> socket.socket:
    """A listening socket. Raises ListenError."""
    host = address.host
    if not host:
        # Every address, of both families if the host has IPv6.
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
        # create_server adds the address to the system's message.
        named = isinstance(error, socket.gaierror)
        words = error.strerror if named or error.errno is None else os.strerror(error.errno)
        raise ListenError(f"Cannot listen on {address.host}:{address.port}: {words}.") from error


def user_of(name: str) -> tuple[int, int] | None:
    """The uid and gid of a front, None for the daemon's own: only root can choose.

    Raises ConfigError if there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"--web.user: there is no user {name!r}.") from None
    return entry.pw_uid, entry.pw_gid


def web_files(path: str) -> WebFiles | None:
    """The web configuration, if there is one. Raises ConfigError."""
    if not path:
        return None
    # Imported here: without such a file, the libraries are not loaded.
    from ksmwatch.export.web_config_watch import WebFiles

    return WebFiles(Path(path))


def sockets(config: Config, manager: Manager) -> list[socket.socket]:
    """The sockets for HTTP: systemd's, or our own. Raises ListenError."""
    if not config.web_systemd_socket:
        return [listen(address) for address in config.web_listen_address]
    # systemd names a descriptor after its unit, unless the unit has a FileDescriptorName=.
    passed = manager.take_passed(_SOCKET_UNIT)
    if not passed:
        raise ListenError(f"--web.systemd-socket: systemd did not pass {_SOCKET_UNIT}.")
    found = [socket.socket(fileno=fd) for _, fd in passed]
    if any(sock.family not in (socket.AF_INET, socket.AF_INET6) for sock in found):
        raise ListenError(f"--web.systemd-socket: {_SOCKET_UNIT} may only have TCP ports.")
    return found


class Outputs:
    """Creates the fronts."""

    def __init__(self, current: Callable[[], Config], desk: Desk, losses: Counter[str]) -> None:
        # The settings; those that decide about series may change.
        self._current = current
        self._config = current()
        self._desk = desk
        self._losses = losses

    def web(self, listening: list[socket.socket]) -> Keeper:
        """The front that serves HTTP. Raises ConfigError."""
        config = self._config
        files = web_files(config.web_config_file)
        task = front_channel.WebTask(
            sockets=tuple(sock.fileno() for sock in listening),
            telemetry_path=config.web_telemetry_path,
            max_requests=config.web_max_requests,
            max_connections=config.web_max_connections,
            config=WebConfig() if files is None else files.current,
            configured=files is not None,
        )
        return self._keeper(task, user_of(config.web_user), files)

    def textfile(self) -> Keeper:
        """The front that writes for node_exporter, with the daemon's user."""
        config = self._config
        # A front has another current directory.
        directory = str(Path(config.textfile_directory).absolute())
        return self._keeper(front_channel.TextfileTask(directory, config.textfile_interval))

    def _keeper(
        self,
        task: front_channel.WebTask | front_channel.TextfileTask,
        user: tuple[int, int] | None = None,
        files: WebFiles | None = None,
    ) -> Keeper:
        kept = KeptSamples()

        def answer(max_age: float) -> Answer:
            snapshot, taken = self._desk.ask_dated(max_age)
            settings = self._current()
            series = Series(settings.owners_top, processes=settings.metrics_processes)
            made = [*samples(snapshot, series, kept), *own_resources.samples(_PROCESS)]
            if files is not None:
                made.append((_CONFIG_VALID.name, [((), float(files.valid))]))
            history = snapshot.history
            return Answer(taken, made, None if history is None else history.hour)

        begin = Begin(
            task,
            specs=(*catalogue.CATALOGUE, *SPECS),
            user=user,
            log_level=self._config.log_level,
            log_format=self._config.log_format,
        )
        return Keeper(begin, answer, self._losses, files)

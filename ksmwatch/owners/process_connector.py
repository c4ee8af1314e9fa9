"""The kernel's process connector: which processes exec'ed, ended, or changed name or user.

A subscription is one message, by pyroute2. After that, there is a filter in the kernel, and one
number to read from each message: a host that forks a lot sends thousands of messages a second.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from ksmwatch.deferred import unload
from ksmwatch.kernel.syscalls import ClassicProgram
from ksmwatch.log import logger

# include/uapi/linux/netlink.h, connector.h and cn_proc.h
_NETLINK_CONNECTOR = 11
_IDX_PROC = _VAL_PROC = 1
_MCAST_LISTEN = 1
_NONE, EXEC, UID, COMM, EXIT = 0x0, 0x2, 0x4, 0x200, 0x80000000

# struct cn_msg, and the beginning of struct proc_event of each kind that passes the filter. In an
# acknowledgement, `pid` is the error.
_CN_MSG = (("idx", "I"), ("val", "I"), ("seq", "I"), ("ack", "I"), ("len", "H"), ("flags", "H"))
_LISTEN = (*_CN_MSG, ("operation", "I"))
_EVENT = (
    *_CN_MSG,
    *(("what", "I"), ("cpu", "I"), ("timestamp", "Q"), ("pid", "I"), ("tgid", "I")),
)
_NLMSGHDR_BYTES = 16


def _offset(member: str) -> int:
    """The offset in a message of a member of _EVENT."""
    names = [name for name, _ in _EVENT]
    before = _EVENT[: names.index(member)]
    return _NLMSGHDR_BYTES + struct.calcsize("=" + "".join(kind for _, kind in before))


_TGID = _offset("tgid")
_U32 = struct.Struct("=I")

# asm-generic/socket.h
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
# Room for some thousand messages. The kernel allocates it only as they come.
_BUFFER_BYTES = 1 << 20
_ANSWER_SECONDS = 0.1

# Classic BPF, include/uapi/linux/bpf_common.h
_LOAD, _JUMP_IF, _JUMP_IF_X, _TO_X, _RETURN = 0x20, 0x15, 0x1D, 0x07, 0x06


def _in_filter(number: int) -> int:
    """A number of the host as a classic BPF program loads it, in network order."""
    return int.from_bytes(_U32.pack(number), "big")


# Accepts acknowledgements, and the relevant events of a process's first thread. Forks, and events
# of other threads, wake no reader and fill no buffer. Jumps are relative to the next instruction.
_FILTER = (
    (_LOAD, 0, 0, _offset("what")),
    (_JUMP_IF, 8, 0, _in_filter(_NONE)),
    (_JUMP_IF, 3, 0, _in_filter(EXEC)),
    (_JUMP_IF, 2, 0, _in_filter(UID)),
    (_JUMP_IF, 1, 0, _in_filter(COMM)),
    (_JUMP_IF, 0, 5, _in_filter(EXIT)),
    (_LOAD, 0, 0, _offset("pid")),
    (_TO_X, 0, 0, 0),
    (_LOAD, 0, 0, _TGID),
    (_JUMP_IF_X, 0, 1, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


class Connector:
    """A socket to which the kernel writes process events, in the order in which they happen.

    Nothing needs to listen to it: events before a call of `changed` are in it by then.
    """

    def __init__(self, subscribed: socket.socket) -> None:
        subscribed.settimeout(0)
        self._socket = subscribed

    def changed(self) -> Iterator[int | None]:
        """Each process that has changed or ended since the last call. None: any may have."""
        receive, unpack = self._socket.recv, _U32.unpack_from
        while True:
            try:
                yield unpack(receive(4096), _TGID)[0]
            except BlockingIOError:
                return
            except OSError as error:
                # More messages came than the buffer holds, or there was no memory for one.
                if error.errno != errno.ENOBUFS:
                    raise
                yield None

    @property
    def descriptor(self) -> int:
        """Readable when there is something to take."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()


def subscribe() -> Connector:
    """Listen from now on. Raises OSError if the kernel refuses, and ImportError without pyroute2.

    Needs CAP_NET_ADMIN and the initial user, pid and network namespaces.
    """
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        program = ClassicProgram(_FILTER)
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program.record)
        # A bit for each group.
        listening.bind((0, 1 << (_IDX_PROC - 1)))
        _ask(listening)
    except (OSError, ImportError):
        listening.close()
        raise
    finally:
        # There is no second message.
        unload("pyroute2")
    return Connector(listening)


def _ask(listening: socket.socket) -> None:
    """Ask for events, and wait until the kernel agrees. Raises OSError if it does not."""
    netlink = _load_messages()

    # pyroute2's own messages of the connector came after the version in Debian 12 (0.7.2).
    class Listen(netlink.nlmsg):  # type: ignore[misc, name-defined]
        fields = _LISTEN

    class Event(netlink.nlmsg):  # type: ignore[misc, name-defined]
        fields = _EVENT

    request = Listen()
    request["header"]["type"] = netlink.NLMSG_DONE
    request["idx"], request["val"], request["len"] = _IDX_PROC, _VAL_PROC, _U32.size
    request["operation"] = _MCAST_LISTEN
    request.encode()
    # The kernel answers while this sends. In other namespaces, it never does.
    listening.settimeout(_ANSWER_SECONDS)
    listening.send(request.data)
    while True:
        try:
            answer = Event(listening.recv(4096))
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "the process connector does not answer") from error
        answer.decode()
        if answer["what"] == _NONE:
            break
    if number := answer["pid"]:
        raise OSError(number, f"the process connector refuses: {os.strerror(number)}")


def _load_messages() -> ModuleType:
    """pyroute2's messages alone: all that it can do takes 20 MB and 0.1 s of CPU time.

    Its package imports that as soon as any of its modules is imported. So an empty package with the
    same path takes its place: messages need nothing of it. They need a log, which is ours: the
    standard library's takes 0.4 MB. Raises ImportError.
    """
    if (spec := find_spec("pyroute2")) is None:
        raise ModuleNotFoundError("there is no pyroute2")
    sys.modules.setdefault("pyroute2", module_from_spec(spec))
    ours = ModuleType("logging")
    vars(ours).update(getLogger=lambda _: logger, error=logger.error, warning=logger.warning)
    found = sys.modules.setdefault("logging", ours)
    try:
        return import_module("pyroute2.netlink")
    finally:
        if found is ours:
            del sys.modules["logging"]

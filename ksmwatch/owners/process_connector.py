"""The kernel's process connector: which processes exec'ed, ended, or changed name or user.

pyroute2 implements the protocol, and takes 20 MB. So it runs in a process that subscribes, hands
the socket over, and exits (`main`). What stays is a filter in the kernel, and reading one number
from each message. A host that forks a lot sends thousands of messages a second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

from ksmwatch.child_process import Child
from ksmwatch.kernel.syscalls import ClassicProgram

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
_ANSWER_SECONDS = 1.0

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


class Subscription:
    """A process that subscribes, without making anything wait for it.

    Needs CAP_NET_ADMIN and the initial user, pid and network namespaces.
    """

    def __init__(self) -> None:
        self._child = Child(__name__)

    def take(self) -> Connector | None:
        """The connector; None until it is there. Raises OSError if it is refused."""
        self._child.channel.settimeout(0)
        try:
            answer, descriptors, _, _ = socket.recv_fds(self._child.channel, _U32.size, 1)
        except BlockingIOError:
            return None
        self.close()
        if not descriptors:
            number = _U32.unpack(answer)[0] if answer else errno.EPROTO
            raise OSError(number, f"the process connector refuses: {os.strerror(number)}")
        return Connector(socket.socket(fileno=descriptors[0]))

    def close(self) -> None:
        """Wait for the process to end, which it has done or does at once."""
        self._child.end()


# ---- what runs in the process that subscribes ----


def subscribe() -> socket.socket:
    """A socket that receives what passes the filter. Raises OSError if the kernel refuses."""
    from pyroute2.netlink import NLMSG_DONE, nlmsg
    from pyroute2.netlink.nlsocket import NetlinkSocket

    # pyroute2's own messages of the connector came after the version in Debian 12 (0.7.2).
    class Listen(nlmsg):  # type: ignore[misc]
        fields = _LISTEN

    class Event(nlmsg):  # type: ignore[misc]
        fields = _EVENT

    connector = NetlinkSocket(family=_NETLINK_CONNECTOR)
    connector.bind(groups=_IDX_PROC)
    raw = socket.socket(fileno=os.dup(connector.fileno()))
    raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    program = ClassicProgram(_FILTER)
    raw.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program.record)
    request = Listen()
    request["header"]["type"] = NLMSG_DONE
    request["idx"], request["val"], request["len"] = _IDX_PROC, _VAL_PROC, _U32.size
    request["operation"] = _MCAST_LISTEN
    request.encode()
    # In other namespaces the kernel sends nothing at all.
    raw.settimeout(_ANSWER_SECONDS)
    raw.send(request.data)
    while True:
        answer = Event(raw.recv(4096))
        answer.decode()
        if answer["what"] == _NONE:
            break
    if answer["pid"]:
        raise OSError(answer["pid"], "refused")
    return raw


def main() -> None:
    """Subscribe, and hand over the socket, or an error number, on the socket that argv names."""
    answers = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError):
        try:
            subscribed = subscribe()
            socket.send_fds(answers, [_U32.pack(0)], [subscribed.fileno()])
        except TimeoutError:
            answers.send(_U32.pack(errno.ETIMEDOUT))
        except OSError as error:
            answers.send(_U32.pack(error.errno or errno.EPROTO))
    # Nothing in pyroute2 needs an orderly exit, so nothing waits for one.
    os._exit(0)

"""The kernel's process connector: which processes exec'ed, ended, or changed name or user.

A subscription is one message, made here: the part of pyroute2 that makes messages takes half a
megabyte. After that, there is a filter in the kernel, and one number to read from each message: a
host that forks a lot sends thousands of messages a second.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from ksmwatch.kernel.syscalls import ClassicProgram

# include/uapi/linux/netlink.h, connector.h and cn_proc.h
_NETLINK_CONNECTOR = 11
_NLMSG_DONE = 3
_IDX_PROC = _VAL_PROC = 1
_MCAST_LISTEN = 1
_NONE, EXEC, UID, COMM, EXIT = 0x0, 0x2, 0x4, 0x200, 0x80000000

# struct nlmsghdr (len, type, flags, seq, pid) and cn_msg (idx, val, seq, ack, len, flags).
_HEADERS = "=IHHII IIIIHH"
# With an operation (enum proc_cn_mcast_op).
_LISTEN = struct.Struct(_HEADERS + "I")
# Of struct proc_event (what, cpu, timestamp_ns, and for each kind pid, tgid). In an
# acknowledgement, `pid` is the error.
_WHAT = struct.calcsize(_HEADERS)
_PID, _TGID = _WHAT + 16, _WHAT + 20
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
    (_LOAD, 0, 0, _WHAT),
    (_JUMP_IF, 8, 0, _in_filter(_NONE)),
    (_JUMP_IF, 3, 0, _in_filter(EXEC)),
    (_JUMP_IF, 2, 0, _in_filter(UID)),
    (_JUMP_IF, 1, 0, _in_filter(COMM)),
    (_JUMP_IF, 0, 5, _in_filter(EXIT)),
    (_LOAD, 0, 0, _PID),
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
    """Listen from now on. Raises OSError if the kernel refuses.

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
    except OSError:
        listening.close()
        raise
    return Connector(listening)


def _ask(listening: socket.socket) -> None:
    """Ask for events, and wait until the kernel agrees. Raises OSError if it does not."""
    listen = (_IDX_PROC, _VAL_PROC, 0, 0, _U32.size, 0, _MCAST_LISTEN)
    # The kernel answers while this sends. In other namespaces, it never does.
    listening.settimeout(_ANSWER_SECONDS)
    listening.send(_LISTEN.pack(_LISTEN.size, _NLMSG_DONE, 0, 0, 0, *listen))
    while True:
        try:
            answer = listening.recv(4096)
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "the process connector does not answer") from error
        if _U32.unpack_from(answer, _WHAT)[0] == _NONE:
            break
    if number := _U32.unpack_from(answer, _PID)[0]:
        raise OSError(number, f"the process connector refuses: {os.strerror(number)}")

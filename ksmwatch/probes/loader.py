"""The short-lived process that compiles and loads the BPF programs.

bcc brings LLVM, about 100 MB and half a second of start-up. Only this process loads it: `main`
reads a request from a socket, answers with the descriptors of maps and programs, and
exits. It attaches nothing.

The child ends by ``os._exit``: bcc's clean-up at exit would close the passed descriptors.
"""

from __future__ import annotations

import array
import ctypes as ct
import errno
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ksmwatch.child_process import Child
from ksmwatch.errors import NoLiveError
from ksmwatch.kernel import libbpf
from ksmwatch.kernel.btf import Btf
from ksmwatch.kernel.events import Mechanism
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import LEARNER, Plan, Program

MAPS = (
    "accounts",
    "alarms",
    "baselines",
    "call_sites",
    "totals",
    "controls",
    "converting",
    "conversions",
    "opened",
    "manifests",
    "migrations",
    "readings",
)
SOURCES = (
    "accounts.c",
    "family.c",
    "migration.c",
    "rmap.c",
    "conversion.c",
    "processes.c",
)
HEADERS = ("callers.h", "layout.h", "probes.h", "records.h")

_PROG_TYPES = {
    Mechanism.FENTRY: libbpf.PROG_TYPE_TRACING,
    Mechanism.KPROBE: libbpf.PROG_TYPE_KPROBE,
    Mechanism.RAW_TRACEPOINT: libbpf.PROG_TYPE_RAW_TRACEPOINT,
}
# Helpers that do not exist. Calls of the first become calls of the rest of the program. Calls of
# the others become calls of the kernel function whose BTF id is the difference.
_REST_MARK = 0x7FFF0000
_KFUNC_MARK = 0x40000000
# A number that becomes the address of the page in conversion, a map's value: `r = NUMBER`.
_CONVERTING_MARK = 0x6B736D77636E7621
_CONVERTING = "converting"
# A number that becomes the address of the function that bpf_loop() calls: `r = NUMBER`.
_WALK_MARK = 0x6B736D77616C6B21
_WALK = "walk_edge"
# include/uapi/linux/bpf.h; src_reg says what is called, or what an address is.
_CALL = 0x85
_LOAD_64 = 0x18
_PSEUDO_CALL = 1 << 4
_PSEUDO_KFUNC_CALL = 2 << 4
_PSEUDO_MAP_VALUE = 2 << 4
_PSEUDO_FUNCTION = 4 << 4
# Moves register 2 to register 1.
_SECOND_IS_FIRST = libbpf.INSTRUCTION.pack(0xBF, 0x21, 0, 0)
# struct module formats of the C types that bcc generates for our records.
_FORMATS: dict[Any, str] = {ct.c_uint64: "Q", ct.c_int64: "q", ct.c_uint32: "I", ct.c_int32: "i"}
# LLVM takes two seconds of an ordinary core; a start may take ten minutes (TimeoutStartSec=).
_TIMEOUT_SECONDS = 300
_MAX_MESSAGE = 1 << 20


@dataclass(frozen=True)
class LoadedMap:
    """A map's descriptor, and the layout of its values if they are records."""

    fd: int
    key_size: int
    value_size: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Loaded:
    """Everything that the loader handed over. The receiver owns the descriptors.

    `learner`: a program that is needed once, after loading; see cow_call_site.py.
    """

    maps: dict[str, LoadedMap]
    programs: dict[str, int]
    learner: int | None = None


class ProgramRefusedError(NoLiveError):
    """The kernel's verifier refused one program; another mechanism may work."""

    def __init__(self, program: str, why: str) -> None:
        super().__init__(f"The kernel refused the BPF program {program}: {why}.")
        self.program = program
        self.why = why


def bpf_directory() -> Path:
    """The directory of the BPF sources: in the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "bpf"
    return installed if installed.is_dir() else package.parent / "bpf"


def load(plan: Plan, flags: Sequence[str]) -> Loaded:
    """Run the loader process for a plan.

    Raises ProgramRefusedError if the verifier refuses a program, NoLiveError with the
    compiler's or bcc's own words if nothing could be loaded at all.
    """
    request = {
        "flags": list(flags),
        "layout": plan.layout,
        "programs": [asdict(program) for program in plan.programs],
    }
    with Child(__name__) as child:
        child.channel.settimeout(_TIMEOUT_SECONDS)
        try:
            child.channel.sendall(json.dumps(request).encode() + b"\n")
            answer, descriptors = _receive(child.channel)
        except (OSError, ValueError) as error:
            child.end()
            failure = NoLiveError(f"The BPF loader failed: {child.complaint or error}.")
            # Without CPU time it times out, and without memory the kernel kills it.
            raise failure.but_it_may_pass() from error
    return _loaded(answer, descriptors, child.complaint)


def _receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One JSON line; the descriptors come with its first bytes."""
    data, descriptors, flags, _ = socket.recv_fds(sock, _MAX_MESSAGE, 250)
    if flags & socket.MSG_CTRUNC:
        # RLIMIT_NOFILE: the kernel installs as many as there is room for, without an error.
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    while not data.endswith(b"\n"):
        more = sock.recv(_MAX_MESSAGE)
        if not more:
            raise ValueError("it ended without an answer")
        data += more
    return json.loads(data), descriptors


def _loaded(answer: dict[str, Any], descriptors: list[int], words: str) -> Loaded:
    if "program" in answer:
        raise ProgramRefusedError(answer["program"], answer["error"])
    if "error" in answer:
        why = words or answer["error"]
        raise NoLiveError(f"The BPF programs could not be compiled: {why}.")
    fds = iter(descriptors)
    maps = {
        name: LoadedMap(
            next(fds), m["key_size"], m["value_size"], tuple(Field(*f) for f in m["fields"])
        )
        for name, m in answer["maps"].items()
    }
    programs = {name: next(fds) for name in answer["programs"]}
    learner = programs.pop(LEARNER, None)
    return Loaded(maps, programs, learner)


# ---- what runs in the loader process ----


def _fields(record: Any) -> list[tuple[str, int, str]]:
    """(name, offset, format) of each member of a ctypes record; none for plain integers.

    Members of an inner record appear as members of the outer one.
    """
    found = []
    for name, kind, *_ in getattr(record, "_fields_", ()):
        offset = getattr(record, name).offset
        if issubclass(kind, ct.Structure):
            found += [(inner, offset + at, text) for inner, at, text in _fields(kind)]
        else:
            found.append((name, offset, _format(kind)))
    return found


def _format(kind: Any) -> str:
    if not issubclass(kind, ct.Array):
        return _FORMATS[kind]
    element = kind._type_
    return f"{kind._length_}{'s' if element is ct.c_char else _FORMATS[element]}"


def _compile(request: dict[str, Any]) -> Any:
    directory = bpf_directory()
    if request["layout"] == "btf":
        # The few names that bcc's front end needs, in place of kernel headers.
        os.environ["BCC_KERNEL_SOURCE"] = str(directory / "headers")
    import bcc

    class Unattached(bcc.BPF):  # type: ignore[misc]
        """bcc would attach programs by their names right after compiling."""

        def _trace_autoload(self) -> None:
            pass

    text = "\n".join((directory / name).read_text() for name in SOURCES)
    marks = [
        f"-DREST_MARK={_REST_MARK}",
        f"-DKFUNC_MARK={_KFUNC_MARK}",
        f"-DWALK_MARK={_WALK_MARK}ULL",
        f"-DCONVERTING_MARK={_CONVERTING_MARK}ULL",
    ]
    return Unattached(text=text, cflags=[*request["flags"], *marks, f"-I{directory}"])


@dataclass(frozen=True)
class Linked:
    """Instructions, and where the program's functions begin, if one of them is called back."""

    code: bytes
    functions: tuple[int, ...] = ()


def linked(code: bytes, rest: bytes, walk: bytes, converting: int) -> Linked:
    """A program followed by the functions it calls, with the marks replaced.

    `converting`: descriptor of the map whose only value some programs load.
    """
    words = list(libbpf.INSTRUCTION.iter_unpack(code))
    end, calls_back = len(words), False
    for place, (opcode, register, _, value) in enumerate(words):
        # Distances are counted from the next instruction.
        if opcode == _CALL and value == _REST_MARK:
            words[place] = (_CALL, _PSEUDO_CALL, 0, end - place - 1)
        elif opcode == _CALL and value > _KFUNC_MARK:
            words[place] = (_CALL, _PSEUDO_KFUNC_CALL, 0, value - _KFUNC_MARK)
        elif opcode == _LOAD_64 and _number(words, place) == _WALK_MARK:
            words[place] = (_LOAD_64, register | _PSEUDO_FUNCTION, 0, end - place - 1)
            words[place + 1] = (0, 0, 0, 0)
            calls_back = True
        elif opcode == _LOAD_64 and _number(words, place) == _CONVERTING_MARK:
            words[place] = (_LOAD_64, register | _PSEUDO_MAP_VALUE, 0, converting)
            words[place + 1] = (0, 0, 0, 0)
    code = b"".join(libbpf.INSTRUCTION.pack(*word) for word in words)
    if calls_back:
        assert not rest, "no program has both"
        return Linked(code + _SECOND_IS_FIRST + walk, (0, end))
    return Linked(code + rest)


def _number(words: Sequence[tuple[int, ...]], place: int) -> int:
    """The number in a 64-bit load, which takes two instructions."""
    low, high = words[place][3], words[place + 1][3]
    return (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF


def _btf_ids(programs: Sequence[Program]) -> dict[str, int]:
    """The BTF ids of the functions of fentry programs."""
    symbols = {p.symbol for p in programs if p.mechanism is Mechanism.FENTRY}
    if not symbols:
        return {}
    with Btf() as btf:
        return {symbol: btf.function(symbol) or 0 for symbol in symbols}


def _load(module: Any, program: Program, ids: Mapping[str, int]) -> int:
    """Load one program. bcc compiles each function separately, and links nothing."""
    code = module.dump_func(program.name.encode())
    rest = module.dump_func(program.rest.encode()) if program.rest is not None else b""
    converting = module[_CONVERTING.encode()].get_fd()
    whole = linked(code, rest, module.dump_func(_WALK.encode()), converting)
    return libbpf.prog_load(
        program.name,
        _PROG_TYPES[program.mechanism],
        whole.code,
        attach_type=_attach_type(program),
        function=ids.get(program.symbol, 0),
        functions=whole.functions,
    )


def _attach_type(program: Program) -> int:
    if program.mechanism is not Mechanism.FENTRY:
        return 0
    return libbpf.TRACE_FEXIT if program.at_return else libbpf.TRACE_FENTRY


def _serve(sock: socket.socket) -> None:
    request = json.loads(sock.makefile("rb").readline())
    answer: dict[str, Any] = {"maps": {}, "programs": []}
    descriptors = []
    program: Program | None = None
    try:
        module = _compile(request)
        for name in MAPS:
            table = module[name.encode()]
            descriptors.append(table.get_fd())
            answer["maps"][name] = {
                "key_size": ct.sizeof(table.Key),
                "value_size": ct.sizeof(table.Leaf),
                "fields": _fields(table.Leaf),
            }
        programs = [
            Program(**{**fields, "mechanism": Mechanism(fields["mechanism"])})
            for fields in request["programs"]
        ]
        ids = _btf_ids(programs)
        for program in programs:
            descriptors.append(_load(module, program, ids))
            answer["programs"].append(program.name)
    except Exception as error:  # noqa: BLE001 - bcc raises bare Exception
        # An OSError from ctypes has no strerror; its text has everything.
        why = getattr(error, "strerror", None) or str(error)
        answer = {"error": why or type(error).__name__}
        if program is not None:
            answer["program"] = program.name
        descriptors = []
    data = json.dumps(answer).encode() + b"\n"
    rights = array.array("i", descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    sent = sock.sendmsg([data], ancillary)
    # The receiver may have everything and be gone: sending nothing would fail.
    if rest := data[sent:]:
        sock.sendall(rest)


def main() -> None:
    """Serve one request on the socket whose number is the only argument."""
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.stderr.flush()
    os._exit(0)

"""Attribution: command lines and cgroups as hosts have them, and hostile ones by the thousand."""

from __future__ import annotations

import json
import tomllib
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ksmwatch.owners.cgroup_tenants import unescape
from ksmwatch.owners.judgement import owner_of
from ksmwatch.owners.owner import MAX_ID, MAX_ID_PARTS, Owner, OwnerKind, best_known
from ksmwatch.owners.safe_text import MAX_TEXT, harmless
from tests.hostile import ARGVS, CGROUPS, TEXTS, UIDS, examples

SAMPLES = Path(__file__).parent
USERS = {0: "root", 1000: "alice"}
LAYOUTS = ("v2", "v1", "hybrid")


@cache
def samples() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(SAMPLES.glob("*.toml")):
        for sample in tomllib.loads(path.read_text())["sample"]:
            found.extend(
                (layout, {**sample, "file": path.stem}) for layout in LAYOUTS if layout in sample
            )
    return found


def cmdline(*argv: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in argv)


def of_sample(layout: str, sample: dict[str, Any]) -> Owner:
    return judged(layout, sample, sample[layout])


def judged(layout: str, sample: dict[str, Any], cgroup: str | bytes) -> Owner:
    text, comm, uid = cmdline(*sample["argv"]), sample["comm"], sample["uid"]
    exe, top = sample.get("exe", ""), sample.get("top")
    return owner_of(text, cgroup, comm, uid, USERS, exe=exe, top=top)


def name_of(value: object) -> str | None:
    if isinstance(value, dict):
        return f"{value['file']}: {value['title']}"
    return None


# -- Samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "sample"), samples(), ids=name_of)
def test_a_process_has_its_owner(layout: str, sample: dict[str, Any]) -> None:
    owner = of_sample(layout, sample)
    given = {k: v for k, v in asdict(owner).items() if v is not None and v is not False}
    assert given == sample["owner"]


def test_every_kind_has_a_sample_in_every_layout() -> None:
    seen = {(sample["owner"]["kind"], layout) for layout, sample in samples()}
    kinds = set(OwnerKind) - {OwnerKind.UNKNOWN}
    assert seen == {(kind.value, layout) for kind in kinds for layout in LAYOUTS}


def test_owners_differ_unless_they_are_the_same() -> None:
    """A key has one meaning: the same manager, and the same part of the path."""
    meanings: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for layout, sample in samples():
        owner = of_sample(layout, sample)
        meaning = (owner.manager, owner.pod, owner.uid if owner.claimed else None)
        meanings.setdefault(owner.key, set()).add(meaning)
    several = {key: found for key, found in meanings.items() if len(found) > 1}
    assert not several


WHOLE = [(layout, sample) for layout, sample in samples() if "/.." not in sample[layout]]


@pytest.mark.parametrize(("layout", "sample"), WHOLE, ids=name_of)
def test_from_a_name_space_the_whole_host_looks_the_same(
    layout: str, sample: dict[str, Any]
) -> None:
    """From two levels below the root, all others but neighbours have their path from the root."""
    seen = {key: value for key, value in sample.items() if key != "top"}
    plain = judged(layout, seen, sample[layout])
    assert judged(layout, seen, below("/../..", sample[layout])) == plain


def test_bytes_and_text_are_the_same() -> None:
    for layout, sample in samples():
        assert judged(layout, sample, sample[layout].encode()) == of_sample(layout, sample)


# -- Which claims are believed ---------------------------------------------------------------

VICTIM = "/machine.slice/machine-qemu\\x2d4\\x2dmail.scope/libvirt/emulator"
VICTIM_OWNER = owner_of(b"", f"0::{VICTIM}", "qemu-system-x86", 107)
GUEST = cmdline("/usr/bin/qemu-system-x86_64", "-name", "guest=mail")
# What an unprivileged party can be inside of.
PRISONS = (
    "/user.slice/user-1000.slice/session-3.scope",
    "/user.slice/user-1000.slice/user@1000.service",
    "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
    "/system.slice/delegating.service",
    "/given-away",
    "/batch.slice/given-away",
    f"/docker/{'ab' * 32}",
    "/lxc.payload.web",
    "/kubepods/besteffort/pod0c5e2f7e-0000-4000-8000-000000000001",
    "/machine.slice/machine-nspawned.scope/payload",
    "/qemu.slice/100.scope",
    "/firecracker/tiny",
)


def below(prison: str, cgroup: str) -> str:
    lines = (line.split(":", 2) for line in cgroup.splitlines())
    return "\n".join(f"{number}:{names}:{prison}{path}" for number, names, path in lines)


@pytest.mark.parametrize("prison", PRISONS)
def test_nobody_breaks_out_of_a_prison(prison: str) -> None:
    """A tenant can make up the rest of the path, and any command line and comm."""
    warden = owner_of(b"", f"0::{prison}", "", 1000).id.split("/")[0]
    for layout, sample in samples():
        argv, comm, uid = cmdline(*sample["argv"]), sample["comm"], sample["uid"]
        forged_path, exe = below(prison, sample[layout]), sample.get("exe", "")
        forged = owner_of(argv, forged_path, comm, uid, USERS, exe=exe)
        # A uid is the kernel's word, and of one user everything is.
        assert forged.id.split("/")[0] in {warden, str(uid), Path(prison).name}


def test_a_command_line_alone_makes_nobody_a_guest_of_libvirt() -> None:
    for prison in PRISONS:
        owner = owner_of(GUEST, f"0::{prison}", "qemu-system-x86", 1000)
        assert owner.key != VICTIM_OWNER.key
        assert owner.name != VICTIM_OWNER.name or owner.claimed


def test_a_container_that_runs_a_hypervisor_stays_a_container() -> None:
    plain = owner_of(b"sh\0", f"0::/docker/{'ab' * 32}", "sh", 0)
    assert owner_of(GUEST, f"0::/docker/{'ab' * 32}", "kvm", 0) == plain


def test_a_command_line_made_by_setproctitle_is_no_hypervisor() -> None:
    title = b"worker: qemu-system-x86_64 -name guest=mail\0"
    assert owner_of(title, "0::/system.slice/a.service", "worker", 0).kind is OwnerKind.UNIT


def test_a_tenant_in_one_hierarchy_outranks_a_unit_in_another() -> None:
    text = f"11:memory:/docker/{'ab' * 32}\n1:name=systemd:/system.slice/docker.service\n0::/"
    assert owner_of(b"", text, "sh", 0).kind is OwnerKind.CONTAINER


def test_the_best_known_member_has_the_name_and_the_uuid() -> None:
    text = "0::/machine.slice/machine-qemu\\x2d2\\x2dmyvm.scope"
    uuid = "0c5e2f7e-0000-4000-8000-000000000001"
    qemu = owner_of(cmdline("qemu-kvm", "-name", "my_vm", "-uuid", uuid), text, "qemu-kvm", 107)
    helper = owner_of(b"swtpm\0", text, "swtpm", 107)
    assert helper.key == qemu.key
    assert best_known([helper, qemu, helper]) == qemu
    assert (qemu.name, qemu.uuid) == ("my_vm", uuid)


# -- Small parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("qemu\\x2d1\\x2dfoo", "qemu-1-foo"),
        ("srv-data", "srv/data"),
        ("b\\xc3\\xbcro", "büro"),
        ("bad\\x2", "bad\\x2"),
        # systemd would not have escaped a letter: left alone, or it would be mistaken for another.
        ("\\x41", "\\x41"),
        ("büro", "büro"),
    ],
)
def test_systemd_escaping_is_undone(raw: str, plain: str) -> None:
    assert unescape(raw) == plain


@pytest.mark.parametrize(
    "raw",
    ["a\nb", "\x1b[31mred", "tab\t", "\u202egnp.exe", "a\u2028b", "\udcff", "x" * 4096, "", " a"],
)
def test_a_harmful_text_is_changed_and_marked(raw: str) -> None:
    text = harmless(raw)
    assert text != raw
    assert text[-17] == "~"
    assert_harmless(text)


@pytest.mark.parametrize("raw", ["web-1", "büro", 'say "hi"', "back\\slash", "a b", "日本"])
def test_a_harmless_text_stays(raw: str) -> None:
    assert harmless(raw) == raw


def test_the_mark_of_another_cannot_be_spelt() -> None:
    marked = harmless("a\nb")
    assert harmless(marked) != marked


# -- Hostile inputs: 2500, 1000, 1000 for each of ten namers, 1500 -----------------------------


def assert_harmless(text: str, limit: int = MAX_TEXT) -> None:
    assert 0 < len(text) <= limit
    assert len(text.splitlines()) == 1
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert text.encode().decode() == text


def assert_survives_json(fields: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        line = json.dumps(fields, ensure_ascii=ascii_only)
        assert "\n" not in line
        assert json.loads(line.encode()) == fields


def assert_survives_prometheus(labels: dict[str, str]) -> None:
    family = GaugeMetricFamily("owner", "x", labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    registry = CollectorRegistry()
    registry.register(Fixed([family]))
    (parsed,) = text_string_to_metric_families(generate_latest(registry).decode())
    assert [sample.labels for sample in parsed.samples] == [labels]


class Fixed(Collector):
    """Metrics that are there already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return them."""
        return self._families


def assert_unbroken(owner: Owner) -> None:
    for key, value in vars(owner).items():
        if isinstance(value, str):
            assert_harmless(value, MAX_ID if key == "id" else MAX_TEXT)
    assert owner.id.count("/") < MAX_ID_PARTS
    assert_survives_json(vars(owner))
    assert_survives_prometheus({"kind": owner.kind.value, "name": owner.name, "id": owner.id})


@examples(2500)
@given(argv=ARGVS, cgroup=CGROUPS, comm=TEXTS, uid=UIDS, user=TEXTS)
def test_a_hostile_process_breaks_no_output(
    argv: bytes, cgroup: str, comm: str, uid: int, user: str
) -> None:
    owner = owner_of(argv, cgroup, comm, uid, {1000: user})
    assert_unbroken(owner)
    assert owner == owner_of(argv, cgroup, comm, uid, {1000: user})


@examples(1000)
@given(argv=st.binary(max_size=300), cgroup=st.binary(max_size=300), comm=TEXTS, uid=UIDS)
def test_any_bytes_break_no_output(argv: bytes, cgroup: bytes, comm: str, uid: int) -> None:
    assert_unbroken(owner_of(argv, b"0::/" + cgroup, comm, uid))


# One template for each party that can choose a name, and how it gets into the inputs.
NAMERS: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    "qemu": lambda n: (
        b"kvm\0-name\0guest=" + n.replace(b",", b",,"),
        b"0::/system.slice/a.service",
    ),
    "firecracker": lambda n: (b"firecracker\0--id\0" + n, b"0::/user.slice/user-7.slice/s.scope"),
    "socket": lambda n: (b"cloud-hypervisor\0--api-socket\0/" + n, b"0::/"),
    "lxc": lambda n: (b"", b"0::/lxc.payload." + n),
    "jail": lambda n: (b"", b"0::/firecracker/" + n),
    "nspawn": lambda n: (b"", b"0::/machine.slice/machine-" + n + b".scope/payload"),
    "libvirt": lambda n: (b"", b"0::/machine.slice/machine-qemu\\x2d1\\x2d" + n + b".scope"),
    "unit": lambda n: (b"", b"0::/system.slice/a" + n + b".service"),
    "user unit": lambda n: (b"", b"0::/user.slice/user-7.slice/user@7.service/a" + n + b".scope"),
    "directory": lambda n: (b"", b"0::/a" + n + b"z/" + b"ab" * 32),
}


def encoded(name: str) -> bytes:
    """As the kernel lets a cgroup be named: without a slash, NUL or newline."""
    return name.encode(errors="surrogatepass").translate(None, b"/\0\n")


@examples(1000)
@given(first=TEXTS.map(encoded).filter(bool), second=TEXTS.map(encoded).filter(bool))
def test_two_names_are_two_owners(first: bytes, second: bytes) -> None:
    """However long the names are, and whatever is removed from them."""
    for namer, process in NAMERS.items():
        one, other = (owner_of(*process(name), "x", 0) for name in (first, second))
        assert_harmless(one.id, MAX_ID)
        assert (one.key == other.key) == (first == second), namer


@examples(1500)
@given(first=st.text(), second=st.text())
def test_cleaning_keeps_texts_apart(first: str, second: str) -> None:
    assert (harmless(first) == harmless(second)) == (first == second)
    assert_harmless(harmless(first))

"""All advice, on each recorded host, and with each program that may set a file there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from ksmwatch.diagnose import read_evidence
from ksmwatch.diagnose.advice import ADVISOR, CATALOGUE, TUNERS, Advice, Conditions, advise
from tests.fakes import FIXTURES, KERNELS, Proc, Sys
from tools.generate import DOCS, generate

_ROOT = DOCS.parent
# Files of /sys/kernel/mm/ksm that every kernel has on which ksmwatch runs.
ALWAYS = {"run", "pages_to_scan", "sleep_millisecs", "merge_across_nodes", "max_page_sharing"}
WORDS = ("advisor_mode", "advisor_target_scan_time", "advisor_max_cpu", "smart_scan")
SYSTEMDS = (None, 247, 252, 254, 255, 257)


def recorded(kernel: str) -> Conditions:
    root = FIXTURES / kernel / "root"
    return read_evidence.read_conditions(root / "proc", root / "sys")


def hosts() -> Iterator[tuple[str, Conditions]]:
    for kernel in KERNELS:
        plain = recorded(kernel)
        held = [(), *((tuner,) for tuner in TUNERS)]
        if "advisor_mode" in plain.files:
            held += [(ADVISOR,), (ADVISOR, TUNERS[0])]
        for holders in held:
            for systemd in SYSTEMDS:
                yield kernel, replace(plain, holders=holders, systemd=systemd)


HOSTS = list(hosts())


@pytest.mark.parametrize("what", list(Advice))
def test_each_host_gets_advice_that_is_right_there(what: Advice) -> None:
    for kernel, host in HOSTS:
        text = advise(what, host)
        assert text.strip() == text
        assert text.endswith((".", "run", "tell."))
        assert not re.search(r"[{}]", text)
        told = {f for f in WORDS if f in text}
        assert told <= host.files, f"{kernel}: {text}"
        if "MemoryKSM=yes" in text and what in (Advice.OFFER, Advice.OFFER_ITS_OWN):
            assert_systemd(text, host)
        for holder in host.holders:
            assert_left_alone(text, holder.files)


def assert_left_alone(text: str, files: frozenset[str]) -> None:
    """The advice does not tell to write a file that another program sets."""
    for name in files:
        assert not re.search(rf"echo \S+ > /sys/kernel/mm/ksm/{name}\b", text), text
    if "pages_to_scan" in files:
        assert not re.search(r"(raise|lower) pages_to_scan", text), text


def assert_systemd(text: str, host: Conditions) -> None:
    prctl = "general_profit" in host.files
    assert ("needs Linux 6.4" in text) == (not prctl)
    if not prctl:
        return
    version = host.systemd
    if version is None:
        assert "254" in text
    elif version < 254:
        assert f"needs systemd 254; systemd {version} ignores it" in text
    elif version < 256:
        assert "31683" in text
    else:
        assert "254" not in text


def test_every_sentence_is_given_somewhere() -> None:
    given = {(what, advise(what, host)) for what in Advice for _, host in HOSTS}
    for what, sentences in CATALOGUE.items():
        for sentence in sentences:
            start = sentence.text.partition("{")[0][:60]
            assert any(w is what and start in text for w, text in given), sentence.text


def test_a_sentence_needs_the_files_that_it_names() -> None:
    for sentence in chain.from_iterable(CATALOGUE.values()):
        named = {name for name in WORDS if name in sentence.text}
        assert named <= sentence.files, sentence.text
        commanded = set(re.findall(r"> /sys/kernel/mm/ksm/(\w+)", sentence.text))
        assert commanded <= set(sentence.writes), sentence.text
        assert commanded <= ALWAYS | sentence.files, sentence.text


# ---- programs that set a file, as read ----


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_running_tuner_is_found(tmp_path: Path, tuner: object) -> None:
    assert tuner in TUNERS
    (found,) = [each for each in TUNERS if each is tuner]
    assert found.comm is not None
    assert len(found.comm) <= 15
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys")
    proc.process(7, comm="bash")
    assert read_evidence.read_conditions(proc.path, sys.path).holders == ()
    proc.process(8, comm=found.comm)
    assert read_evidence.read_conditions(proc.path, sys.path).holders == (found,)


def test_the_advisor_is_found(tmp_path: Path) -> None:
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys")
    mode = sys.ksm / "advisor_mode"
    mode.write_text("[none] scan-time\n")
    assert read_evidence.read_conditions(proc.path, sys.path).holders == ()
    mode.write_text("none [scan-time]\n")
    assert read_evidence.read_conditions(proc.path, sys.path).holders == (ADVISOR,)


@pytest.mark.parametrize("place", ["usr/lib/systemd", "usr/lib/x86_64-linux-gnu/systemd"])
def test_systemd_is_told_by_its_library(tmp_path: Path, place: str) -> None:
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys")
    assert read_evidence.read_conditions(proc.path, sys.path).systemd is None
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "libsystemd-shared-257.9-1~deb13u1.so").touch()
    assert read_evidence.read_conditions(proc.path, sys.path).systemd == 257


@pytest.mark.parametrize(("text", "nodes"), [("0\n", 1), ("0-1\n", 2), ("0,2-4\n", 4)])
def test_nodes_are_counted(tmp_path: Path, text: str, nodes: int) -> None:
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys", pages_shared=1)
    assert read_evidence.read_host(proc.path, sys.path).nodes == 1
    (sys.path / "devices/system/node").mkdir(parents=True)
    (sys.path / "devices/system/node/has_memory").write_text(text)
    assert read_evidence.read_host(proc.path, sys.path).nodes == nodes


# ---- what the documents say ----


def pages() -> list[Path]:
    made = {DOCS / name for name in generate()}
    found = [*DOCS.glob("*.md"), *DOCS.glob("runbook/*.md"), _ROOT / "README.md"]
    found += _ROOT.glob("deploy/**/*.md")
    return sorted(path for path in found if path not in made and path.name != "overhead.md")


def paragraphs(path: Path) -> list[str]:
    text = re.sub(r"\n(?=\s*- )", "\n\n", path.read_text())
    return [" ".join(part.split()) for part in text.split("\n\n")]


TELLS = re.compile(
    r"echo [0-9a-z-]+`?( >|\)|,| meanwhile|\.)|(raise|lower|set) `(pages_to_scan|sleep_millisecs)"
    r"|`(advisor_mode|smart_scan|use_zero_pages)`"
)


def told(path: Path) -> list[str]:
    """Paragraphs of a page that tell to set KSM."""
    return [p for p in paragraphs(path) if TELLS.search(p) and "kprobes" not in p]


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_page_that_tells_to_set_ksm_says_who_else_may(path: Path) -> None:
    """By a link to the page that has all conditions."""
    ksm = told(path)
    if path.parent.name == "runbook" and ksm:
        assert "(../advice.md" in path.read_text(), ksm


def test_there_are_pages_for_the_two_tests_around_this() -> None:
    assert any(told(path) for path in pages() if path.parent.name == "runbook")
    assert any("MemoryKSM=yes" in path.read_text() for path in pages())


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_key_of_systemd_is_not_named_without_its_version(path: Path) -> None:
    for paragraph in paragraphs(path):
        if "MemoryKSM=yes" in paragraph:
            assert "254" in paragraph
            assert "6.4" in paragraph

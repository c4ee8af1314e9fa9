"""Flags over file over defaults, and a sentence for everything that is wrong."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.config import Config
from ksmwatch.errors import ConfigError
from ksmwatch.option_values import Address, parse_address
from ksmwatch.options import OPTIONS


def flags(*argv: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return vars(parser.parse_args(argv))


def test_defaults() -> None:
    assert config.make({}, {}) == Config(
        web_listen_address=(Address("", 10054),),
        web_telemetry_path="/metrics",
        web_config_file="",
        web_systemd_socket=False,
        web_user="nobody",
        web_max_requests=40,
        web_max_connections=256,
        textfile_directory="",
        textfile_interval=15.0,
        socket="/run/ksmwatch/ksmwatch.sock",
        socket_group="ksmwatch",
        backend="auto",
        probes="auto",
        accounts_max=65536,
        audit_cpu_percent=0.1,
        audit_heal=True,
        ages_one_in=16,
        owners_top=50,
        metrics_processes=False,
        peers_tenant=(),
        poll_interval=15.0,
        poll_cpu_percent=1.0,
        state_pin_path="/sys/fs/bpf/ksmwatch",
        state_programs_path="/var/lib/ksmwatch/programs",
        history_directory="auto",
        history_interval=10.0,
        history_hours=24.0,
        history_days=30.0,
        history_max_mb=100,
        log_level="info",
        log_format="logfmt",
    )


def test_flags_over_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text(
        'backend = "poll"\nprobes = "kprobe"\n'
        '[web]\nlisten-address = "localhost:1"\ntelemetry-path = "/ksm"\n'
        "[accounts]\nmax = 1000\n[poll]\ninterval = 2\n[log]\nlevel = 'debug'\n"
    )
    file = config.read_file(path)
    given = flags("--backend", "bpf", "--accounts.max", "2000", "--log.format=json")
    made = config.make(file, given, str(path))
    assert made.backend == "bpf"
    assert made.accounts_max == 2000
    assert made.log_format == "json"
    assert made.probes == "kprobe"
    assert made.web_listen_address == (Address("localhost", 1),)
    assert made.web_telemetry_path == "/ksm"
    assert made.poll_interval == 2.0
    assert made.log_level == "debug"
    assert made.audit_cpu_percent == 0.1


def test_addresses_are_repeatable_as_flags_and_a_list_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text('web.listen-address = [":1", "[::1]:2"]\n')
    file = config.read_file(path)
    assert config.make(file, flags()).web_listen_address == (Address("", 1), Address("::1", 2))
    given = flags("--web.listen-address", "a:3", "--web.listen-address", ":4")
    assert config.make(file, given).web_listen_address == (Address("a", 3), Address("", 4))


def test_no_address_switches_http_off(tmp_path: Path) -> None:
    path = tmp_path / "ksmwatch.toml"
    for text in ("web.listen-address = []\n", 'web.listen-address = ""\n'):
        path.write_text(text)
        assert config.make(config.read_file(path), flags()).web_listen_address == ()
    assert config.make({}, flags("--web.listen-address=")).web_listen_address == ()


def test_underscores_in_the_file_are_dashes(tmp_path: Path) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text("[audit]\ncpu_percent = 2\n")
    assert config.make(config.read_file(path), {}).audit_cpu_percent == 2.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":9", Address("", 9)),
        ("host:65535", Address("host", 65535)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::]:80", Address("::", 80)),
        ("[fe80::1]:80", Address("fe80::1", 80)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


BAD_ADDRESS = "must be HOST:PORT or :PORT"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--web.listen-address", "9100"], f"['9100'] {BAD_ADDRESS}"),
        (["--web.listen-address", "host:"], f"['host:'] {BAD_ADDRESS}"),
        (["--web.listen-address", "h:65536"], f"['h:65536'] {BAD_ADDRESS}"),
        (["--web.listen-address", "h:-1"], f"['h:-1'] {BAD_ADDRESS}"),
        (["--web.listen-address", "::1:9"], "['::1:9'] must have its IPv6 address in brackets"),
        (["--web.telemetry-path", "/"], "'/' must be a path below /"),
        (["--web.telemetry-path", "metrics"], "'metrics' must be a path below /"),
        (["--web.user", ""], "'' must be the name of a user"),
        (["--web.max-requests", "0"], "'0' must be between 1 and 1000"),
        (["--socket", "run/x.sock"], "'run/x.sock' must be an absolute path"),
        (["--backend", "ebpf"], "'ebpf' must be one of auto, bpf, poll"),
        (["--probes", "uprobe"], "'uprobe' must be one of auto, fentry, kprobe"),
        (["--accounts.max", "15"], "'15' must be between 16 and 4194304"),
        (["--accounts.max", "1e3"], "'1e3' is not a number"),
        (["--accounts.max", "many"], "'many' is not a number"),
        (["--audit.cpu-percent", "101"], "'101' must be between 0 and 100"),
        (["--audit.cpu-percent", "nan"], "'nan' must be between 0 and 100"),
        (["--ages.one-in", "24"], "'24' must be 0 or a power of two"),
        (["--ages.one-in", "131072"], "'131072' must be between 0 and 65536"),
        (["--owners.top", "-1"], "'-1' must be between 0 and 10000"),
        (["--metrics.processes", "yes"], "'yes' must be true or false"),
        (["--poll.interval", "0.5"], "'0.5' must be between 1 and 3600"),
        (["--poll.cpu-percent", "0"], "'0' must be between 0.01 and 100"),
        (["--log.level", "INFO"], "'INFO' must be one of debug, info, warning, error"),
        (["--log.format", "xml"], "'xml' must be one of logfmt, json"),
    ],
)
def test_wrong_flags(argv: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.make({}, flags(*argv))
    assert str(caught.value) == f"{argv[0]}: {sentence}."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("accounts.max = true", "accounts.max: True must be a number."),
        ("accounts.max = []", "accounts.max: [] is not a number."),
        ("accounts.max = inf", "accounts.max: inf is not a number."),
        ("metrics.processes = 1", "metrics.processes: 1 must be true or false."),
        ("metrics.processes = []", "metrics.processes: [] must be true or false."),
        ("socket = 1", "socket: 1 must be an absolute path."),
        (
            "web.listen-address = 9100",
            "web.listen-address: 9100 must be an address or a list of addresses.",
        ),
        (
            "web.listen-address = [1]",
            "web.listen-address: [1] must be an address or a list of addresses.",
        ),
        ("log.level = 1", "log.level: 1 must be one of debug, info, warning, error."),
    ],
)
def test_wrong_values_in_the_file(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text(line)
    with pytest.raises(ConfigError) as caught:
        config.make(config.read_file(path), {}, str(path))
    assert str(caught.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("text", "name"), [("colour = 1", "colour"), ("[web]\nport = 1", "web.port")]
)
def test_unknown_keys(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.read_file(path)
    assert str(caught.value) == f"{path}: there is no setting {name!r}."


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError) as caught:
        config.read_file(path)
    assert str(caught.value) == f"{path} cannot be read: No such file or directory."


@pytest.mark.parametrize("data", [b"backend = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML: .*\.$"):
        config.read_file(path)


@pytest.mark.parametrize(
    ("text", "argv", "on"),
    [
        ("", [], False),
        ("metrics.processes = true", [], True),
        ("metrics.processes = false", ["--metrics.processes=true"], True),
        ("metrics.processes = true", ["--metrics.processes", "false"], False),
    ],
)
def test_switches(tmp_path: Path, text: str, argv: list[str], *, on: bool) -> None:
    path = tmp_path / "k.toml"
    path.write_text(text)
    assert config.make(config.read_file(path), flags(*argv)).metrics_processes is on


def test_every_option_is_a_field_of_config_and_the_other_way_round() -> None:
    assert {option.field for option in OPTIONS} == set(Config._fields)


def test_a_running_daemon_takes_what_it_can_and_names_the_rest() -> None:
    now = config.make({}, {})
    wanted = config.make({}, {"owners_top": 3, "log_level": "debug", "probes": "kprobe"})
    taken, restart = config.reloaded(now, wanted)
    assert (taken.owners_top, taken.log_level, taken.probes) == (3, "debug", "auto")
    assert restart == ["probes"]
    assert config.reloaded(now, now) == (now, [])

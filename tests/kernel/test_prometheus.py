"""The real Prometheus scrapes the daemon over TLS with a password; its query returns the truth."""

from __future__ import annotations

import base64
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests import installed, oracle, provoke, textfile
from tests.certificates import Authority
from tests.debs import program
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.panels import queries
from tests.prometheus import complaints, interval, node_exporter, prometheus, query
from tests.waiting import wait_until
from tests.workload import Workload

# So many scrapes are enough for any rate.
_SCRAPES = 150

CONFIG = """\
global: {{scrape_interval: {interval}s}}
scrape_configs:
  - job_name: ksmwatch
    scheme: https
    tls_config: {{ca_file: {certificate}}}
    basic_auth: {{username: scraper, password: {password}}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""
# What it serves came from a timer: ksmwatch-textfile.
NODE_EXPORTER = """\
  - job_name: node
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""
PASSWORD = "right"
WEB_CONFIG = """\
tls_server_config: {{cert_file: server.crt, key_file: server.key}}
basic_auth_users: {{scraper: {hash}}}
"""


def wait_for_scrape(port: int, after: float) -> None:
    """Returns when the server has a scrape of a snapshot that was taken after a time."""

    def scraped_after() -> bool:
        result = query(port, "ksmwatch_snapshot_timestamp_seconds")
        return bool(result) and float(result[0]["value"][1]) > after

    wait_until(scraped_after, lambda: complaints(port), seconds=480)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("web"))
    made.issue("server", "IP:127.0.0.1")
    return made


@pytest.fixture(scope="module")
def daemon(authority: Authority) -> Iterator[Daemon]:
    path = authority.certificate.with_name("web.yml")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path.write_text(WEB_CONFIG.format(hash=hashed))
    # Each age that can be known is: panels show them.
    options = ("--metrics.processes=true", "--audit.cpu-percent=10", "--ages.one-in=1")
    files = (f"--web.config.file={path}", f"--history.directory={path.with_name('history')}")
    wheel = installed.program()
    with Daemon(*options, *files, program=str(wheel)) as daemon:
        # Through the wheel, as it is installed, and nothing of this checkout.
        command = Path(f"/proc/{daemon.process.pid}/cmdline").read_text().split("\0")
        assert (Path(command[0]).parent, command[1:4]) == (wheel.parent, ["-I", "-m", "ksmwatch"])
        yield daemon


def scraped(daemon: Daemon, authority: Authority) -> str:
    """The metrics, for a client that knows the password."""
    url = f"https://127.0.0.1:{daemon.port}/metrics"
    word = base64.b64encode(f"scraper:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {word}"})
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with urllib.request.urlopen(request, context=context) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def scrape_seconds(daemon: Daemon, authority: Authority) -> int:
    """The time between two scrapes, on a machine of this speed."""
    return interval(lambda: scraped(daemon, authority))


def configuration(daemon: Daemon, authority: Authority, scrape_seconds: int) -> str:
    """Of the Prometheus that scrapes the daemon."""
    return CONFIG.format(
        port=daemon.port,
        certificate=authority.certificate,
        password=PASSWORD,
        interval=scrape_seconds,
    )


def test_a_query_returns_what_the_page_tables_say(
    daemon: Daemon, authority: Authority, ksm: Ksm, tmp_path: Path, scrape_seconds: int
) -> None:
    config = configuration(daemon, authority, scrape_seconds)
    with Workload() as load, prometheus(config, tmp_path) as port:
        tenants = []
        for name, pages in (("tenant-a", 1009), ("tenant-b", 2003)):
            tenant = load.spawn(name)
            tenant.offer("heap", pages, seed=7, modulo=1)
            tenants.append(tenant)
        ksm.merge_all()
        tenants[0].write("heap", 0, 211)
        truth = oracle.host()
        wait_for_scrape(port, time.time())
        found = {
            int(row["metric"]["pid"]): int(row["value"][1])
            for row in query(port, "ksmwatch_process_mappings")
        }
        (total,) = query(port, "ksmwatch_mappings")
        (up,) = query(port, 'up{job="ksmwatch"}')
    assert truth == {tenants[0].pid: 798, tenants[1].pid: 2003}
    assert {pid: n for pid, n in found.items() if n} == truth
    assert int(total["value"][1]) == 2801
    assert up["value"][1] == "1"


@pytest.mark.once
def test_every_query_of_every_panel_has_an_answer(
    daemon: Daemon, authority: Authority, ksm: Ksm, tmp_path: Path, scrape_seconds: int
) -> None:
    config = configuration(daemon, authority, scrape_seconds)
    (collected := tmp_path / "collected").mkdir()
    script = textfile.installed(tmp_path, installed.program())
    with (
        Workload() as load,
        node_exporter(collected) as collector,
        prometheus(config + NODE_EXPORTER.format(port=collector), tmp_path) as port,
    ):
        # One panel is of mappings where nothing may merge.
        provoke.not_mergeable(load, ksm)
        writer = load.spawn("writer")
        writer.offer("heap", 9000, seed=7, modulo=1)
        ksm.merge_all(stop=False)
        (owner,) = (o["id"] for o in daemon.snapshot()["owners"] if o["name"] == "writer")
        file = collected / "ksmwatch-estimate.prom"
        subprocess.run([script, "estimate", file, "--interval=1"], check=True)
        missing = queries(
            {
                "$job": "ksmwatch",
                "$instance": f"127.0.0.1:{daemon.port}",
                "$top": "5",
                "$owner": owner,
                "$pid": str(writer.pid),
                "$__rate_interval": f"{60 * scrape_seconds}s",
                "$__range": f"{300 * scrape_seconds}s",
            }
        )
        assert len(missing) > 90
        for seed in range(_SCRAPES):
            # Rates want something to happen between two scrapes: pages are copied on write, and
            # have contents that merge anew, so that ages are known from birth to end.
            writer.fill("heap", 0, 50, seed=seed, modulo=25)
            ksm.merge_all(stop=False)
            missing = {where: text for where, text in missing.items() if not query(port, text)}
            if not missing:
                break
            time.sleep(scrape_seconds)
        assert missing == {}, complaints(port)


def test_promtool_has_nothing_to_complain_about(
    daemon: Daemon, authority: Authority, ksm: Ksm
) -> None:
    with Workload() as load:
        tenant = load.spawn('te"n\\ant')
        tenant.offer("heap", 101, seed=1, modulo=1)
        ksm.merge_all()
        text = scraped(daemon, authority)
    done = subprocess.run(
        [program("prometheus", "promtool"), "check", "metrics"],
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")

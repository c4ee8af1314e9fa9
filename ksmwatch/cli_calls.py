"""Calls each command with its settings.

A command imports what it needs when it is called: most modules take longer to load than
`ksmwatch snapshot` takes. A test lists what `snapshot` and `--help` load.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ksmwatch.errors import ConfigError, Exit, NoDaemonError, PrivilegeError

if TYPE_CHECKING:
    from ksmwatch.config import Config


def _settings(args: SimpleNamespace) -> Config:
    """Flags override the configuration file, and that overrides the defaults."""
    from ksmwatch import config

    if not args.config_file:
        return config.make({}, vars(args))
    from pathlib import Path

    path = args.config_file
    return config.make(config.read_file(Path(path)), vars(args), path)


def _print_json(document: object) -> None:
    import json

    json.dump(document, sys.stdout, indent=1)
    print()


def run(args: SimpleNamespace) -> Exit:
    settings = _settings(args)
    if args.config_check:
        from ksmwatch.export.fronts import web_files

        web_files(settings.web_config_file)
        print("The configuration is valid.")
        return Exit.OK
    from ksmwatch.deferred import defer, unload

    # Half a megabyte, in the place of which the daemon's modules are loaded.
    unload("argparse", "gettext", "locale", "ksmwatch.command_line")
    # For texts of other processes: we read none.
    defer("locale")
    from ksmwatch import log
    from ksmwatch.commands.run import Daemon
    from ksmwatch.kernel.syscalls import share_one_heap
    from ksmwatch.systemd import Manager

    share_one_heap()
    log.configure(settings.log_level, settings.log_format)
    return Daemon(settings, lambda: _settings(args), Manager()).run()


def check(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import check

    settings = _settings(args)
    return check.run(settings, as_json=args.json, load=not args.plan_only)


def build(args: SimpleNamespace) -> Exit:
    from pathlib import Path

    from ksmwatch.commands import build

    return build.run(_settings(args), Path(args.output))


def _document(args: SimpleNamespace) -> dict[str, Any]:
    """The daemon's snapshot document. As root, measure one if no daemon runs."""
    from ksmwatch.snapshot.socket_client import fetch

    settings = _settings(args)
    try:
        return fetch(settings.socket)
    except NoDaemonError as error:
        from pathlib import Path

        from ksmwatch.commands.oneshot import may_measure, measure

        if not may_measure(Path(settings.socket), error):
            raise
    return measure(settings)


def snapshot(args: SimpleNamespace) -> Exit:
    document = _document(args)
    if args.json:
        _print_json(document)
    else:
        from ksmwatch.commands import snapshot

        print(snapshot.text(document))
    return Exit.OK


def meminfo(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import meminfo

    document = _document(args)
    with open("/proc/meminfo") as file:  # noqa: PTH123 - pathlib takes time to load
        text = file.read()
    if document["mode"] == "none":
        # Dickins wanted KSM to be invisible to users without KSM.
        print(text, end="")
    else:
        mappings = document["host"]["mappings"]
        print(meminfo.with_ksm(text, mappings, document["page_size"]))
    return Exit.OK


def forecast(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import forecast

    document = _document(args)
    if args.json:
        _print_json(forecast.document_of(document))
    else:
        print(forecast.text(document))
    return Exit.OK


def top(args: SimpleNamespace) -> Exit:
    from ksmwatch.top import command

    return command.run(args, _settings(args))


def audit(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import audit

    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch audit needs root: it reads other users' page tables.")
    return audit.run(args.pid, _settings(args), as_json=args.json)


def why(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import why

    return why.run(args.pid, as_json=args.json)


def peers(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import peers
    from ksmwatch.option_values import flag_number
    from ksmwatch.top import source

    settings = _settings(args)
    pages = flag_number(args.max_pages, "--max-pages", int, 1, 1 << 40)
    seconds = flag_number(args.max_seconds, "--max-seconds", float, 0.1, 86400)
    wish = peers.PeersRequest(args.subject, settings.peers_tenant, pages, seconds)
    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch peers needs root: it reads the page frames of processes.")
    counts = source.choose(settings)
    try:
        return peers.run(counts.read, wish, as_json=args.json)
    finally:
        counts.close()


def estimate(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import estimate
    from ksmwatch.option_values import flag_number

    settings = _settings(args)
    if args.all and args.subject:
        raise ConfigError("--all cannot be combined with a process or an owner.")
    interval, seed = args.interval, args.seed
    wish = estimate.EstimateWish(
        tuple(args.subject),
        settings.peers_tenant,
        flag_number(args.precision, "--precision", float, 0, 100),
        flag_number(args.budget, "--budget", float, 0.1, 86400),
        None if interval is None else flag_number(interval, "--interval", float, 0, 86400),
        None if seed is None else flag_number(seed, "--seed", int, 0, 1 << 32),
    )
    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch estimate needs root: it reads the memory of processes.")
    return estimate.run(wish, as_json=args.json)


def history(args: SimpleNamespace) -> Exit:
    from ksmwatch.commands import history
    from ksmwatch.option_values import output_form

    form = output_form(json=args.json, csv=args.csv)
    settings = _settings(args)
    wish = history.wish_of(args.owner, args.since, args.until, args.step, form)
    return history.run(settings, wish)


def record(args: SimpleNamespace) -> Exit:
    from pathlib import Path

    from ksmwatch.commands.record import record

    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch record needs root: it reads other users' files.")
    count = record(Path(args.directory))
    print(f"Recorded {count} files in {args.directory}.")
    return Exit.OK

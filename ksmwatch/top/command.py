"""The flags of `ksmwatch top`, and the choice between its two forms."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from ksmwatch.commands.history import directory_of
from ksmwatch.config import Config
from ksmwatch.errors import ConfigError, Exit
from ksmwatch.history.times import time_of
from ksmwatch.option_values import flag_number, output_form
from ksmwatch.top import batch, columns, source
from ksmwatch.top.sample import make_sample
from ksmwatch.top.timeline import LaterSource, PastSource, Timeline
from ksmwatch.top.values import SORTABLE
from ksmwatch.top.view import Grouping, Options, Unit

# Debian 13 has 2.1, which lacks themes that the app uses.
_OLDEST_TEXTUAL = 8
_GC_OBJECTS = 500_000
_MIN_SECONDS, _MAX_SECONDS = 0.1, 3600.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of top to a parser."""
    add = parser.add_argument
    add("--url", metavar="URL", help="another host: http://HOST:10054/metrics")
    add("--at", metavar="TIME", help="show the past, as 03:10, -2h or 'yesterday 03:10'")
    add("-d", "--delay", default="2", metavar="SECONDS", help="time between samples (default 2)")
    groups = [*Grouping, "tree"]
    text = ", ".join(groups)
    add("-g", "--group", choices=groups, metavar="WORD", default="owner", help=text)
    add(
        "-s",
        "--sort",
        choices=SORTABLE,
        metavar="COLUMN",
        default="mapped",
        help="column to sort by (default mapped)",
    )
    add("-i", "--invert", action="store_true", help="reverse the order")
    add("-f", "--filter", default="", metavar="TEXT", help="show only names with this text")
    text = f"{', '.join(Unit)} (default MiB)"
    add("-u", "--unit", choices=list(Unit), metavar="WORD", default=Unit.MIB, help=text)
    add("-r", "--rates", action="store_true", help="show movements per second, not totals")
    add("-b", "--batch", action="store_true", help="print text until stopped")
    add("-n", "--iterations", metavar="N", help="print N samples, then exit")
    add("--once", action="store_true", help="same as -n 1")
    add("--json", action="store_true", help="print JSON, one line per sample")
    add("--csv", action="store_true", help="print CSV")


def _options(args: SimpleNamespace) -> Options:
    tree = args.group == "tree"
    grouping = Grouping.PROCESS if tree else Grouping(args.group)
    if args.sort not in {column.key for column in columns.sortable(grouping)}:
        raise ConfigError(f"--sort: --group {args.group} has no column {args.sort}.")
    return Options(
        grouping=grouping,
        tree=tree,
        sort=args.sort,
        inverted=args.invert,
        filter=args.filter,
        rates=args.rates,
        unit=Unit(args.unit),
    )


def _batch(args: SimpleNamespace, options: Options, seconds: float) -> batch.Batch | None:
    """None if the user wants the terminal application."""
    form = output_form(json=args.json, csv=args.csv)
    if not (args.batch or args.once or args.json or args.csv or args.iterations):
        return None
    if args.once:
        times: int | None = 1
    elif args.iterations:
        times = flag_number(args.iterations, "-n", int, 1, 10**9)
    else:
        # Without --batch, JSON or CSV is one document; with it, output goes on until stopped.
        times = None if args.batch else 1
    return batch.Batch(options, form, times, seconds)


def run(args: SimpleNamespace, settings: Config) -> Exit:
    """Print, or show the application until the user quits. Raises KsmwatchError."""
    seconds = flag_number(args.delay, "-d", float, _MIN_SECONDS, _MAX_SECONDS)
    options = _options(args)
    printing = _batch(args, options, seconds)
    if printing is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("This is not a terminal: use --once, --batch, --json or --csv.")
    timeline = _timeline(args, settings)
    if timeline is not None and timeline.past:
        if printing is None:
            later = LaterSource(lambda: source.choose(settings))
            return _show(later, options, seconds, timeline)
        return _print_past(timeline, printing)
    watched = source.choose(settings, args.url)
    if printing is None:
        return _show(watched, options, seconds, timeline)
    try:
        batch.run(watched, printing, sys.stdout)
    finally:
        watched.close()
    return Exit.OK


def _timeline(args: SimpleNamespace, settings: Config) -> Timeline | None:
    """The history of this host, at the wanted time. Raises KsmwatchError."""
    if args.url is not None:
        if args.at is not None:
            raise ConfigError("--at: the metrics of another host have no history.")
        return None
    timeline = Timeline(directory_of(settings))
    if args.at is not None:
        timeline.go_to(time_of(args.at, "--at", time.time()))
    return timeline


def _print_past(timeline: Timeline, printing: batch.Batch) -> Exit:
    past = PastSource(timeline)
    before = None if past.previous is None else make_sample(past.previous)
    try:
        batch.run(past, printing, sys.stdout, lambda _: None, before)
    finally:
        past.close()
    return Exit.OK


def _textual() -> int:
    """The major version of Textual; 0 if it is not installed."""
    try:
        return int(importlib.metadata.version("textual").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def _private_directory() -> Path:
    """Where the Debian package has the libraries of the terminal view: /usr/lib/ksmwatch/python."""
    # From /usr/lib/python3/dist-packages/ksmwatch/top: a virtual environment has no such directory.
    return Path(__file__).parents[4] / "ksmwatch/python"


def _find_textual() -> bool:
    """Whether there is a Textual that is new enough, if need be the package's own."""
    if _textual() < _OLDEST_TEXTUAL and (private := _private_directory()).is_dir():
        # Before everything else: Debian's rich may be there too, and is too old.
        sys.path.insert(0, str(private))
    return _textual() >= _OLDEST_TEXTUAL


def _show(
    watched: source.Source, options: Options, seconds: float, timeline: Timeline | None
) -> Exit:
    if not _find_textual():
        watched.close()
        raise ConfigError(
            f"The terminal view needs Textual {_OLDEST_TEXTUAL} or later, which Debian does not "
            "have. Run pip install 'ksmwatch[top]' (see docs/install.md), or use --batch."
        )
    # Imported only here: it takes half a second and 30 MB.
    from ksmwatch.top.app import App

    # A document has 100,000 objects and no cycle. Looking for one takes longer than reading it.
    gc.set_threshold(_GC_OBJECTS)
    # Textual 8 takes its size from these variables and not from the terminal, even after a resize:
    # findings/textual-size-frozen-by-columns.sh.
    for variable in ("COLUMNS", "LINES"):
        os.environ.pop(variable, None)
    app = App(watched, options, seconds, timeline)
    app.run()
    return Exit.INTERNAL if app.return_code else Exit.OK

"""``ksmwatch history``: what the daemon has recorded, and what changed most."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ksmwatch.commands import history_view
from ksmwatch.commands.history_view import HistoryView
from ksmwatch.commands.named_owner import OwnerName, named_owner
from ksmwatch.config import Config
from ksmwatch.errors import ConfigError, Exit, HistoryError
from ksmwatch.history.past import PastKey
from ksmwatch.history.reader import HistoryReader
from ksmwatch.history.retention import thinned
from ksmwatch.history.times import length_of, time_of, whole
from ksmwatch.option_values import AUTO, OutputForm
from ksmwatch.options import DEFAULT_HISTORY

# Moments that are enough to see what changed.
_ENOUGH = 2000


@dataclass(frozen=True)
class HistoryWish:
    """What the user asks for. `step`: seconds between two points; 0 for every moment."""

    owner: str | None
    since: float
    until: float
    now: float
    step: float
    form: OutputForm


def directory_of(settings: Config) -> Path:
    """Where commands look for the history."""
    wanted = settings.history_directory
    return Path(DEFAULT_HISTORY if wanted in (AUTO, "") else wanted)


def wish_of(
    owner: str | None, since: str, until: str, step: str | None, form: OutputForm
) -> HistoryWish:
    """From the flags. Raises ConfigError."""
    now = time.time()
    begin, end = time_of(since, "--since", now), time_of(until, "--until", now)
    if begin >= end:
        raise ConfigError(f"--since: {since!r} is not before --until ({until!r}).")
    try:
        seconds = 0.0 if step is None else length_of(step)
    except ValueError as error:
        raise ConfigError(f"--step: {step!r} is not a duration; write 30s, 10m or 1h.") from error
    return HistoryWish(owner, begin, end, now, seconds, form)


def run(settings: Config, wish: HistoryWish) -> Exit:
    """Print it. Raises KsmwatchError."""
    reader = HistoryReader(directory_of(settings))
    try:
        view = _view(reader, wish)
    finally:
        reader.close()
    if wish.form is OutputForm.JSON:
        json.dump(history_view.document(view), sys.stdout, indent=1)
        print()
    elif wish.form is OutputForm.CSV:
        history_view.write_csv(view, sys.stdout)
    else:
        print(history_view.text(view))
    return Exit.OK


def _view(reader: HistoryReader, wish: HistoryWish) -> HistoryView:
    owner = None if wish.owner is None else _named(reader, wish.owner)
    spans = reader.between(wish.since, wish.until)
    step = wish.step
    if wish.form is OutputForm.TEXT and not step and len(spans) > _ENOUGH:
        step = (wish.until - wish.since) / _ENOUGH
    past = reader.past(thinned(spans, step) if step else spans, owner)
    if not past.moments or (owner and not past.owners):
        raise HistoryError(_nothing(reader, wish))
    return HistoryView(past, wish.since, wish.until, wish.now, only_owner=owner is not None)


def _nothing(reader: HistoryReader, wish: HistoryWish) -> str:
    who = f" about {wish.owner}" if wish.owner else ""
    first, last = reader.at(0.0), reader.last
    known = "It is empty."
    if first is not None and last is not None:
        known = f"It goes from {whole(first.time)} to {whole(last.time)}."
    return f"The history has nothing{who} from {whole(wish.since)} to {whole(wish.until)}. {known}"


def _named(reader: HistoryReader, text: str) -> PastKey:
    """An owner by KIND:ID, id or name. Raises ConfigError."""
    owners = [OwnerName(each["kind"], each["id"], each["name"]) for each in reader.owners()]
    owners.sort(key=lambda owner: f"{owner.kind}:{owner.id}")
    found = named_owner(owners, text, f"The history has no owner {text!r}.")
    return found.kind, found.id

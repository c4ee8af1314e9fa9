"""Where a process has its KSM mappings: reads /proc/PID/smaps."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.kernel.areas import Area, AreaDocument, area_document, parse
from ksmwatch.kernel.page_tables import (
    PagemapReader,
    SmapsReader,
    choose_reader,
    smaps_has_ksm,
)


def read_areas(directory: Path, reader: SmapsReader | PagemapReader) -> list[Area]:
    """Areas of the process at /proc/PID with KSM mappings. Raises OSError."""
    if isinstance(reader, PagemapReader):
        with reader.open(directory) as opened:
            return list(parse(opened.smaps(), opened.area))
    return list(parse((directory / "smaps").read_bytes()))


def read_all_areas(pid: int, proc: Path = Path("/proc")) -> list[AreaDocument]:
    """Areas of a process with KSM mappings, the largest first. Raises SourceError."""
    reader = choose_reader(proc, smaps_ksm=smaps_has_ksm(proc))
    try:
        found = read_areas(proc / str(pid), reader)
    except (FileNotFoundError, ProcessLookupError):
        raise SourceError(f"There is no process {pid}.") from None
    except OSError as error:
        raise SourceError(f"Areas of {pid} cannot be read: {error.strerror}.") from error
    return [area_document(a) for a in sorted(found, key=lambda area: -area.mappings)]

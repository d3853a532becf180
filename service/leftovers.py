"""What a child kept on disk and nobody may have stored yet: its supervisor died, or had no database."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from service.jobs import EventKind
from service.records import ChildEvent

Line = Mapping[str, Any]

log = structlog.get_logger(__name__)


def events_of(lines: Sequence[Line]) -> list[ChildEvent]:
    """A child's lines as events to store."""
    return [
        ChildEvent(n=line["n"], kind=EventKind(line["event"]), data=line["data"], at=line["at"])
        for line in lines
    ]


def kept_after(attempt_folder: Path, n: int) -> list[ChildEvent]:
    """What the attempt's child kept after its event number `n`, without what a power cut has spoilt.

    Read from the end: of ten days of training, only the last moments are nobody's yet.
    """
    file = attempt_folder / "events.jsonl"
    if not file.exists() or file.stat().st_size == 0:
        return []
    lines: list[Line] = []
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content)
        while end > 0:
            begin = content.rfind(b"\n", 0, end - 1) + 1
            line, end = content[begin:end], begin
            try:
                told = json.loads(line)
            except ValueError:
                log.warning("events_file_damaged", file=str(file), at_byte=begin)
                continue
            if told["n"] <= n:
                break
            lines.append(told)
    return events_of(lines[::-1])

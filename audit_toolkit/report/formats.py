"""Every format of a record, by the name of the file it is written to: functions of one signature, record to bytes.

Promise: each is a pure function of the record. A new format is a new row of `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable

from audit_toolkit.evidence.record import Record


def render_json(record: Record) -> bytes:
    """The record itself, as its own bytes: this is the evidence, the other formats are views of it."""
    return record.to_bytes()


def _html(record: Record) -> bytes:
    from audit_toolkit.report.html import render_html

    return render_html(record)


def _text(record: Record) -> bytes:
    from audit_toolkit.report.terminal import render_text

    return render_text(record).encode()


FORMATS: dict[str, Callable[[Record], bytes]] = {
    "record.json": render_json,
    "report.html": _html,
    "summary.txt": _text,
}

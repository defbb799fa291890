"""What the recorder reports while it runs: one line of the error stream for each thing reported.

A line is one line even where it quotes the exchange, so that no text can forge a second one.
"""

from __future__ import annotations

import json
import logging
from typing import TextIO

from recorder.display import iso_time, plain
from recorder.timestamps import from_us

_MICROSECONDS = 1_000_000


class PlainLines(logging.Formatter):
    """``2026-01-31T12:00:00.000000Z INFO recorder.daemon: …``."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        # A bug's traceback stays readable: it is ours, not the exchange's.
        return plain(line) + (
            f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        )


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and exception where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        sentence = {
            "at": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            sentence["exception"] = self.formatException(record.exc_info)
        return json.dumps(sentence)


def log_to(stream: TextIO, *, as_json: bool, level: int = logging.INFO) -> None:
    """Send everything that is logged to ``stream``. Other packages are received from WARNING on."""
    lines = logging.StreamHandler(stream)
    lines.setFormatter(JsonLines() if as_json else PlainLines())
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    logging.getLogger("recorder").setLevel(level)


def _time(record: logging.LogRecord) -> str:
    return iso_time(from_us(int(record.created * _MICROSECONDS)))

"""``recorder simulator``: a simulated exchange on this machine, until Ctrl-C."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""

"""Draws `docs/demo.svg`, the picture in README.md: the screen of `recorder demo` after some seconds
of work.

usage: scripts/picture.py [SECONDS]      (with the environment that scripts/demo makes)
"""

import io
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from recorder.cli.demo_screen import read_view, screen
from recorder.database.engine import in_unit, open_database

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
WIDTH, HEIGHT = 132, 34


def main(seconds: int) -> None:
    """Run a demo in a temporary folder and write its screen as an SVG file."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/recorder-demo.db"
        command = [sys.executable, "-m", "recorder", "demo", "--database-url", url]
        with subprocess.Popen([*command, "--seconds", str(seconds + 2)], stdout=subprocess.DEVNULL):
            time.sleep(seconds)
            with open_database(url) as database:
                view = in_unit(database.reader, read_view, "demo")
            console = Console(
                record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True
            )
            console.print(screen(view, datetime.now(UTC), "recorder-demo.db"))
    svg = console.export_svg(title="recorder demo", theme=MONOKAI, unique_id="demo")
    # No font is fetched from elsewhere: the reader's own monospace font does.
    begin, end = svg.index("@font-face"), svg.index(".demo-matrix")
    PICTURE.write_text(svg[:begin] + svg[end:], encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
